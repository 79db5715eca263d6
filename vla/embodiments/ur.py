"""Universal Robots' e-Series, with or without a gripper, moved by its tool or by its joints.

Source: Universal Robots, "Technical specifications": joints +-360 degrees, the elbow +-180; 180 degrees/s.
"""

import math

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.safety import SafetyLimits

SPEED = 0.25
"""Largest speed along each axis [m/s]; what ISO 10218 allows with a person beside the arm."""
TURN_SPEED = 1.0
"""Largest speed around each axis [rad/s]."""

TURN = 2 * math.pi
RANGE = ((-TURN, TURN), (-TURN, TURN), (-math.pi, math.pi), (-TURN, TURN), (-TURN, TURN), (-TURN, TURN))
"""Of each joint [rad]."""
MAX_SPEED = math.pi
"""Of each joint [rad/s]."""

REACH_M = {"ur3e": 0.5, "ur5e": 0.85, "ur10e": 1.3, "ur16e": 0.9}
"""From the base's axis to the flange."""


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


def joint_action(rate: float, ranges: tuple[tuple[float, float], ...], *, gripper: bool) -> ActionSpec:
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


def arm_state(ranges: tuple[tuple[float, float], ...], *, gripper: bool) -> tuple[Channel, ...]:
    """Pose of the tool, joints, and the gripper's opening if it tells."""
    fingers = (Channel("opening", "1", "gripper", -0.05, 1.05),) if gripper else ()
    return (
        *(Channel(name, "m", "position") for name in ("x", "y", "z")),
        *(Channel(name, "rad", "rotation") for name in ("rx", "ry", "rz")),
        *(Channel(f"joint_{place}", "rad", "joint", low, high) for place, (low, high) in enumerate(ranges, start=1)),
        *fingers,
    )


def ur(
    model: str = "ur5e",
    *,
    joints: bool = False,
    gripper: bool = False,
    rate: float = 10.0,
    speed: float = SPEED,
    turn: float = TURN_SPEED,
    cameras: tuple[CameraSpec, ...] = (),
) -> EmbodimentSpec:
    """The embodiment.

    Args:
        model: a key of ``REACH_M``.
        joints: actions are joint positions instead of changes of the tool's pose.
        gripper: whether there is one that can be told and read.
        rate: of the actions [Hz].
        speed: of the tool, along each axis [m/s].
        turn: of the tool, around each axis [rad/s].
        cameras: beside the arm or on it.
    """
    action = (
        joint_action(rate, RANGE, gripper=gripper)
        if joints
        else tool_action(rate, speed=speed, turn=turn, gripper=gripper)
    )
    return EmbodimentSpec(
        name=f"{model}_joints" if joints else model,
        state=arm_state(RANGE, gripper=gripper),
        state_rotation="axis_angle",
        action=action,
        cameras=cameras,
    )


def limits(
    model: str = "ur5e", *, table: float = 0.0, rate: float = 10.0, speed: float = SPEED, turn: float = TURN_SPEED
) -> SafetyLimits:
    """For an arm that stands on its table: what it reaches, in front of it and beside it, above ``table`` [m].

    Steps are as large as all axes together make at their full speed: nothing that :func:`ur` accepts is shortened.
    """
    reach = REACH_M[model]
    return SafetyLimits(
        max_translation=math.sqrt(3) * speed / rate,
        max_rotation=math.sqrt(3) * turn / rate,
        low=(-reach, -reach, table),
        high=(reach, reach, reach + 0.2),
        max_age=1.0,
    )
