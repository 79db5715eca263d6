"""ALOHA: two ViperX 300 S arms side by side, six joints and a gripper each, moved by target positions at 50 Hz.

Order and names are those of the public data sets (Zhao et al., "Learning Fine-Grained Bimanual Manipulation with
Low-Cost Hardware", 2023): left arm first, each gripper after its joints. Grippers are a share of their opening, 0
closed, 1 open. Ranges and top speed of the joints: the maker's description (``vx300s.urdf``). How fast they may
accelerate is not published; what stands here is this project's own choice. Not run on hardware.
"""

import math

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper, Role

RATE_HZ = 50.0

SIDES = ("left", "right")

JOINTS = {
    "waist": (-math.pi, math.pi),
    "shoulder": (-1.85005, 1.25664),
    "elbow": (-1.76278, 1.6057),
    "forearm_roll": (-math.pi, math.pi),
    "wrist_angle": (-1.8675, 2.23402),
    "wrist_rotate": (-math.pi, math.pi),
}
"""Of each arm, from the base on: least and greatest angle [rad]."""

GOAL = "_goal"
"""After a channel's name: the channel of the action that tells it where to go."""

TOP_SPEED = math.pi  # [rad/s]
GRIPPER_TRAVEL = 2.1123  # from closed to open at the motor [rad]; ALOHA's own calibration, -0.6213 to 1.4910
GRIPPER_SPEED = TOP_SPEED / GRIPPER_TRAVEL  # [1/s]

RISE_S, EASE_S = 0.16, 0.05
"""From rest to top speed, and from none to the largest acceleration: 20 rad/s2 and 400 rad/s3."""

CAMERAS: dict[str, Role] = {
    "cam_high": "primary",
    "cam_low": "secondary",
    "cam_left_wrist": "wrist",
    "cam_right_wrist": "wrist",
}


def _channels(suffix: str) -> tuple[Channel, ...]:
    found: list[Channel] = []
    for side in SIDES:
        found += [
            Channel(f"{side}_{name}{suffix}", "rad", "joint", low, high, max_rate=TOP_SPEED)
            for name, (low, high) in JOINTS.items()
        ]
        found.append(Channel(f"{side}_gripper{suffix}", "1", "gripper", 0.0, 1.0, max_rate=GRIPPER_SPEED))
    return tuple(found)


STATE = _channels("")

ACTION = ActionSpec(
    channels=_channels(GOAL), mode="absolute", frame="joint", rotation=None, gripper=Gripper(), rate=RATE_HZ
)


def aloha(cameras: tuple[str, ...] = tuple(CAMERAS), height: int = 480, width: int = 640) -> EmbodimentSpec:
    """The embodiment with the cameras that are to be read; ``cam_high`` looks down from above.

    Args:
        cameras: names, each of this size.
        height: pixels.
        width: pixels.
    """
    return EmbodimentSpec(
        name="aloha",
        state=STATE,
        state_rotation=None,
        action=ACTION,
        cameras=tuple(CameraSpec(name, height, width, role=CAMERAS.get(name, "other")) for name in cameras),
    )
