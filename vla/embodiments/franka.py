"""Franka Robotics' FR3 and Panda with the Franka Hand, moved by the tool or by the joints.

Source: Franka Control Interface, "Robot and interface specifications". The FR3's position limits there are these where
a joint stands still.
"""

from typing import Any

from vla.arm_channels import Ranges, arm
from vla.embodiment import EmbodimentSpec
from vla.embodiments.panda_arm import JOINTS

RANGES: dict[str, Ranges] = {
    "fr3": (
        (-2.7437, 2.7437),
        (-1.7837, 1.7837),
        (-2.9007, 2.9007),
        (-3.0421, -0.1518),
        (-2.8065, 2.8065),
        (0.5445, 4.5169),
        (-3.0159, 3.0159),
    ),
    "panda": tuple(zip(JOINTS.low, JOINTS.high, strict=True)),
}
"""Of each joint, by model [rad]."""
MAX_SPEED = 2.175
"""Of the Panda's slowest joints [rad/s]."""
REACH_M = 0.855
"""From the base's axis to the flange."""


def franka(
    model: str = "fr3", *, joints: bool = False, gripper: bool = True, rate: float = 10.0, **options: Any
) -> EmbodimentSpec:
    """The embodiment of a model, a key of ``RANGES``; see :func:`vla.arm_channels.arm` for the options."""
    return arm(f"franka_{model}", RANGES[model], joints=joints, gripper=gripper, rate=rate, **options)
