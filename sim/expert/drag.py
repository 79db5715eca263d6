"""A flat thing that fingers cannot grip, a plate, is pushed over the table by fingers that are within its rim."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from vla.sim.expert.hand import TIP, YAWS, Pose, fits, orientation, up
from vla.sim.expert.motion import Actions, Arm, go, travel
from vla.sim.expert.servo import CLOSED, hand_pose, hand_position, towards
from vla.sim.expert.solids import Cloud
from vla.sim.expert.subtasks import Step, Subtask, during

FLAT = 0.03  # [m] high at most
ABOVE = 0.08  # [m] of the pose before and after
LOW = 0.003  # [m] of the finger tips above the table at first
PRESS = 0.005  # [m] lower that they aim at while they push, or they climb over the rim
NEAR = 0.015  # [m] to where it shall be
STEPS = 120
LOST = 0.08  # [m] of the fingers from the middle of what they should take along
SIDEWAYS_DEG = (0.0, 180.0, 30.0, -30.0, 90.0, -90.0)  # of the hand from the way: across it, fingers are pushed open


def drag(arm: Arm, name: str, to: str, target: Float64[np.ndarray, "3"]) -> Iterator[Step]:
    """Lower closed fingers onto an object's middle and take it along to a horizontal position [m], which is named."""
    middle, height = arm.world.position(name), arm.solids.floor + TIP + LOW
    touch = _upright(arm, name, np.array([*middle[:2], height]), np.array([*target[:2], height]))
    yield from during(Subtask("reach", name, to), travel(arm, touch.shifted(up(ABOVE)), CLOSED))
    pressing = go(arm, touch, CLOSED, steps=40, tolerance=0.006, speed=0.5)
    yield from during(Subtask("touch", name, to), pressing)
    yield from during(Subtask("drag", name, to), _along(arm, name, target, touch.shifted(up(-PRESS))))
    away = hand_pose(arm.world).shifted(up(ABOVE))
    yield from during(Subtask("retreat", name, to), go(arm, away, CLOSED, steps=12, tolerance=0.03))


def _along(arm: Arm, name: str, target: Float64[np.ndarray, "3"], touch: Pose) -> Actions:
    for _ in range(STEPS):
        here, there = arm.world.position(name)[:2], hand_position(arm.world)[:2]
        missing = target[:2] - here
        if np.linalg.norm(missing) < NEAR or np.linalg.norm(there - here) > LOST:
            return
        step = missing * min(1.0, 0.03 / float(np.linalg.norm(missing)))
        yield towards(arm.world, Pose(np.array([*there + step, touch.position[2]]), touch.rotation), CLOSED, speed=0.6)


def _upright(arm: Arm, name: str, start: Float64[np.ndarray, "3"], end: Float64[np.ndarray, "3"]) -> Pose:
    """The yaw at which the hand has most room on its way."""
    around = Cloud(arm.solids.around(name))
    way = [start + up(ABOVE), *(start + part * (end - start) for part in np.linspace(0, 1, 6))]
    ahead = float(np.arctan2(*(end - start)[1::-1]))
    yaws = [ahead + float(aside) for aside in np.deg2rad(SIDEWAYS_DEG)]
    yaws = [yaw for yaw in ((yaw + np.pi / 2) % (2 * np.pi) - np.pi / 2 for yaw in yaws) if YAWS[0] < yaw < YAWS[1]]
    turned = [Pose(start, orientation(yaw)) for yaw in yaws]
    room = [sum(fits(around, Pose(there, pose.rotation), arm.solids.floor, 0.0) for there in way) for pose in turned]
    return turned[int(np.argmax(room))]
