"""Driver of Universal Robots' e-Series arms through ur-rtde: ``servoL`` or ``servoJ``, streamed by our own servo.

**Not run on hardware.** It was run with the real ur-rtde client against :mod:`vla.robot_driver.ur_emulator`, which
speaks RTDE, the dashboard's and the script port's protocols and has no dynamics.

The controller holds the last line of defence: its own safety configuration, and a watchdog in ur-rtde's control script
that ends the program (and brakes) when this process is silent for ``watchdog``. The tool centre point is what the
controller has, unless ``tool`` sets it; it becomes part of the embodiment.
"""

import contextlib
import functools
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from vla.arm_channels import SPEED, TURN_SPEED
from vla.embodiments.ur import MAX_SPEED, RANGE, REACH_M, ur
from vla.errors import BodyFault, ConfigError, DependencyMissing
from vla.robot_driver.arm_link import Measured
from vla.robot_driver.gripper_thread import GripperThread
from vla.robot_driver.robotiq import Robotiq
from vla.robot_driver.streamed_arm import StreamedArm
from vla.robot_driver.ur_kinematics import pose_matrix, pose_vector
from vla.robot_driver.vendor_arm import Kinematics, arm_limits, check_kinematics, check_settings, check_tool, make_arm
from vla.safety_limits import SafetyLimits

_PORT = 30004
_REASON = 0.2  # [s]; why a program has ended comes over another connection, a little later
_PROTECTIVE, _SAFEGUARD, _EMERGENCY = 1 << 2, 1 << 4, (1 << 5) | (1 << 6) | (1 << 7)
_FAULT = (1 << 8) | (1 << 9) | (1 << 10)  # a violation, a fault, stopped for another reason of safety
_MEASURED = [
    "timestamp",
    "actual_q",
    "actual_TCP_pose",
    "robot_mode",
    "safety_mode",
    "runtime_state",
    "robot_status_bits",
    "safety_status_bits",
]


@dataclass(frozen=True)
class Config:
    """Where the arm is, and how it is driven.

    Attributes:
        host: address of the controller, or of an emulator.
        model: ur3e, ur5e, ur10e or ur16e.
        joints: actions are joint positions (servoJ) instead of changes of the tool's pose (servoL).
        gripper: ``robotiq`` for a Robotiq 2F on the wrist with its URCap.
        rate: of the actions [Hz].
        servo_rate: of what is streamed to the controller [Hz]; it interpolates to its own 500 Hz.
        tool: pose of the tool centre point in the flange's frame, position [m] and rotation vector [rad]; what the
            controller has if None.
        speed: largest of the tool along each axis [m/s].
        turn: largest of the tool around each axis [rad/s].
        joint_speed: largest of every joint, where joints are driven or solved for here [rad/s].
        table: height of what the arm stands on or over, below which nothing is aimed [m].
        lookahead: of the controller's servo [s], 0.03 to 0.2; more is smoother and later.
        gain: of the controller's servo, 100 to 2000.
        watchdog: a silence for so long ends the controller's program [s].
        kinematics: who finds the joints for a pose of the tool: the controller, or ``mink`` here, with a model of the
            arm (ur5e): joint ranges, singularities and the arm's own parts are kept clear of, see ``arm_kinematics``.
        process: whether the connection and the servo get a process of their own, which outlives this one until the
            arm stands; a script that makes the arm is then guarded by ``if __name__ == "__main__"``.
        priority: real-time priority of the servo, 1 to 99, see :func:`~vla.robot_driver.pacing.prefer_this_thread`; 0
            for none.
        cameras: each ``NAME=DEVICE:WIDTHxHEIGHT@FPS`` and perhaps ``:ROLE``, e.g. ``front=0:640x480@30:primary``.
    """

    host: str = "127.0.0.1"
    model: str = "ur5e"
    joints: bool = False
    gripper: Literal["none", "robotiq"] = "none"
    rate: float = 10.0
    servo_rate: float = 125.0
    tool: tuple[float, float, float, float, float, float] | None = None
    speed: float = SPEED
    turn: float = TURN_SPEED
    joint_speed: float = 1.0
    lookahead: float = 0.1
    gain: float = 300.0
    watchdog: float = 0.2
    table: float = 0.0
    kinematics: Kinematics = "controller"
    process: bool = True
    priority: int = 0
    cameras: tuple[str, ...] = ()

    def __post_init__(self):
        fastest = MAX_SPEED.get(self.model, 0.0)  # an unknown model is said first
        check_settings(self, "Universal Robots", REACH_M, joint_speed=fastest, servo_rate=(50, 500))
        check_tool(self.tool)
        check_kinematics(self, self.kinematics)
        if not 0.03 <= self.lookahead <= 0.2 or not 100 <= self.gain <= 2000:
            raise ConfigError(f"lookahead is 0.03 to 0.2 s, gain 100 to 2000; found {self.lookahead} and {self.gain}")
        if not 2 / self.servo_rate < self.watchdog <= 10:
            raise ConfigError(f"watchdog is two periods of the servo to 10 s, found {self.watchdog}")

    def make(self) -> StreamedArm:
        """Connect, start the controller's program and hold the arm where it is.

        Raises:
            DependencyMissing: ur-rtde is not installed.
            BodyFault: the arm cannot be reached, or is stopped.
        """
        connect = functools.partial(UrLink, self)
        return make_arm(self, ur, RANGE, connect, gripper=self.gripper != "none", kinematics=self.kinematics)

    def limits(self) -> SafetyLimits:
        """What the arm may be told."""
        return arm_limits(self, REACH_M[self.model])


class UrLink:
    """An :class:`~vla.robot_driver.arm_link.ArmLink` over ur-rtde.

    Args:
        config: see there.

    Raises:
        DependencyMissing: ur-rtde is not installed.
        BodyFault: the arm cannot be reached, is stopped, or its program does not start.
    """

    def __init__(self, config: Config):
        try:
            import rtde_control
            import rtde_receive
        except ImportError as error:
            raise DependencyMissing("driving a UR needs ur-rtde: pip install 'vla-stack[ur]'") from error
        self._config, self._where = config, f"the UR at {config.host}"
        self._period = 1 / config.servo_rate
        self._control: Any = None
        self._receive: Any = None
        self._robotiq: Robotiq | None = None
        self._gripper: GripperThread | None = None
        self._closed = False
        self._reachable()
        try:
            self._receive = self._made(lambda: rtde_receive.RTDEReceiveInterface(config.host, -1.0, _MEASURED))
            self._stopped()
            self._control = self._made(lambda: rtde_control.RTDEControlInterface(config.host))
            if config.tool is not None and not self._control.setTcp(list(config.tool)):
                raise BodyFault(f"{self._where} did not take the tool centre point {config.tool}")
            self._tool = pose_matrix(np.array(self._control.getTCPOffset(), np.float64))
            if config.gripper == "robotiq":
                self._robotiq = Robotiq(config.host)
                self._gripper = GripperThread("gripper", self._robotiq.read, self._robotiq.move)
            if not self._control.setWatchdog(1 / config.watchdog):
                raise BodyFault(f"{self._where} did not take the watchdog")
        except BaseException:
            self.close()
            raise

    @property
    def tool(self) -> Float64[np.ndarray, "4 4"]:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        return self._tool

    def read(self) -> Measured:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`; joints and pose may be one controller period apart."""
        receive = self._receive
        if self._closed or not receive.isConnected():
            raise BodyFault(f"{self._where} is gone: the connection ended")
        self._stopped()
        stamp = receive.getTimestamp()  # first: what is read afterwards is as new or newer
        tool = pose_matrix(np.array(receive.getActualTCPPose(), np.float64))
        joints = np.array(receive.getActualQ(), np.float64)
        return Measured(float(stamp), joints, tool, None if self._gripper is None else self._gripper.opening)

    def send_tool(self, pose: Float64[np.ndarray, "4 4"]) -> None:
        """``servoL``."""
        vector = pose_vector(pose).tolist()
        config = self._config
        self._say(lambda: self._control.servoL(vector, 0.0, 0.0, self._period, config.lookahead, config.gain))

    def send_joints(self, positions: Float64[np.ndarray, "6"]) -> None:
        """``servoJ``."""
        config = self._config
        goal = positions.tolist()
        self._say(lambda: self._control.servoJ(goal, 0.0, 0.0, self._period, config.lookahead, config.gain))

    def grip(self, opening: float) -> None:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        if self._gripper is not None:
            self._gripper.grip(opening)

    def halt(self) -> None:
        """``servoStop``; the controller brakes by itself where the connection is gone (its watchdog)."""
        if self._control is not None and self._control.isConnected():
            with contextlib.suppress(RuntimeError):  # it went away meanwhile
                self._control.servoStop(10.0)  # [rad/s2]; its own default

    def close(self) -> None:
        """Halt, end the program and hang up."""
        if self._closed:
            return
        self._closed = True
        self.halt()
        if self._gripper is not None:
            self._gripper.close()
        if self._robotiq is not None:
            self._robotiq.close()
        with contextlib.suppress(RuntimeError):  # it went away meanwhile
            if self._control is not None:
                if self._control.isConnected():
                    self._control.stopScript()
                self._control.disconnect()
        with contextlib.suppress(RuntimeError):
            if self._receive is not None:
                self._receive.disconnect()

    def _reachable(self) -> None:
        """The client waits without an end for a controller that accepts and says nothing; ask first."""
        try:
            socket.create_connection((self._config.host, _PORT), timeout=2.0).close()
        except OSError as error:
            raise BodyFault(f"{self._where} cannot be reached on port {_PORT}: {error}") from error

    def _made(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (RuntimeError, ValueError) as error:  # how its C++ exceptions arrive
            raise BodyFault(f"{self._where}: {error}") from error

    def _say(self, send: Callable[[], bool]) -> None:
        if self._closed:
            raise BodyFault(f"{self._where}: the connection was closed")
        if not self._made(send):
            end = time.monotonic() + _REASON
            while time.monotonic() < end and self._receive.isConnected():
                self._stopped()
                time.sleep(0.01)
            raise BodyFault(f"{self._where} did not take a servo command: its program has ended")

    def _stopped(self) -> None:
        bits = int(self._receive.getSafetyStatusBits())
        for mask, what in (
            (_EMERGENCY, "an emergency stop"),
            (_PROTECTIVE, "a protective stop"),
            (_SAFEGUARD, "a safeguard stop"),  # it may end by itself, and the arm would then go where it is told
            (_FAULT, "a safety stop"),
        ):
            if bits & mask:
                raise BodyFault(f"{self._where} is in {what}: release it on the pendant, then connect again")
