"""A flat thing that fingers cannot grip, a plate, is dragged over the table by fingers pressed on it."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from vla.sim.expert.hand import TIP, Pose, orientation, up
from vla.sim.expert.motion import Actions, Arm, go, travel
from vla.sim.expert.servo import CLOSED, hand_pose, hand_position, towards
from vla.sim.expert.subtasks import Step, Subtask, during

FLAT = 0.03  # [m] high at most
ABOVE = 0.08  # [m] of the pose before and after
PRESS = 0.012  # [m] below the surface that the hand aims at
NEAR = 0.015  # [m] to where it shall be
STEPS = 120


def drag(arm: Arm, name: str, to: str, target: Float64[np.ndarray, "3"]) -> Iterator[Step]:
    """Press closed fingers on an object's middle and take it along to a horizontal position [m], which is named."""
    down = orientation(0.0)
    middle = arm.world.position(name)
    touch = np.array([*middle[:2], arm.solids.floor + TIP + 0.004])
    yield from during(Subtask("reach", name, to), travel(arm, Pose(touch + up(ABOVE), down), CLOSED))
    pressing = go(arm, Pose(touch, down), CLOSED, steps=20, tolerance=0.006, speed=0.5)
    yield from during(Subtask("touch", name, to), pressing)
    yield from during(Subtask("drag", name, to), _along(arm, name, target, touch[2] - PRESS))
    away = hand_pose(arm.world).shifted(up(ABOVE))
    yield from during(Subtask("retreat", name, to), go(arm, away, CLOSED, steps=12, tolerance=0.03))


def _along(arm: Arm, name: str, target: Float64[np.ndarray, "3"], height: float) -> Actions:
    down = orientation(0.0)
    for _ in range(STEPS):
        missing = (target - arm.world.position(name))[:2]
        if np.linalg.norm(missing) < NEAR:
            return
        step = missing * min(1.0, 0.03 / float(np.linalg.norm(missing)))
        ahead = np.array([*hand_position(arm.world)[:2] + step, height])
        yield towards(arm.world, Pose(ahead, down), CLOSED, speed=0.6)
