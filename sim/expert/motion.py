"""Moving the hand: straight to a pose, around what is in the way, and down a funnel to a grasp.

Generators of raw actions; each looks at the world again after every action, so that it corrects whatever happened to
the action on its way.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation, Slerp

from vla import rotation
from vla.sim.expert.hand import OPENING, Pose, fits, orientation, turned_within, up
from vla.sim.expert.servo import CLOSED, OPEN, hand_pose, hand_position, towards, turn_to
from vla.sim.expert.solids import Cloud, Points, Solids
from vla.sim.libero_world import LiberoWorld

type Actions = Iterator[Float64[np.ndarray, "7"]]

PATIENCE = 8  # steps without coming closer, after which a pose counts as reached as well as it can be
RISES = (0.0, 0.05, 0.10, 0.16, 0.24, 0.32)  # [m] above both ends that a way around is tried at
BLIND_RISE = 0.16  # [m] of them, that is taken where no way is free
ASIDE = (0.06, 0.12)  # [m] that what is held goes aside first where something above it, an open drawer, is in its way
CLEARANCES = (0.02, 0.006)  # [m] of what is carried from what stands around: wanted, and at least
MISSED_M, MISSED_RAD = 0.05, 0.6  # from a pose in the air that has not been reached
FREE_ENDS = 0.04  # [m] at both ends of a way that are not looked at: there the hand is among things on purpose
HALF_ROUND = 2.4  # [rad] from which on a turn may begin in the wrong direction
ROOM = 0.04  # [m] that a hand rises before it turns half round
CLOSING = (4, 14)  # steps, at least and at most, until the fingers have stopped on something
STILL = 0.0006  # [m] that a finger moves in a step when it has stopped


@dataclass(frozen=True)
class Arm:
    """What every motion needs.

    Attributes:
        world: the scene, ready.
        solids: its shapes.
        rng: draws the jitter.
        jitter: largest displacement of the points in the air that are passed on the way [m].
        speed: largest translation as a part of the largest that the body accepts.
        home: a pose near which the arm's joints are far from their limits; None if there is none to return to.
    """

    world: LiberoWorld
    solids: Solids
    rng: np.random.Generator
    jitter: float = 0.0
    speed: float = 1.0
    home: Pose | None = None

    def jittered(self) -> Float64[np.ndarray, "3"]:
        """A random displacement [m]."""
        return self.rng.uniform(-self.jitter, self.jitter, 3)

    def satisfied(self, predicate: list[str]) -> bool:
        """Whether a predicate of the goal holds now."""
        return bool(self.world.env._eval_predicate(predicate))


def go(
    arm: Arm,
    pose: Pose,
    gripper: float,
    *,
    steps: int = 60,
    tolerance: float = 0.01,
    turned: float = 0.1,
    speed: float = 1.0,
    patience: int = PATIENCE,
) -> Actions:
    """Straight towards a pose until it is reached or the steps are used up."""
    waiting = Patience(patience)
    for _ in range(steps):
        away = float(np.linalg.norm(pose.position - hand_position(arm.world)))
        turn = float(np.linalg.norm(turn_to(arm.world, pose.rotation)))
        if (away < tolerance and turn < turned) or waiting.ended(away + 0.1 * turn):
            return
        yield towards(arm.world, pose, gripper, speed=speed * arm.speed)


def travel(arm: Arm, goal: Pose, gripper: float, *, held: str | None = None, turned: float = 0.3) -> Actions:
    """To a pose in the air, as straight as what stands around allows, along with what is held.

    Where the arm gets stuck, an elbow stretched or a wrist at its end, it returns home once and comes from there.
    """
    yield from _travel(arm, goal, gripper, held, turned)
    away = float(np.linalg.norm(goal.position - hand_position(arm.world)))
    if arm.home is not None and (away > MISSED_M or np.linalg.norm(turn_to(arm.world, goal.rotation)) > MISSED_RAD):
        yield from go(arm, arm.home, gripper, tolerance=0.05, turned=0.5)
        yield from _travel(arm, goal, gripper, held, turned)


def _travel(arm: Arm, goal: Pose, gripper: float, held: str | None, turned: float) -> Actions:
    between = _half_round(arm, hand_pose(arm.world), goal)
    if between is not None:
        yield from go(arm, between, gripper, steps=30, tolerance=0.03, turned=0.5)
    corners = _way(arm, hand_pose(arm.world), goal, gripper, held)
    for pose in corners[:-1]:
        shifted = Pose(pose.position + arm.jittered(), pose.rotation)
        yield from go(arm, shifted, gripper, tolerance=0.015 if held else 0.03, turned=0.6)
    last = Pose(goal.position + arm.jittered(), goal.rotation)
    yield from go(arm, last, gripper, steps=80, tolerance=0.015, turned=turned)


def descend(arm: Arm, grip: Pose, gripper: float = OPEN, along: Float64[np.ndarray, "3"] | None = None) -> Actions:
    """Along the approach, or another direction, down a funnel.

    As long as the hand is beside its line or not turned yet, it stays back: descending with 2 cm of lateral error
    pushes a bowl over.
    """
    along = grip.approach if along is None else along
    waiting = Patience(2 * PATIENCE)
    for _ in range(45):
        error = grip.position - hand_position(arm.world)
        ahead = float(error @ along)
        lateral = float(np.linalg.norm(error - ahead * along))
        turn = float(np.linalg.norm(turn_to(arm.world, grip.rotation)))
        if lateral < 0.007 and abs(ahead) < 0.007 and turn < 0.1:
            return
        if waiting.ended(float(np.linalg.norm(error)) + 0.1 * turn):
            return
        back = np.clip(5 * (lateral - 0.007) + 0.2 * (turn - 0.1), 0, 0.07)
        yield towards(arm.world, grip.shifted(-back * along), gripper, speed=0.8 * arm.speed)


def close(arm: Arm, pose: Pose) -> Actions:
    """Close the fingers at a pose until they stop on something, or on each other."""
    least, most = CLOSING
    before = np.inf
    for step in range(most):
        now = float(np.abs(arm.world.state()[6:]).mean())
        if step >= least and before - now < STILL:
            return
        before = now
        yield towards(arm.world, pose, CLOSED)


def release(steps: int = 7) -> Actions:
    """Open the fingers where the hand is."""
    for _ in range(steps):
        yield np.array([0, 0, 0, 0, 0, 0, OPEN], dtype=np.float64)


class Patience:
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


def _half_round(arm: Arm, start: Pose, goal: Pose) -> Pose | None:
    """Where a hand is half turned that has to turn about its axis by so much that both ways round are as short.

    Only one of them is open to the last joint; None where there is nothing to choose.
    """
    if np.linalg.norm(rotation.from_matrix(goal.rotation @ start.rotation.T, "axis_angle")) < HALF_ROUND:
        return None
    base = np.asarray(arm.world.env.robots[0].base_pos)[:2]
    yaws = [turned_within(pose, base) for pose in (start, goal)]
    bearing = float(np.arctan2(*(start.position[:2] - base)[::-1]))
    return Pose(start.position + up(ROOM), orientation(bearing + float(np.mean(yaws))))


def _way(arm: Arm, start: Pose, goal: Pose, gripper: float, held: str | None) -> list[Pose]:
    """The corners of the lowest way that is free; of the one with :data:`BLIND_RISE` if none is."""
    scene = Cloud(arm.solids.around(*([held] if held else [])))
    carried = (arm.solids.of(held).points - start.position) @ start.rotation if held else np.zeros((0, 3))
    carried = carried[:: max(1, len(carried) // 150)]
    opening = {OPEN: OPENING, CLOSED: 0.01}.get(gripper, gripper)
    over = _over(start, goal)
    ways = [[goal], *over]
    for clearance, corners in itertools.product(CLEARANCES if held else CLEARANCES[:1], ways):
        if _free(scene, carried, [start, *corners], arm.solids.floor, opening, clearance):
            return corners
    for aside in _asides(start) if held else []:
        for corners in _over(aside, goal):
            if _free(scene, carried, [start, aside, *corners], arm.solids.floor, opening, CLEARANCES[-1]):
                return [aside, *corners]
    return over[RISES.index(BLIND_RISE)]


def _over(start: Pose, goal: Pose) -> list[list[Pose]]:
    """The corners of ways that go up, across and down, the lowest first."""
    ways = []
    for rise in RISES:
        height = max(start.position[2], goal.position[2]) + rise
        over = Pose(np.array([*start.position[:2], height]), start.rotation)
        above = Pose(np.array([*goal.position[:2], height]), goal.rotation)
        corners = [over] if height > start.position[2] + 0.03 else []
        ways.append([*corners, above, goal] if height > goal.position[2] + 0.03 else [*corners, goal])
    return ways


def _asides(start: Pose) -> list[Pose]:
    """Poses beside one, the nearest first."""
    ways = [np.array(way) for way in ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0))]
    return [start.shifted(distance * way) for distance in ASIDE for way in ways]


def _free(scene: Cloud, carried: Points, corners: list[Pose], floor: float, opening: float, clearance: float) -> bool:
    """Whether hand and load touch nothing between the corners."""
    first, last = corners[0].position, corners[-1].position
    for begin, end in itertools.pairwise(corners):
        length = float(np.linalg.norm(end.position - begin.position))
        fractions = np.linspace(0, 1, max(2, int(length / 0.04) + 1))
        turns = Slerp([0, 1], Rotation.from_matrix([begin.rotation, end.rotation]))(fractions).as_matrix()
        for fraction, turn in zip(fractions, turns, strict=True):
            pose = Pose(begin.position + fraction * (end.position - begin.position), turn)
            if min(np.linalg.norm(pose.position - first), np.linalg.norm(pose.position - last)) < FREE_ENDS:
                continue
            if not fits(scene, pose, floor, opening):
                return False
            points = carried @ pose.rotation.T + pose.position
            if scene.touches(points, clearance) or (len(points) and points[:, 2].min() < floor):
                return False
    return True
