"""What the drivers of vendors' arms have in common: their settings, and how one is opened, all or nothing."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from vla.arm_channels import WATCHED, Ranges, tool_limits
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, UnknownName
from vla.mounting import offset_of
from vla.robot_driver.arm_camera import CameraConfig, open_cameras, parse_cameras
from vla.robot_driver.arm_link import ArmLink
from vla.robot_driver.motion import MotionLimits
from vla.robot_driver.streamed_arm import StreamedArm, ToolLimits
from vla.safety_limits import SafetyLimits


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
    if not 0 < config.joint_speed <= joint_speed:
        raise ConfigError(f"joint_speed is above 0 and at most {joint_speed:.3f} rad/s, found {config.joint_speed}")


def make_arm(
    config: ArmSettings, embodiment: Embodiment, ranges: Ranges, connect: Callable[[], ArmLink], *, gripper: bool
) -> StreamedArm:
    """The arm of a vendor's ``Config``, connected and held where it is.

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
    motion = joint_motion(ranges, config.joint_speed) if config.joints else tool
    return open_arm(connect, spec, motion, rate=config.servo_rate, cameras=cameras)


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
) -> StreamedArm:
    """Open the cameras, connect, complete the embodiment with the controller's tool; all or nothing.

    Raises:
        BodyFault: a camera or the arm cannot be reached, or is stopped.
        DependencyMissing: the vendor's library is not installed.
    """
    with contextlib.ExitStack() as stack:
        opened = open_cameras(cameras)
        for camera in opened.values():
            stack.callback(camera.close)
        link = connect()
        stack.callback(link.close)
        tool = link.tool
        spec = spec if tool is None else dataclasses.replace(spec, tool=offset_of(tool))
        arm = StreamedArm(link, spec, motion, rate=rate, cameras=opened)
        stack.pop_all()  # it is all the arm's now
    return arm


def check_tool(tool: Sequence[float] | None) -> None:
    """See that a tool centre point is a position [m] and a rotation vector [rad].

    Raises:
        ConfigError: it is not.
    """
    if tool is not None and not (len(tool) == 6 and np.isfinite(tool).all()):
        raise ConfigError(f"tool is x, y, z [m] and a rotation vector [rad], six finite numbers, found {tool}")
