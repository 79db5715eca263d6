"""A seven-joint arm for tests: the Panda's kinematics (Denavit-Hartenberg, Franka's data sheet), capsules around it."""

JOINTS = tuple(f"joint{number}" for number in range(1, 8))
SPEEDS = (2.175,) * 4 + (2.61,) * 3
HOME = (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785)
_RANGES = (
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
)
_FRAMES = (
    ("0 0 0.333", "1 0 0 0"),
    ("0 0 0", "1 -1 0 0"),
    ("0 -0.316 0", "1 1 0 0"),
    ("0.0825 0 0", "1 1 0 0"),
    ("-0.0825 0.384 0", "1 -1 0 0"),
    ("0 0 0", "1 1 0 0"),
    ("0.088 0 0", "1 1 0 0"),
)
_GEOMS = {
    2: '<geom name="upper" type="capsule" fromto="0 0 0 0 -0.25 0" size="0.06"/>',
    5: '<geom name="fore" type="capsule" fromto="0 -0.05 0.02 0 -0.25 0.06" size="0.05"/>',
    7: '<geom name="hand" type="sphere" pos="0 0 0.12" size="0.06"/><site name="tool" pos="0 0 0.2"/>',
}


def xml(stand: str = "0 0 0", turn: str = "1 0 0 0") -> str:
    """The arm on a stand, in MuJoCo's format."""
    body = ""
    for number in range(7, 0, -1):
        (position, quaternion), (low, high) = _FRAMES[number - 1], _RANGES[number - 1]
        body = (
            f'<body name="link{number}" pos="{position}" quat="{quaternion}">'
            f'<joint name="joint{number}" axis="0 0 1" range="{low} {high}"/>'
            f'{_GEOMS.get(number, "")}<geom type="sphere" size="0.01" contype="0" conaffinity="0"/>{body}</body>'
        )
    return (
        '<mujoco><compiler angle="radian" autolimits="true"/><worldbody>'
        f'<body name="base" pos="{stand}" quat="{turn}">'
        f'<geom name="foot" type="capsule" fromto="0 0 0 0 0 0.25" size="0.08"/>{body}</body>'
        '<geom name="table" type="box" pos="0.6 0 -0.52" size="0.5 0.5 0.5"/></worldbody></mujoco>'
    )
