"""Franka Robotics' FR3 and Panda with the Franka Hand, moved by the tool or by the joints.

Sources: Franka Control Interface, "Robot and interface specifications", Limits for Panda and for Franka Research 3; the
same numbers stand in ``franka_description`` (robots/fr3/joint_limits.yaml) and ``libfranka`` (rate_limiting.h).

An FR3 allows a joint less speed the nearer it is to its end, and stops where that is exceeded: at a distance ``d`` it
is ``sqrt(2 * deceleration * d) - offset`` (``ENDS``). The position limits in ``RANGES`` are those where none is left.
"""

import dataclasses
from typing import Any

from vla.arm_channels import Ranges, arm, joint_action
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
"""Of the Panda's slowest joints; the FR3's may do 2.62 [rad/s]."""
JOINT_SPEED = 1.0
"""At which an FR3's joints are brought to the ends of what may be aimed at [rad/s]; what the driver does unless told
otherwise. It brakes with four times as much a second."""
ENDS = (
    (-2.7501, 2.7501, 6.0, 0.30),
    (-1.7918, 1.7918, 2.585, 0.20),
    (-2.9065, 2.9065, 3.5, 0.20),
    (-3.0481, -0.1458, 4.0, 0.30),
    (-2.8101, 2.8101, 17.0, 0.35),
    (0.54092, 4.5205, 5.5, 0.35),
    (-3.0196, 3.0196, 17.0, 0.35),
)
"""Of the FR3's joints: where they end [rad], deceleration [rad/s2] and offset [rad/s] of the speed that is allowed."""
REACH_M = 0.855
"""From the base's axis to the flange."""


def aimed_at(speed: float = JOINT_SPEED, braking: float = 4 * JOINT_SPEED) -> Ranges:
    """What an FR3's joints may be sent to so that they are never faster than they may be there [rad].

    Args:
        speed: largest of a joint [rad/s].
        braking: with which it comes to rest at its goal [rad/s2].
    """
    found = []
    for low, high, deceleration, offset in ENDS:
        # the speed on the way to rest at which the allowed one is nearest
        worst = speed if deceleration <= braking else min(speed, offset * braking / (deceleration - braking))
        gap = (worst + offset) ** 2 / (2 * deceleration) - worst**2 / (2 * braking)
        found.append((low + gap, high - gap))
    return tuple(found)


def franka(
    model: str = "fr3", *, joints: bool = False, gripper: bool = True, rate: float = 10.0, **options: Any
) -> EmbodimentSpec:
    """The embodiment of a model, a key of ``RANGES``; see :func:`vla.arm_channels.arm` for the options."""
    spec = arm(f"franka_{model}", RANGES[model], joints=joints, gripper=gripper, rate=rate, **options)
    if joints and model == "fr3":
        spec = dataclasses.replace(spec, action=joint_action(rate, aimed_at(), gripper=gripper))
    return spec
