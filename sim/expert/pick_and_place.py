"""Picks a bowl up by its rim and sets it down on something, from the simulator's true state.

A generator: it yields one raw action at a time and looks at the world again after each, so that it corrects whatever
happened to the action on its way. Grasps that fail are tried again from another side of the rim.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from vla.errors import ConfigError
from vla.sim.expert.servo import CLOSED, OPEN, distance, hand_position, towards, turn_to
from vla.sim.libero_world import LiberoWorld

Actions = Iterator[Float64[np.ndarray, "7"]]

RIM = 0.05  # [m] from a bowl's centre to where its wall is gripped
GRIP_HEIGHT = 0.02  # [m] of the finger tips above the bowl's origin
ABOVE = 0.11  # [m] above the bowl before the descent
SIDES_DEG = (135.0, 180.0, -45.0, 90.0, 0.0, 45.0, -90.0)  # of the rim in the order of preference: the arm's first
SIDES_INSIDE_DEG = (-45.0, 0.0, 135.0, 180.0, 90.0, 45.0, -90.0)  # in a drawer, where the near walls are in the way
LIFTED = 0.05  # [m] above where it lay: the grasp holds
HELD = 0.12  # [m] from the finger tips to the bowl's origin: farther away it has been lost
SLACK = 0.3  # [rad] by which the hand may be turned away where the bowl is only carried
DROP = 0.03  # [m] above the target when the gripper opens
ROUNDS = 3  # of picking and placing
EASY_REACH = 0.74  # [m] horizontally from the arm's base; beyond it the elbow nears its limit and the hand creeps
PATIENCE = 8  # steps without coming closer, after which a point counts as reached as well as it can be


def pick_and_place(world: LiberoWorld, rng: np.random.Generator, jitter: float = 0.0) -> Actions:
    """Raw actions that solve a goal of the form ``on object support``; ends when nothing is left to try.

    Args:
        world: the scene, ready.
        rng: draws the jitter.
        jitter: largest displacement of the points in the air that are passed on the way [m].

    Raises:
        ConfigError: the goal has another form.
    """
    goal = world.goal
    if len(goal) != 1 or len(goal[0]) != 3 or goal[0][0] != "on" or goal[0][1] not in world.objects:
        raise ConfigError(f"the expert puts one object on another; {world.bddl.stem} asks for {goal}")
    _, source, target = goal[0]
    for _ in range(ROUNDS):
        sides = iter(_sides(world, source))
        held, yaw = False, 0.0
        while not held and (side := next(sides, None)) is not None:
            yaw = _yaw(side)
            held = yield from _grasp(world, source, side, rng, jitter)
        if not held:
            return
        yield from _place(world, source, target, yaw, rng, jitter)
        if world.succeeded():
            return


def _grasp(world: LiberoWorld, source: str, side: float, rng: np.random.Generator, jitter: float):
    """Approach from above, descend, close, lift; returns whether the object came along."""
    rest = world.position(source)
    yaw = _yaw(side)
    rim = rest + RIM * np.array([np.cos(side), np.sin(side), 0.0])
    above = rim + _up(ABOVE) + _jitter(rng, jitter)
    yield from _go(world, above, yaw, OPEN, steps=60, tolerance=0.012, turned=0.3)
    yield from _descend(world, rim + _up(GRIP_HEIGHT), yaw)
    for _ in range(8):
        yield towards(world, rim + _up(GRIP_HEIGHT), yaw, CLOSED)
    up = hand_position(world) + _up(0.12) + _jitter(rng, jitter)
    yield from _go(world, up, yaw, CLOSED, steps=30, tolerance=0.03)
    if world.position(source)[2] > rest[2] + LIFTED:
        return True
    yield from _go(world, hand_position(world) + _up(0.05), yaw, OPEN, steps=8)
    return False


def _descend(world: LiberoWorld, grip: Float64[np.ndarray, "3"], yaw: float) -> Actions:
    """Down a funnel: as long as the hand is beside its line or not turned yet, it stays higher.

    Descending with 2 cm of lateral error pushes the bowl over.
    """
    patience = _Patience(2 * PATIENCE)
    for _ in range(45):
        error = grip - hand_position(world)
        lateral, turn = float(np.linalg.norm(error[:2])), float(np.linalg.norm(turn_to(world, yaw)))
        if lateral < 0.007 and abs(error[2]) < 0.007 and turn < 0.1:
            return
        if patience.ended(float(np.linalg.norm(error)) + 0.1 * turn):
            return
        height = np.clip(5 * (lateral - 0.007) + 0.2 * (turn - 0.1), 0, 0.07)
        yield towards(world, grip + _up(height), yaw, OPEN, speed=0.8)


def _place(world: LiberoWorld, source: str, target: str, yaw: float, rng: np.random.Generator, jitter: float):
    """Carry over the target at the height reached, lower, open, retreat."""
    there = world.position(target)
    grip = hand_position(world) - world.position(source)
    height = max(hand_position(world)[2] - grip[2] - there[2], 0.12)
    over = there + grip + _up(height) + _jitter(rng, jitter) * [1, 1, 0]
    yield from _go(world, over, yaw, CLOSED, steps=70, tolerance=0.02, turned=SLACK)
    grip = hand_position(world) - world.position(source)  # the bowl may have turned in the fingers
    if np.linalg.norm(grip) > HELD:
        yield from _go(world, hand_position(world) + _up(0.1), yaw, OPEN, steps=8)
        return
    # opens while still under way: a policy that has to come to rest first learns to hover there, and stays
    yield from _go(world, there + grip + _up(DROP), yaw, CLOSED, steps=40, tolerance=0.02, turned=SLACK, speed=0.8)
    for _ in range(12):
        yield np.array([0, 0, 0, 0, 0, 0, OPEN], dtype=np.float64)
    yield from _go(world, hand_position(world) + _up(0.1), yaw, OPEN, steps=25)


def _go(
    world: LiberoWorld,
    position: Float64[np.ndarray, "3"],
    yaw: float,
    gripper: float,
    *,
    steps: int,
    tolerance: float = 0.01,
    turned: float = 0.1,
    speed: float = 1.0,
) -> Actions:
    """Towards a pose until it is reached or the steps are used up."""
    patience = _Patience(PATIENCE)
    for _ in range(steps):
        away, turn = distance(world, position), float(np.linalg.norm(turn_to(world, yaw)))
        if (away < tolerance and turn < turned) or patience.ended(away + 0.1 * turn):
            return
        yield towards(world, position, yaw, gripper, speed=speed)


def _sides(world: LiberoWorld, source: str) -> list[float]:
    """Angles [rad] of the rim to grip at, those that the arm hardly reaches last."""
    if any(predicate[:2] == ["in", source] for predicate in world.env.parsed_problem["initial_state"]):
        return list(np.deg2rad(SIDES_INSIDE_DEG))
    base = np.asarray(world.env.robots[0].base_pos)[:2]
    bowl = world.position(source)[:2]
    sides = np.deg2rad(SIDES_DEG)
    far = [np.linalg.norm(bowl + RIM * np.array([np.cos(side), np.sin(side)]) - base) > EASY_REACH for side in sides]
    return [float(sides[index]) for index in np.argsort(far, kind="stable")]


class _Patience:
    """Notices that an error has not become smaller for a while."""

    def __init__(self, steps: int):
        self._steps = steps
        self._best = np.inf
        self._since = 0

    def ended(self, error: float) -> bool:
        """Whether the smallest error so far [m] is that many steps old."""
        self._since = 0 if error < self._best - 1e-3 else self._since + 1
        self._best = min(self._best, error)
        return self._since >= self._steps


def _yaw(side: float) -> float:
    """Of the hand whose fingers open along a radius, in [-pi/4, 3 pi/4) [rad]: far from the last joint's limits."""
    return (side - np.pi / 4) % np.pi - np.pi / 4


def _up(height: float) -> Float64[np.ndarray, "3"]:
    return np.array([0.0, 0.0, height])


def _jitter(rng: np.random.Generator, size: float) -> Float64[np.ndarray, "3"]:
    return rng.uniform(-size, size, 3)
