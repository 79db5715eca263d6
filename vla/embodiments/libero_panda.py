"""The Franka Panda as LIBERO simulates it: OSC_POSE at 20 Hz, two cameras.

Source: robosuite 1.4 ``controllers/config/osc_pose.json`` (output_max 0.05 m, 0.5 rad) and LIBERO's environments.
"""

import dataclasses
import math

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.errors import UnknownName
from vla.safety import SafetyLimits

STEP_M = 0.05  # largest translation of one control step
STEP_RAD = 0.5  # largest rotation of one control step
RATE_HZ = 20.0

STATE = (
    *(Channel(name, "m", "position") for name in ("x", "y", "z")),
    *(Channel(name, "rad", "rotation") for name in ("rx", "ry", "rz")),
    Channel("finger_left", "m", "gripper", -0.001, 0.041),
    Channel("finger_right", "m", "gripper", -0.041, 0.001),
)

ACTION = ActionSpec(
    channels=(
        *(Channel(name, "m", "position", -STEP_M, STEP_M) for name in ("dx", "dy", "dz")),
        *(Channel(name, "rad", "rotation", -STEP_RAD, STEP_RAD) for name in ("drx", "dry", "drz")),
        Channel("gripper", "1", "gripper", 0.0, 1.0),
    ),
    mode="delta",
    frame="base",
    rotation="axis_angle",
    gripper=Gripper(closed=0.0, opened=1.0),
    rate=RATE_HZ,
)
"""Canonical: metres, radians, gripper 1 = open."""

RAW_ACTION = ActionSpec(
    channels=(
        *(Channel(name, "m", "position", -STEP_M, STEP_M, scale=STEP_M) for name in ("dx", "dy", "dz")),
        *(Channel(name, "rad", "rotation", -STEP_RAD, STEP_RAD, scale=STEP_RAD) for name in ("drx", "dry", "drz")),
        Channel("gripper", "1", "gripper", -1.0, 1.0),
    ),
    mode="delta",
    frame="base",
    rotation="axis_angle",
    gripper=Gripper(closed=1.0, opened=-1.0),
    rate=RATE_HZ,
)
"""What the environment itself takes: [-1, 1] everywhere, gripper -1 = open, +1 = closed."""


def libero_panda(camera_size: int = 256) -> EmbodimentSpec:
    """The embodiment with square pictures of ``camera_size`` pixels.

    A policy's picture is robosuite's raw one (upside down) turned by 180 degrees: the scene mirrored left-right.
    """
    return EmbodimentSpec(
        name="libero_panda",
        state=STATE,
        state_rotation="axis_angle_2pi",
        action=ACTION,
        cameras=(
            CameraSpec("agentview", camera_size, camera_size, "mirrored", "primary"),
            CameraSpec("robot0_eye_in_hand", camera_size, camera_size, "mirrored", "wrist"),
        ),
    )


TABLE_M = {"libero_spatial": 0.90, "libero_goal": 0.90, "libero_10": 0.43, "libero_90": 0.43, "libero_object": 0.0}
"""Height of the lowest surface that a suite's tasks work on, base frame: kitchen table, low tables, floor."""

LIMITS = SafetyLimits(
    # the diagonal of what the controller takes: nothing that it would do is shortened
    max_translation=math.sqrt(3) * STEP_M,
    max_rotation=math.sqrt(3) * STEP_RAD,
    # what 1,693 demonstrations of four suites visited ([-0.48, 0.21] x [-0.33, 0.39], up to 1.37 m), 0.1 m wider
    low=(-0.58, -0.43, TABLE_M["libero_spatial"] - 0.02),
    high=(0.31, 0.49, 1.47),
    max_age=1.0,
    heartbeat=0.5,
    clock_jump=1.0,  # the simulated arm's clock waits while a picture is drawn, and makes up for it
    frozen_pictures=4,
    black=0,
    stuck=20,
)
"""For the kitchen table. Targets may lie 0.02 m below it: the controller is compliant, and pressing needs a target.

``repeated`` is not among them: a person's key, and a demonstration at full speed, say the same for seconds.
"""


def limits(suite: str) -> SafetyLimits:
    """The limits for a suite's scenes.

    Raises:
        UnknownName: nobody measured that suite's table.
    """
    if suite not in TABLE_M:
        raise UnknownName("suite with a known table height", suite, TABLE_M)
    return dataclasses.replace(LIMITS, low=(*LIMITS.low[:2], TABLE_M[suite] - 0.02))
