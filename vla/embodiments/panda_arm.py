"""A Franka Panda on a table, moved by small steps of its tool: what ``mujoco_arm`` is without a LIBERO scene.

Limits of the joints: Franka Control Interface, "Robot and interface specifications", Panda; ``libfranka`` up to 0.9 has
the same speeds and accelerations (rate_limiting.h).
"""

import dataclasses
import math

from vla.embodiment import CameraSpec, Channel, EmbodimentSpec
from vla.embodiments.libero_panda import ACTION, STEP_M, STEP_RAD
from vla.safety_limits import JointLimits, SafetyLimits

TABLE_M = 0.0
"""The arm stands on its table."""

LOW, HIGH = (0.2, -0.4, TABLE_M), (0.75, 0.4, 0.8)
"""The box that the tool's point stays in, base frame [m]."""

JOINTS = JointLimits(
    low=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
    high=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    velocity=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    acceleration=(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
    torque=(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0),
    gripper_force=20.0,  # the hand could do 70 N; things are held with less
    workspace_low=LOW,
    workspace_high=HIGH,
    table=TABLE_M,
)
"""What its own controller enforces."""

LIMITS = SafetyLimits(
    max_translation=math.sqrt(3) * STEP_M,
    max_rotation=math.sqrt(3) * STEP_RAD,
    low=(LOW[0] + 0.02, LOW[1] + 0.02, LOW[2] + 0.02),
    high=(HIGH[0] - 0.02, HIGH[1] - 0.02, HIGH[2] - 0.02),
    max_age=1.0,
    heartbeat=0.5,
    clock_jump=0.1,
    frozen_pictures=4,
    black=8,
    stuck=8,
    repeated=20,
)
"""What a policy may tell it: inside what the controller allows."""


def panda_arm(camera_size: int = 32) -> EmbodimentSpec:
    """The embodiment: LIBERO's actions; the state has the joints too, so that what is measured can be judged.

    Args:
        camera_size: pixels of a side.
    """
    joints = (
        Channel(f"joint_{place + 1}", "rad", "joint", low, high, max_rate=rate)
        for place, (low, high, rate) in enumerate(zip(JOINTS.low, JOINTS.high, JOINTS.velocity, strict=True))
    )
    return EmbodimentSpec(
        name="panda_arm",
        state=(
            *(Channel(name, "m", "position") for name in ("x", "y", "z")),
            *(Channel(name, "rad", "rotation") for name in ("rx", "ry", "rz")),
            *joints,
            Channel("opening", "1", "gripper", -0.05, 1.05),
        ),
        state_rotation="axis_angle",
        action=dataclasses.replace(ACTION),
        cameras=(CameraSpec("side", camera_size, camera_size, role="primary"),),
    )
