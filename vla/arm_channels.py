"""What arms with one tool have in common: pose, joints and gripper measured, steps of the pose or joints commanded."""

import math
from dataclasses import replace

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.safety_limits import SafetyLimits

Ranges = tuple[tuple[float, float], ...]
"""Of each joint [rad]."""

SPEED = 0.25
"""Of a tool along each axis [m/s]; see :class:`~vla.robot_driver.streamed_arm.ToolLimits`."""
TURN_SPEED = 1.0
"""Around each axis [rad/s]."""


def tool_action(rate: float, *, speed: float, turn: float, gripper: bool) -> ActionSpec:
    """Changes of the tool's pose, axes of the base: at most what these speeds make in a period [m/s, rad/s]."""
    step, angle = speed / rate, turn / rate
    fingers = (Channel("gripper", "1", "gripper", 0.0, 1.0),) if gripper else ()
    return ActionSpec(
        channels=(
            *(Channel(name, "m", "position", -step, step) for name in ("dx", "dy", "dz")),
            *(Channel(name, "rad", "rotation", -angle, angle) for name in ("drx", "dry", "drz")),
            *fingers,
        ),
        mode="delta",
        frame="base",
        rotation="axis_angle",
        gripper=Gripper() if gripper else None,
        rate=rate,
    )


def joint_action(rate: float, ranges: Ranges, *, gripper: bool) -> ActionSpec:
    """Positions of joints with these ranges [rad]."""
    fingers = (Channel("gripper", "1", "gripper", 0.0, 1.0),) if gripper else ()
    joints = (
        Channel(f"joint_{place}_goal", "rad", "joint", low, high) for place, (low, high) in enumerate(ranges, start=1)
    )
    return ActionSpec(
        channels=(*joints, *fingers),
        mode="absolute",
        frame="joint",
        rotation=None,
        gripper=Gripper() if gripper else None,
        rate=rate,
    )


def arm_state(ranges: Ranges, *, gripper: bool) -> tuple[Channel, ...]:
    """Pose of the tool, joints, and the gripper's opening if it tells."""
    fingers = (Channel("opening", "1", "gripper", -0.05, 1.05),) if gripper else ()
    return (
        *(Channel(name, "m", "position") for name in ("x", "y", "z")),
        *(Channel(name, "rad", "rotation") for name in ("rx", "ry", "rz")),
        *(Channel(f"joint_{place}", "rad", "joint", low, high) for place, (low, high) in enumerate(ranges, start=1)),
        *fingers,
    )


def arm(
    name: str,
    ranges: Ranges,
    *,
    joints: bool,
    gripper: bool,
    rate: float,
    speed: float = SPEED,
    turn: float = TURN_SPEED,
    cameras: tuple[CameraSpec, ...] = (),
) -> EmbodimentSpec:
    """An arm with one tool.

    Args:
        name: of the embodiment; ``_joints`` is added where joints are commanded.
        ranges: of its joints [rad].
        joints: actions are joint positions instead of changes of the tool's pose.
        gripper: whether there is one that can be told and read.
        rate: of the actions [Hz].
        speed: of the tool, along each axis [m/s].
        turn: of the tool, around each axis [rad/s].
        cameras: beside the arm or on it.
    """
    if joints:
        action = joint_action(rate, ranges, gripper=gripper)
    else:
        action = tool_action(rate, speed=speed, turn=turn, gripper=gripper)
    return EmbodimentSpec(
        name=f"{name}_joints" if joints else name,
        state=arm_state(ranges, gripper=gripper),
        state_rotation="axis_angle",
        action=action,
        cameras=cameras,
    )


WATCHED = SafetyLimits(max_age=1.0, heartbeat=0.5, clock_jump=0.2, frozen_pictures=5, black=8)
"""What is watched of any vendor's arm: answers, silence, clock and cameras."""


def tool_limits(
    reach: float, *, table: float, rate: float, speed: float = SPEED, turn: float = TURN_SPEED
) -> SafetyLimits:
    """For an arm that stands on its table: what it reaches, in front of it and beside it, above ``table`` [m].

    Steps are as large as all axes together make at their full speed: nothing that the embodiment accepts is shortened.
    """
    return replace(
        WATCHED,
        max_translation=math.sqrt(3) * speed / rate,
        max_rotation=math.sqrt(3) * turn / rate,
        low=(-reach, -reach, table),
        high=(reach, reach, reach + 0.2),
        stuck=10,
        repeated=20,
    )
