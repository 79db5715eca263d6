"""Driver of Franka Robotics' FR3 and Panda through franky, which keeps libfranka's 1 kHz loop in C++.

**Not run on hardware**, and not against an emulated controller either: tested with a fake of franky.

Three bindings of libfranka are kept up. pylibfranka (Franka's own) leaves the 1 kHz loop to Python, panda-python has
fixed controllers; franky-control (MIT, T. Schneider and others) has trackers that follow references given at any rate,
with limits of joints and torque rates and a stop of their own in C++. So a Python process that stalls costs smoothness
and no communication error; when it is gone, so are the controller's packets, and the arm stops by itself.

The tool centre point is the end effector frame that Desk has configured (``F_T_EE``), part of the embodiment.
"""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.arm_channels import SPEED, TURN_SPEED
from vla.embodiments.franka import MAX_SPEED, RANGES, REACH_M, franka
from vla.errors import BodyFault, ConfigError, DependencyMissing
from vla.robot_driver.arm_link import Measured
from vla.robot_driver.gripper_thread import GripperThread
from vla.robot_driver.streamed_arm import StreamedArm
from vla.robot_driver.vendor_arm import Kinematics, arm_limits, check_kinematics, check_settings, make_arm
from vla.safety_limits import SafetyLimits

_GRIP_SPEED = 0.1  # [m/s]


@dataclass(frozen=True)
class Config:
    """Where the arm is, and how it is driven.

    Attributes:
        host: address of the controller's FCI.
        model: fr3 or panda.
        joints: actions are joint positions instead of changes of the tool's pose.
        gripper: whether there is a Franka Hand, homed.
        grip_force: with which it closes [N].
        rate: of the actions [Hz].
        servo_rate: of the references that are streamed to the 1 kHz loop [Hz].
        speed: largest of the tool along each axis [m/s].
        turn: largest of the tool around each axis [rad/s].
        joint_speed: largest of every joint, where joints are driven or solved for here [rad/s].
        stiffness: of the tool's impedance [N/m]; a tenth of it is the rotation's [Nm/rad].
        joint_stiffness: of the joints' impedance [Nm/rad].
        real_time: insist on a real-time kernel, as Franka advises.
        table: height of what the arm stands on or over, below which nothing is aimed [m].
        kinematics: who finds the joints for a pose of the tool: the controller, or ``mink`` here, with a model of the
            arm: joint ranges, singularities and the arm's own parts are kept clear of, see ``arm_kinematics``.
        process: whether the connection and the servo get a process of their own, which outlives this one until the
            arm stands; a script that makes the arm is then guarded by ``if __name__ == "__main__"``.
        priority: real-time priority of the servo, 1 to 99, see :func:`~vla.robot_driver.pacing.prefer_this_thread`; 0
            for none.
        cameras: each ``NAME=DEVICE:WIDTHxHEIGHT@FPS`` and perhaps ``:ROLE``, e.g. ``front=0:640x480@30:primary``.
    """

    host: str = "172.16.0.2"
    model: str = "fr3"
    joints: bool = False
    gripper: bool = True
    grip_force: float = 20.0
    rate: float = 10.0
    servo_rate: float = 200.0
    speed: float = SPEED
    turn: float = TURN_SPEED
    joint_speed: float = 1.0
    stiffness: float = 600.0
    joint_stiffness: tuple[float, ...] = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)
    real_time: bool = True
    table: float = 0.0
    kinematics: Kinematics = "controller"
    process: bool = True
    priority: int = 0
    cameras: tuple[str, ...] = ()

    def __post_init__(self):
        check_settings(self, "Franka", RANGES, joint_speed=MAX_SPEED, servo_rate=(50, 1000))
        check_kinematics(self, self.kinematics)
        if not 0 < self.stiffness <= 3000 or not 0 < self.grip_force <= 70:
            raise ConfigError(
                f"stiffness is at most 3000 N/m and grip_force 70 N, both above 0, found {self.stiffness} and "
                f"{self.grip_force}"
            )
        if len(self.joint_stiffness) != 7 or not min(self.joint_stiffness) > 0:
            raise ConfigError(f"joint_stiffness is seven numbers above 0, found {self.joint_stiffness}")

    def make(self) -> StreamedArm:
        """Connect and hold the arm where it is.

        Raises:
            DependencyMissing: franky is not installed.
            BodyFault: the arm cannot be reached, is not ready, or its gripper is not homed.
        """
        connect, ranges = functools.partial(FrankaLink, self), RANGES[self.model]
        return make_arm(self, franka, ranges, connect, gripper=self.gripper, kinematics=self.kinematics)

    def limits(self) -> SafetyLimits:
        """What the arm may be told."""
        return arm_limits(self, REACH_M)


class FrankaLink:
    """An :class:`~vla.robot_driver.arm_link.ArmLink` over franky.

    Args:
        config: see there.

    Raises:
        DependencyMissing: franky is not installed.
        BodyFault: the arm cannot be reached or is not ready, or its gripper is not homed.
    """

    def __init__(self, config: Config):
        try:
            import franky
        except ImportError as error:
            raise DependencyMissing("driving a Franka needs franky: pip install 'vla-stack[franka]'") from error
        self._franky: Any = franky
        self._config, self._where = config, f"the Franka at {config.host}"
        self._tracker: Any = None
        self._gripper: GripperThread | None = None
        self._closed = False
        kernel = franky.RealtimeConfig.Enforce if config.real_time else franky.RealtimeConfig.Ignore
        self._robot: Any = self._asked(lambda: franky.Robot(config.host, realtime_config=kernel))
        self._ready(self._asked(lambda: self._robot.state))
        if config.gripper:
            self._hand: Any = self._asked(lambda: franky.Gripper(config.host))
            if not self._asked(lambda: self._hand.max_width) > 0.01:
                raise BodyFault(f"{self._where}: the gripper does not know how far it opens; home it in Desk")
            self._gripper = GripperThread("gripper", self._width, self._grip)

    @property
    def tool(self) -> Float64[np.ndarray, "4 4"]:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        return np.array(self._asked(lambda: self._robot.state.F_T_EE.matrix), np.float64)

    def read(self) -> Measured:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`; all of one controller tick."""
        if self._closed:
            raise BodyFault(f"{self._where}: the connection was closed")
        state = self._asked(lambda: self._robot.state)
        self._ready(state)
        opening = None if self._gripper is None else self._gripper.opening
        pose, joints = np.array(state.O_T_EE.matrix, np.float64), np.array(state.q, np.float64)
        return Measured(float(state.time.to_sec()), joints, pose, opening)

    def send_tool(self, pose: Float64[np.ndarray, "4 4"]) -> None:
        """A new reference for the tool's impedance."""
        if self._tracker is None:
            stiffness = self._config.stiffness
            self._tracker = self._asked(
                lambda: self._franky.CartesianImpedanceTracker(
                    self._robot, translational_stiffness=stiffness, rotational_stiffness=stiffness / 10
                )
            )
        self._say(lambda: self._tracker.set_target(self._franky.Affine(pose)))

    def send_joints(self, positions: Float64[np.ndarray, "7"]) -> None:
        """A new reference for the joints' impedance."""
        if self._tracker is None:
            stiffness = np.array(self._config.joint_stiffness)
            self._tracker = self._asked(lambda: self._franky.JointImpedanceTracker(self._robot, stiffness=stiffness))
        self._say(lambda: self._tracker.set_target(positions))

    def grip(self, opening: float) -> None:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        if self._gripper is not None:
            self._gripper.grip(opening)

    def halt(self) -> None:
        """The tracker's own stop: torques ramp into damping."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            with contextlib.suppress(self._franky.Exception, RuntimeError):  # it has stopped by itself
                tracker.stop()

    def close(self) -> None:
        """Halt and let go."""
        if not self._closed:
            self._closed = True
            self.halt()
            if self._gripper is not None:
                self._gripper.close()

    def _say(self, send: Callable[[], Any]) -> None:
        if self._closed:
            raise BodyFault(f"{self._where}: the connection was closed")
        if not self._tracker.is_running:
            self._ready(self._asked(lambda: self._robot.state))
            raise BodyFault(f"{self._where} no longer follows: its controller has ended")
        self._asked(send)

    def _asked[T](self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (self._franky.Exception, RuntimeError) as error:
            raise BodyFault(f"{self._where}: {error}") from error

    def _ready(self, state: Any) -> None:
        errors = state.current_errors
        named = [name for name in dir(errors) if not name.startswith("_") and getattr(errors, name) is True]
        if named:
            raise BodyFault(f"{self._where} has stopped: {', '.join(named)}; recover it in Desk")
        modes = self._franky.RobotMode
        if state.robot_mode in (modes.UserStopped, modes.Reflex, modes.Guiding):
            raise BodyFault(f"{self._where} cannot move: its mode is {state.robot_mode.name}")

    def _width(self) -> float:
        state = self._asked(lambda: self._hand.state)
        return float(state.width / state.max_width)

    def _grip(self, opening: float) -> None:
        """Almost closed means: hold what is in between, with the force that was asked for."""
        most = self._asked(lambda: self._hand.max_width)
        if opening < 0.1:
            self._asked(lambda: self._hand.grasp_async(0.0, _GRIP_SPEED, self._config.grip_force, most, most))
        else:
            self._asked(lambda: self._hand.move_async(opening * most, _GRIP_SPEED))
