"""UFACTORY's xArm 5, 6 and 7 and Lite 6, with or without the xArm Gripper, moved by the tool or by the joints.

Source: UFACTORY, "xArm User Manual" and "Lite 6 User Manual"; the same numbers in radians stand in ``xarm_ros2``
(xarm_description/urdf/*/*.urdf.xacro): ranges of the joints; 180 degrees/s.
"""

import math
from typing import Any

from vla.arm_channels import Ranges, arm
from vla.embodiment import EmbodimentSpec


def _degrees(*ranges: tuple[float, float]) -> Ranges:
    return tuple((math.radians(low), math.radians(high)) for low, high in ranges)


RANGES: dict[str, Ranges] = {
    "xarm5": _degrees((-360, 360), (-118, 120), (-225, 11), (-97, 180), (-360, 360)),
    "xarm6": _degrees((-360, 360), (-118, 120), (-225, 11), (-360, 360), (-97, 180), (-360, 360)),
    "xarm7": _degrees((-360, 360), (-118, 120), (-360, 360), (-11, 225), (-360, 360), (-97, 180), (-360, 360)),
    "lite6": _degrees((-360, 360), (-150, 150), (-3.5, 300), (-360, 360), (-124, 124), (-360, 360)),
}
"""Of each joint, by model [rad]."""
MAX_SPEED = math.pi
"""Of each joint [rad/s]."""
REACH_M = {"xarm5": 0.7, "xarm6": 0.7, "xarm7": 0.7, "lite6": 0.44}
"""From the base's axis to the flange."""


def xarm(
    model: str = "xarm7", *, joints: bool = False, gripper: bool = False, rate: float = 10.0, **options: Any
) -> EmbodimentSpec:
    """The embodiment of a model, a key of ``RANGES``; see :func:`vla.arm_channels.arm` for the options."""
    return arm(model, RANGES[model], joints=joints, gripper=gripper, rate=rate, **options)
