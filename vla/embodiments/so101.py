"""The SO-101 (and SO-100), or two of them: five joints and a gripper, moved by target positions; cameras as one likes.

Ranges of the joints: the arm's own URDF (``SO101/so101_new_calib.urdf``), whose zero is the middle of each range, as
lerobot's calibration has it. Top speed: Feetech's data sheet of the STS3215 at 7.4 V, 0.222 s for 60 degrees. In place
of an opening in metres the gripper has its share, as lerobot calibrates it: 0 closed, 1 open.
"""

import math
from collections.abc import Sequence

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.safety_limits import SafetyLimits

RATE_HZ = 30.0
"""Of commands; lerobot's own default."""

JOINTS = {
    "shoulder_pan": (-1.91986, 1.91986),
    "shoulder_lift": (-1.74533, 1.74533),
    "elbow_flex": (-1.69, 1.69),
    "wrist_flex": (-1.65806, 1.65806),
    "wrist_roll": (-2.79253, 2.79253),
}
"""From the base on: least and greatest angle [rad]."""

GRIPPER = "gripper"
GOAL = "_goal"
"""After a joint's name: the channel of the action that tells it where to go."""

TOP_SPEED = math.radians(60.0) / 0.222  # [rad/s]
GRIPPER_TRAVEL = 1.91986
"""From closed to open [rad]."""

LIMITS = SafetyLimits(
    max_age=1.0,
    heartbeat=0.5,
    clock_jump=0.1,
    # a camera's noise makes no two pictures alike; one that is as fast as the commands may give the same one twice
    frozen_pictures=10,
    black=8,
)
"""What it may be told to do, with its channels' ranges and speeds. Not ``stuck``: an arm that hangs in its own weight
stays a degree or two away from where it was told to go, and its encoder says the same number all the time."""


def so101(cameras: Sequence[CameraSpec] = (), *, rate: float = RATE_HZ, arms: Sequence[str] = ("",)) -> EmbodimentSpec:
    """The embodiment.

    Args:
        cameras: those that are on it.
        rate: of commands [Hz].
        arms: what stands before the channels' names; ``("left_", "right_")`` for two arms.
    """
    opening = TOP_SPEED / GRIPPER_TRAVEL
    state, action = [], []
    for arm in arms:
        for name, (low, high) in JOINTS.items():
            # measured is what the encoder can say: an arm's own calibration may reach beyond the drawing
            state.append(Channel(arm + name, "rad", "joint", -math.pi, math.pi, max_rate=TOP_SPEED))
            action.append(Channel(arm + name + GOAL, "rad", "joint", low, high, max_rate=TOP_SPEED))
        state.append(Channel(arm + GRIPPER, "1", "gripper", 0.0, 1.0, max_rate=opening))
        action.append(Channel(arm + GRIPPER + GOAL, "1", "gripper", 0.0, 1.0, max_rate=opening))
    return EmbodimentSpec(
        name="so101" if len(arms) == 1 else "bi_so101",
        state=tuple(state),
        state_rotation=None,
        action=ActionSpec(tuple(action), "absolute", "joint", rotation=None, gripper=Gripper(), rate=rate),
        cameras=tuple(cameras),
    )
