"""The WidowX 250 of BridgeData V2 as its Open X-Embodiment (RLDS) release has it: 5 Hz, up to four cameras.

Source: Walke et al., "BridgeData V2" (2023), and the ``features.json`` of the RLDS release.
"""

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper, Role

STATE = (
    *(Channel(name, "m", "position") for name in ("x", "y", "z")),
    *(Channel(name, "rad", "rotation") for name in ("roll_x", "pitch_y", "yaw_z")),
    Channel("gripper_state", "1", "gripper"),
)

ACTION = ActionSpec(
    channels=(
        *(Channel(name, "m", "position") for name in ("dx", "dy", "dz")),
        *(Channel(name, "rad", "rotation") for name in ("droll_x", "dpitch_y", "dyaw_z")),
        Channel("gripper", "1", "gripper", 0.0, 1.0),
    ),
    mode="delta",
    frame="base",
    rotation="euler_xyz",
    gripper=Gripper(closed=0.0, opened=1.0),
    rate=5.0,
)


def bridge_widowx(cameras: tuple[str, ...] = ("image_0",), height: int = 256, width: int = 256) -> EmbodimentSpec:
    """The embodiment with the cameras that are to be read; ``image_0`` is the over-the-shoulder view."""
    roles: dict[str, Role] = {"image_0": "primary", "image_3": "wrist"}
    return EmbodimentSpec(
        name="bridge_widowx",
        state=STATE,
        state_rotation="euler_xyz",
        action=ACTION,
        cameras=tuple(CameraSpec(name, height, width, "upright", roles.get(name, "secondary")) for name in cameras),
    )
