"""Driver of UFACTORY's xArm 5, 6, 7 and Lite 6 through the xArm Python SDK, in its servo mode (mode 1).

**Not run on hardware**, and not against an emulated controller either: tested with a fake of the SDK.

In servo mode the controller executes each pose as it comes, without planning: the path has to be smooth, and here it is
(Ruckig). What is measured comes from the 100 Hz report; it carries no time of the controller's, so its time is that of
its arrival. Neither does it carry the tool centre point, for which the SDK then says none at all: that is read from the
slow report, over a connection of its own, when the arm is connected.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla import rotation
from vla.arm_channels import SPEED, TURN_SPEED
from vla.embodiment import Offset
from vla.embodiments.xarm import MAX_SPEED, RANGES, REACH_M, xarm
from vla.errors import BodyFault, DependencyMissing
from vla.mounting import offset_matrix
from vla.robot_driver.arm_link import Measured
from vla.robot_driver.gripper_thread import GripperThread
from vla.robot_driver.streamed_arm import StreamedArm
from vla.robot_driver.vendor_arm import arm_limits, check_settings, check_tool, make_arm
from vla.safety_limits import SafetyLimits

_SERVO, _READY, _STOP = 1, 0, 4  # mode, states
_STOPPED = (3, 4, 5)  # suspended by somebody, who may let it go on at any time; stopped
_OPEN = 850.0  # the xArm Gripper's own unit
_FIRST = 2.0  # [s] to wait for the first report


@dataclass(frozen=True)
class Config:
    """Where the arm is, and how it is driven.

    Attributes:
        host: address of the controller.
        model: xarm5, xarm6, xarm7 or lite6.
        joints: actions are joint positions instead of changes of the tool's pose.
        gripper: whether there is an xArm Gripper.
        rate: of the actions [Hz].
        servo_rate: of what is streamed to the controller [Hz], 50 to 250.
        tool: pose of the tool centre point in the flange's frame, position [m] and rotation vector [rad]; what the
            controller has if None.
        speed: largest of the tool along each axis [m/s].
        turn: largest of the tool around each axis [rad/s].
        joint_speed: largest of every joint, where joints are driven [rad/s].
        table: height of what the arm stands on or over, below which nothing is aimed [m].
        process: whether the connection and the servo get a process of their own, which outlives this one until the
            arm stands; a script that makes the arm is then guarded by ``if __name__ == "__main__"``.
        priority: real-time priority of the servo, 1 to 99, see :func:`~vla.robot_driver.pacing.prefer_this_thread`; 0
            for none.
        cameras: each ``NAME=DEVICE:WIDTHxHEIGHT@FPS`` and perhaps ``:ROLE``, e.g. ``front=0:640x480@30:primary``.
    """

    host: str = "192.168.1.200"
    model: str = "xarm7"
    joints: bool = False
    gripper: bool = False
    rate: float = 10.0
    servo_rate: float = 100.0
    tool: tuple[float, float, float, float, float, float] | None = None
    speed: float = SPEED
    turn: float = TURN_SPEED
    joint_speed: float = 1.0
    table: float = 0.0
    process: bool = True
    priority: int = 0
    cameras: tuple[str, ...] = ()

    def __post_init__(self):
        check_settings(self, "UFACTORY", RANGES, joint_speed=MAX_SPEED, servo_rate=(50, 250))
        check_tool(self.tool)

    def make(self) -> StreamedArm:
        """Connect, enable the motors and hold the arm where it is.

        Raises:
            DependencyMissing: the SDK is not installed.
            BodyFault: the arm cannot be reached, or is stopped.
        """
        connect = functools.partial(XArmLink, self)
        return make_arm(self, xarm, RANGES[self.model], connect, gripper=self.gripper)

    def limits(self) -> SafetyLimits:
        """What the arm may be told."""
        return arm_limits(self, REACH_M[self.model])


class XArmLink:
    """An :class:`~vla.robot_driver.arm_link.ArmLink` over the xArm Python SDK.

    Args:
        config: see there.

    Raises:
        DependencyMissing: the SDK is not installed.
        BodyFault: the arm cannot be reached, is stopped, or sends no reports.
    """

    def __init__(self, config: Config):
        try:
            from xarm.wrapper import XArmAPI
        except ImportError as error:
            raise DependencyMissing("driving an xArm needs its SDK: pip install 'vla-stack[xarm]'") from error
        self._config, self._where = config, f"the xArm at {config.host}"
        self._count = len(RANGES[config.model])
        self._report: tuple[float, list[float], list[float]] | None = None
        self._gripper: GripperThread | None = None
        self._hand: Any = None  # the gripper's own connection
        self._closed = False
        self._tool = (
            self._told_tool(XArmAPI) if config.tool is None else offset_matrix(Offset(config.tool[:3], config.tool[3:]))
        )
        self._arm: Any = self._opened(XArmAPI, "real")
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def tool(self) -> Float64[np.ndarray, "4 4"]:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        return self._tool

    def read(self) -> Measured:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`; all of one report."""
        self._alive()
        report = self._report
        if report is None:
            raise BodyFault(f"{self._where} has sent no report yet")
        stamp, place, joints = report
        opening = None if self._gripper is None else self._gripper.opening
        return Measured(stamp, np.array(joints[: self._count], np.float64), _pose(place), opening)

    def send_tool(self, pose: Float64[np.ndarray, "4 4"]) -> None:
        """``set_servo_cartesian_aa``, in the SDK's millimetres."""
        turn = rotation.from_matrix(pose[:3, :3], "axis_angle").tolist()
        place = [*(1000 * pose[:3, 3]).tolist(), *turn]
        self._say("set_servo_cartesian_aa", lambda: self._arm.set_servo_cartesian_aa(place, is_radian=True))

    def send_joints(self, positions: Float64[np.ndarray, "j"]) -> None:
        """``set_servo_angle_j``."""
        angles = positions.tolist()
        self._say("set_servo_angle_j", lambda: self._arm.set_servo_angle_j(angles, is_radian=True))

    def grip(self, opening: float) -> None:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        if self._gripper is not None:
            self._gripper.grip(opening)

    def halt(self) -> None:
        """The controller's stop."""
        if self._arm.connected:
            with contextlib.suppress(OSError):
                self._arm.set_state(_STOP)

    def close(self) -> None:
        """Halt and hang up."""
        if not self._closed:
            self._closed = True
            self.halt()
            if self._gripper is not None:
                self._gripper.close()
            if self._hand is not None:
                self._hand.disconnect()
            self._arm.disconnect()

    def _opened(self, api: Any, report: str) -> Any:
        try:
            return api(self._config.host, is_radian=True, report_type=report)
        except Exception as error:
            raise BodyFault(f"{self._where} cannot be reached: {error}") from error

    def _told_tool(self, api: Any) -> Float64[np.ndarray, "4 4"]:
        """What the controller has as its tool centre point; the first slow report brings it."""
        arm, heard = self._opened(api, "rich"), threading.Event()
        try:
            arm.register_report_location_callback(lambda _: heard.set())
            if not heard.wait(_FIRST):
                raise BodyFault(f"{self._where} sends no reports: its tool centre point is not known")
            return _pose(arm.tcp_offset)
        finally:
            arm.disconnect()

    def _begin(self) -> None:
        arm, config = self._arm, self._config
        self._alive(stopped=False)
        arm.register_report_location_callback(self._hear)
        if config.tool is not None:
            place = np.array(config.tool)
            turn = rotation.convert(place[3:], "axis_angle", "euler_xyz").tolist()
            offset = [*(1000 * place[:3]).tolist(), *turn]
            self._say("set_tcp_offset", lambda: arm.set_tcp_offset(offset, is_radian=True))
        self._say("motion_enable", lambda: arm.motion_enable(enable=True))
        self._say("set_mode", lambda: arm.set_mode(_SERVO))
        self._say("set_state", lambda: arm.set_state(_READY))
        if config.gripper:
            # the SDK lets one question wait for the last one's answer, and a gripper's goes on over the arm's own bus:
            # on a connection of its own the servo's poses wait for none of them
            hand = self._hand = self._opened(type(arm), "normal")
            self._say("set_gripper_enable", lambda: hand.set_gripper_enable(True))
            self._gripper = GripperThread("gripper", self._opening, self._move)
        end = time.monotonic() + _FIRST
        while self._report is None or arm.state in _STOPPED:
            self._alive(stopped=False)
            if time.monotonic() > end:
                said = "sends no reports" if self._report is None else f"stays in state {arm.state}"
                raise BodyFault(f"{self._where} {said}")
            time.sleep(0.01)

    def _hear(self, item: Mapping[str, Any]) -> None:
        self._report = time.monotonic(), list(item["cartesian"]), list(item["joints"])

    def _alive(self, *, stopped: bool = True) -> None:
        if self._closed or not self._arm.connected:
            raise BodyFault(f"{self._where} is gone: the connection ended")
        if self._arm.error_code:
            raise BodyFault(f"{self._where} has stopped with error {self._arm.error_code}; clear it in UFACTORY Studio")
        if stopped and self._arm.state in _STOPPED:
            raise BodyFault(f"{self._where} has stopped: its state is {self._arm.state}")

    def _say(self, what: str, send: Callable[[], int]) -> None:
        if self._closed:
            raise BodyFault(f"{self._where}: the connection was closed")
        code = send()
        if code:
            self._alive()
            raise BodyFault(f"{self._where}: {what} was answered with code {code}")

    def _opening(self) -> float:
        code, place = self._hand.get_gripper_position()
        if code or place is None:
            raise BodyFault(f"{self._where}: the gripper does not answer (code {code})")
        return float(place) / _OPEN

    def _move(self, opening: float) -> None:
        code = self._hand.set_gripper_position(opening * _OPEN, wait=False)
        if code:
            raise BodyFault(f"{self._where}: the gripper does not move (code {code})")


def _pose(place: Any) -> Float64[np.ndarray, "4 4"]:
    """From the SDK's x, y, z [mm], roll, pitch, yaw [rad]."""
    values = np.array(place, np.float64)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.to_matrix(values[3:6], "euler_xyz"), values[:3] / 1000
    return matrix
