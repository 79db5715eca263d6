"""What the drivers of vendors' arms have in common: their settings, and how one is opened, all or nothing."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float64

from vla.arm_channels import WATCHED, Ranges, tool_limits
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, UnknownName
from vla.mounting import offset_of
from vla.robot_driver.arm_camera import CameraConfig, open_cameras, parse_cameras
from vla.robot_driver.arm_kinematics import arm_kinematics, check_model
from vla.robot_driver.arm_link import ArmLink
from vla.robot_driver.driven_arm import ArmHere, ArmInProcess
from vla.robot_driver.inverse_kinematics import InverseKinematics
from vla.robot_driver.linked_arm import linked
from vla.robot_driver.motion import MotionLimits
from vla.robot_driver.streamed_arm import StreamedArm, ToolLimits
from vla.safety_limits import SafetyLimits

Kinematics = Literal["controller", "mink"]
"""Who finds the joints for a pose of the tool."""

type Solver = Callable[[Float64[np.ndarray, "4 4"] | None], InverseKinematics]
"""Inverse kinematics of an arm with a tool, given as its pose in the flange's frame."""


class ArmSettings(Protocol):
    """Fields that the ``Config`` of every vendor's driver has; see there."""

    @property
    def model(self) -> str:
        """Which of the vendor's arms."""
        ...

    @property
    def joints(self) -> bool:
        """Whether joints are driven, or the tool."""
        ...

    @property
    def rate(self) -> float:
        """Of the actions [Hz]."""
        ...

    @property
    def servo_rate(self) -> float:
        """Of what is streamed to the controller [Hz]."""
        ...

    @property
    def speed(self) -> float:
        """Largest of the tool along each axis [m/s]."""
        ...

    @property
    def turn(self) -> float:
        """Largest of the tool around each axis [rad/s]."""
        ...

    @property
    def joint_speed(self) -> float:
        """Largest of every joint [rad/s]."""
        ...

    @property
    def table(self) -> float:
        """Height below which nothing is aimed [m]."""
        ...

    @property
    def process(self) -> bool:
        """Whether link and servo are in a process of their own."""
        ...

    @property
    def priority(self) -> int:
        """Real-time priority of the servo, 0 for none."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Each ``NAME=DEVICE:WIDTHxHEIGHT@FPS``, perhaps with ``:ROLE``."""
        ...


type Embodiment = Callable[..., EmbodimentSpec]
"""A function of ``vla/embodiments/``: a model, then the options of :func:`vla.arm_channels.arm`."""


def check_settings(
    config: ArmSettings, vendor: str, models: Iterable[str], *, joint_speed: float, servo_rate: tuple[float, float]
) -> None:
    """See that settings are within what the arm can do: its joints' speed [rad/s], its servo's rates [Hz].

    Raises:
        UnknownName: there is no such model.
        ConfigError: a setting is out of its range.
    """
    if config.model not in models:
        raise UnknownName(f"model of {vendor}", config.model, models)
    ToolLimits(config.speed, config.turn)
    if not servo_rate[0] <= config.servo_rate <= servo_rate[1]:
        raise ConfigError(f"servo_rate is {servo_rate[0]:g} to {servo_rate[1]:g} Hz, found {config.servo_rate}")
    if not 0 <= config.priority <= 99:
        raise ConfigError(f"priority is 1 to 99, or 0 for none, found {config.priority}")
    if not 0 < config.joint_speed <= joint_speed:
        raise ConfigError(f"joint_speed is above 0 and at most {joint_speed:.3f} rad/s, found {config.joint_speed}")


def check_kinematics(config: ArmSettings, kinematics: Kinematics) -> None:
    """See that kinematics of our own, if they are asked for, are known for the arm and what it is commanded.

    Raises:
        ConfigError: they are not.
    """
    if kinematics == "mink":
        check_model(config.model)
        if config.joints:
            raise ConfigError("kinematics=mink is for changes of the tool's pose, joints=true commands the joints")


def make_arm(
    config: ArmSettings,
    embodiment: Embodiment,
    ranges: Ranges,
    connect: Callable[[], ArmLink],
    *,
    gripper: bool,
    kinematics: Kinematics = "controller",
) -> StreamedArm:
    """The arm of a vendor's ``Config``, connected and held where it is.

    Args:
        config: see there.
        embodiment: of the arm.
        ranges: of its joints [rad].
        connect: to its controller; can be pickled if it is to have a process of its own.
        gripper: whether there is one.
        kinematics: that find the joints for a pose.

    Raises:
        BodyFault: a camera or the arm cannot be reached, or is stopped.
        DependencyMissing: the vendor's library is not installed.
    """
    cameras = parse_cameras(config.cameras)
    spec = embodiment(
        config.model,
        joints=config.joints,
        gripper=gripper,
        rate=config.rate,
        speed=config.speed,
        turn=config.turn,
        cameras=tuple(camera.spec for camera in cameras),
    )
    tool = ToolLimits(config.speed, config.turn).motion
    mink = kinematics == "mink"
    motion = joint_motion(ranges, config.joint_speed) if config.joints or mink else tool
    solver: Solver | None = None
    if mink:
        speed, rate = config.joint_speed, config.rate
        solver = functools.partial(arm_kinematics, config.model, ranges=ranges, speed=speed, rate=rate)
    return open_arm(
        connect,
        spec,
        motion,
        rate=config.servo_rate,
        cameras=cameras,
        process=config.process,
        solver=solver,
        priority=config.priority,
    )


def arm_limits(config: ArmSettings, reach: float) -> SafetyLimits:
    """What an arm that reaches so far [m] may be told. Joints have no box but their ranges."""
    if config.joints:  # a joint's goal may well be said again: neither stuck nor repeated
        return WATCHED
    return tool_limits(reach, table=config.table, rate=config.rate, speed=config.speed, turn=config.turn)


def joint_motion(ranges: Sequence[tuple[float, float]], speed: float) -> MotionLimits:
    """For joints with these ranges [rad], none faster than ``speed`` [rad/s], which is reached in a quarter second."""
    low, high = zip(*ranges, strict=True)
    count = len(ranges)
    return MotionLimits(low, high, (speed,) * count, (4 * speed,) * count, (40 * speed,) * count)


def open_arm(
    connect: Callable[[], ArmLink],
    spec: EmbodimentSpec,
    motion: MotionLimits,
    *,
    rate: float,
    cameras: tuple[CameraConfig, ...],
    process: bool = True,
    solver: Solver | None = None,
    max_deviation: float = 0.2,
    priority: int = 0,
) -> StreamedArm:
    """Open the cameras, connect, complete the embodiment with the controller's tool; all or nothing.

    Args:
        connect: to the controller; can be pickled if ``process``.
        spec: without the tool.
        motion: limits of the servo, of the tool's six numbers, or of each joint if those are commanded or solved for.
        rate: of the servo [Hz].
        cameras: of the spec.
        process: whether link and servo get a process of their own.
        solver: makes the inverse kinematics; the controller's own if None.
        max_deviation: of what is measured from what was sent [m or rad]; beyond it the arm brakes.
        priority: of the servo, see :class:`~vla.robot_driver.servo_loop.Servo`.

    Raises:
        BodyFault: a camera or the arm cannot be reached, or is stopped.
        DependencyMissing: the vendor's library is not installed.
    """
    with contextlib.ExitStack() as stack:
        opened = open_cameras(cameras)
        for camera in opened.values():
            stack.callback(camera.close)
        joints = spec.action.frame == "joint" or solver is not None
        link = functools.partial(linked, connect, joints=joints)
        settings = {"rate": rate, "max_deviation": max_deviation, "priority": priority}
        arm = (ArmInProcess if process else ArmHere)(link, motion, **settings)
        stack.callback(arm.close)
        tool = arm.tool
        spec = spec if tool is None else dataclasses.replace(spec, tool=offset_of(tool))
        body = StreamedArm(arm, spec, cameras=opened, kinematics=solver(tool) if solver else None)
        stack.pop_all()  # it is all the body's now
    return body


def check_tool(tool: Sequence[float] | None) -> None:
    """See that a tool centre point is a position [m] and a rotation vector [rad].

    Raises:
        ConfigError: it is not.
    """
    if tool is not None and not (len(tool) == 6 and np.isfinite(tool).all()):
        raise ConfigError(f"tool is x, y, z [m] and a rotation vector [rad], six finite numbers, found {tool}")
