"""Universal Robots' e-Series, with or without a gripper, moved by its tool or by its joints.

Source: the e-Series' user manuals (version 5.8) as ``Universal_Robots_ROS2_Description`` has them
(config/*/joint_limits.yaml): joints +-360 degrees; 180 degrees/s, base and shoulder of the larger ones 120, the UR3e's
wrist 360. The elbow's +-180 is half of what the manual says: the arm cannot be built through itself, and a goal on the
other side would be a way around.
"""

import math
from typing import Any

from vla.arm_channels import arm
from vla.embodiment import EmbodimentSpec

TURN = 2 * math.pi
RANGE = ((-TURN, TURN), (-TURN, TURN), (-math.pi, math.pi), (-TURN, TURN), (-TURN, TURN), (-TURN, TURN))
"""Of each joint [rad]."""
MAX_SPEED = {"ur3e": math.pi, "ur5e": math.pi, "ur10e": math.radians(120), "ur16e": math.radians(120)}
"""Of the slowest joints, by model [rad/s]."""

REACH_M = {"ur3e": 0.5, "ur5e": 0.85, "ur10e": 1.3, "ur16e": 0.9}
"""From the base's axis to the flange."""


def ur(
    model: str = "ur5e", *, joints: bool = False, gripper: bool = False, rate: float = 10.0, **options: Any
) -> EmbodimentSpec:
    """The embodiment of a model, a key of ``REACH_M``; see :func:`vla.arm_channels.arm` for the options."""
    return arm(model, RANGE, joints=joints, gripper=gripper, rate=rate, **options)
