"""Goals ``open``, ``close``, ``turnon`` and ``turnoff``: grip a handle or push a face, and follow the joint.

A handle that a hand can neither grip nor reach behind, low over a table and beneath others, is pressed from above and
taken along by friction.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vla.sim.expert.grasps import grasps, tilted, upright
from vla.sim.expert.hand import OPENING, Pose, fits, orientation, up
from vla.sim.expert.joints import Joint, joint_of
from vla.sim.expert.motion import Actions, Arm, close, descend, go, release, travel
from vla.sim.expert.servo import CLOSED, OPEN, towards
from vla.sim.expert.solids import Cloud, Surface
from vla.sim.expert.subtasks import Step, Steps, Subtask, during

ROUNDS = 5
LEAD_M = 0.05  # [m] that the hand's goal runs ahead of the joint along its way
PRESS, DRAW_M = 0.07, 0.08  # [m] that it aims below a face that it takes along by friction, and runs ahead then
AJAR = 0.05  # [m] that a drawer is drawn by friction; then there is room to grip its edge
STUCK = 14  # steps without progress of the joint
FOLLOW = 90  # steps
BACK, NEAR = 0.08, 0.03  # [m] between the pose before and the first touch of a grip and of a push
FRONT, BAR = 0.045, 0.018  # [m] that handle and front of a drawer take together, and the handle's bar
FINGERS = np.array([0.011, 0.020, 0.011])  # [m] from the middle of closed fingers to their faces, hand's frame
LEANING = tilted((0.0, 90.0))
LABELS = {"open": "open", "close": "close", "turnon": "turn on", "turnoff": "turn off"}
LOOSE = 0.7  # cosine: a bar is pulled well enough by fingers that close across its edges
OPENINGS = (OPENING, 0.02)  # [m] of each finger: between a cabinet's handles there is no room for open ones


type Aside = tuple[str, ...]


@dataclass(frozen=True)
class Hold:
    """How the hand moves a joint.

    Attributes:
        pose: at the first touch.
        away: direction in which the hand came and leaves again.
        grips: whether it grips.
        opening: how far from the middle [m] each finger is on the way to a grip.
        whole: whether there is room for the hand on all of the joint's way, not only on its first half.
        presses: whether it presses down on a face and takes it along by friction.
    """

    pose: Pose
    away: Float64[np.ndarray, "3"]
    grips: bool
    opening: float = OPENING
    whole: bool = True
    presses: bool = False


def operate(arm: Arm, predicate: list[str], *, fully: bool = False) -> Steps:
    """Actions that bring a joint where a goal wants it, or as far as it goes; returns whether it is there."""
    failed: list[Hold] = []
    for _ in range(ROUNDS):
        joint = joint_of(arm.world, predicate, fully=fully)
        hold = next(_holds(arm, joint, predicate, failed), None)
        if hold is None:
            return False
        failed.append(hold)
        yield from _act(arm, joint, predicate, hold)
        if arm.satisfied(predicate) and (joint.ended or not fully):
            return True
    return False


def _act(arm: Arm, joint: Joint, predicate: list[str], hold: Hold) -> Iterator[Step]:
    kind, name = predicate
    gripper = CLOSED if not hold.grips else OPEN if hold.opening == OPENING else hold.opening
    before = hold.pose.shifted((BACK if hold.grips else NEAR) * hold.away)
    yield from during(Subtask("reach", name), travel(arm, before, gripper, turned=0.2))
    if hold.grips:
        yield from during(Subtask("grasp", name), descend(arm, hold.pose, gripper))
        yield from during(Subtask("grasp", name), close(arm, hold.pose))
    else:
        near = 0.006 if hold.presses else 0.015
        yield from during(Subtask("touch", name), go(arm, hold.pose, CLOSED, steps=30, tolerance=near, turned=0.2))
    start = joint.position
    yield from during(Subtask(LABELS[kind], name), _follow(arm, joint, predicate, hold))
    moved = joint.carried(hold.pose, joint.position - start)
    turn = joint.carried(Pose(np.zeros(3), np.eye(3)), joint.position - start).rotation
    if hold.grips:
        yield from during(Subtask("retreat", name), release(5))
    out = moved.shifted(BACK * (turn @ hold.away))
    leaving = go(arm, out, OPEN if hold.grips else CLOSED, steps=20, tolerance=0.03, turned=1.0)
    yield from during(Subtask("retreat", name), leaving)


def _follow(arm: Arm, joint: Joint, predicate: list[str], hold: Hold) -> Actions:
    """Along the joint's way until the goal holds or the joint does not move any more."""
    start, best, since = joint.position, joint.position, 0
    pose = hold.pose.shifted(up(-PRESS)) if hold.presses else hold.pose
    lead = DRAW_M if hold.presses else LEAD_M
    lead = lead if joint.slides else lead / max(0.06, float(joint.levers(pose.position[None])[0]))
    for _ in range(FOLLOW):
        now = joint.position
        ahead = now + np.clip(joint.wanted - now, -lead, lead) if abs(joint.wanted - now) > 1e-3 else joint.wanted
        if arm.satisfied(predicate) and (joint.ended if joint.fully else abs(now - joint.wanted) < 0.5 * lead):
            return
        if hold.presses and abs(now - start) > AJAR:
            return
        since = 0 if abs(now - start) > abs(best - start) + 5e-4 else since + 1
        best = now if since == 0 else best
        if since > STUCK:
            return
        yield towards(arm.world, joint.carried(pose, ahead - start), CLOSED, speed=0.8 * arm.speed)


def _holds(arm: Arm, joint: Joint, predicate: list[str], failed: list[Hold]) -> Iterator[Hold]:
    """Ways to move a joint, the more promising kind first."""
    moving = frozenset(arm.solids.moving_with(joint.body))
    surface = arm.solids.of_bodies(set(moving))
    kinds = [_grips, _pushes] if predicate[0] != "close" else [_pushes, _grips]
    if len(failed) % 2 == 1:
        kinds.reverse()
    partly: list[Hold] = []
    # where nothing else is possible, what stands in the way and can be moved is pushed aside
    for kind, aside in itertools.product(kinds, ((), arm.world.objects)):
        for hold in kind(arm, joint, surface, moving, aside):
            if any(_alike(hold, old) for old in failed):
                continue
            if hold.whole:
                yield hold
            else:
                partly.append(hold)
    yield from partly  # what has moved half way may be held elsewhere for the rest
    if joint.slides and predicate[0] == "open":
        yield from (hold for hold in _presses(arm, joint, surface) if not any(_alike(hold, old) for old in failed))


def _alike(hold: Hold, old: Hold) -> bool:
    near = np.linalg.norm(old.pose.position - hold.pose.position) < 0.02
    return bool(near and old.grips == hold.grips and np.trace(old.pose.rotation.T @ hold.pose.rotation) > 2.7)


def _grips(arm: Arm, joint: Joint, surface: Surface, moving: frozenset[int], aside: Aside) -> Iterator[Hold]:
    around, still = arm.solids.around(*aside), Cloud(arm.solids.around(*aside, bodies=moving))
    change = joint.wanted - joint.position
    for orientations, opening in itertools.product((upright(45.0), LEANING), OPENINGS):
        for grasp in grasps(
            surface, around, arm.solids.floor, orientations, arm.rng, most=30, opening=opening, facing=LOOSE
        ):
            pose = grasp.pose
            if not joint.slides and joint.levers(pose.position[None])[0] > 0.1 and grasp.tilt == 0:
                continue
            middle, end = joint.carried(pose, 0.5 * change), joint.carried(pose, change)
            if _reachable(arm, pose) and fits(still, middle, arm.solids.floor):
                whole = fits(still, end, arm.solids.floor)
                yield Hold(pose, -pose.approach, grips=True, opening=opening, whole=whole)


def _pushes(arm: Arm, joint: Joint, surface: Surface, moving: frozenset[int], aside: Aside) -> Iterator[Hold]:
    """Closed fingers against a face that looks against the motion, far from a hinge."""
    floor, middle = arm.solids.floor, surface.points.mean(axis=0)
    around, still = (
        Cloud(points, middle, 0.6) for points in (arm.solids.around(*aside), arm.solids.around(*aside, bodies=moving))
    )
    moves = joint.velocities(surface.points)
    against = (surface.normals * moves).sum(axis=1) < -0.8
    if joint.slides and against.any():  # a drawer's front and its handle, not the wall at its back
        along = (surface.points * moves).sum(axis=1)
        against &= along < along[against].min() + FRONT
    points, normals, levers = surface.points[against], surface.normals[against], joint.levers(surface.points[against])
    if not len(points):
        return
    levers = levers / levers.max()
    change = joint.wanted - joint.position
    centre = points.mean(axis=0)
    order = np.argsort(
        -levers * (not joint.slides)
        + 2.0 * np.linalg.norm(points - centre, axis=1) * joint.slides
        + arm.rng.uniform(0, 0.03, len(points))
    )
    hands = [orientation(*each) for each in [*upright(45.0), *tilted((90.0, 0.0), (30.0, 45.0, 65.0))]]
    for index in order[: max(30, len(order) // 2) : max(1, len(order) // 60)]:
        for hand in hands:
            offset = float(np.abs(normals[index] @ hand) @ FINGERS) + 0.006
            pose = Pose(points[index] + offset * normals[index], hand)
            free = (pose, pose.shifted(NEAR * normals[index]))
            if not all(fits(around, there, floor, 0.0) for there in free) or not _reachable(arm, pose):
                continue
            if fits(still, joint.carried(pose, 0.5 * change), floor, 0.0):
                whole = fits(still, joint.carried(pose, 0.9 * change), floor, 0.0)
                yield Hold(pose, normals[index], grips=False, whole=whole)
                if whole:
                    break


def _presses(arm: Arm, joint: Joint, surface: Surface) -> Iterator[Hold]:
    """Closed fingers on the upper side of a drawer's handle."""
    around, along = Cloud(arm.solids.around()), surface.points @ joint.velocities(surface.points)[0]
    upper = np.flatnonzero((surface.normals[:, 2] > 0.8) & (along > along.max() - BAR))
    if not len(upper):
        return
    middle = surface.points[upper].mean(axis=0)
    for index in upper[np.argsort(np.linalg.norm(surface.points[upper] - middle, axis=1))]:
        for hand in [orientation(*each) for each in tilted((0.0, 90.0), (45.0, 55.0, 65.0))]:
            pose = Pose(surface.points[index] + up(float(np.abs(hand[2]) @ FINGERS) + 0.006), hand)
            poses = (pose, pose.shifted(-NEAR * pose.approach))
            if all(fits(around, there, arm.solids.floor, 0.0) for there in poses) and _reachable(arm, pose):
                yield Hold(pose, -pose.approach, grips=False, presses=True)


def _reachable(arm: Arm, pose: Pose) -> bool:
    base = np.asarray(arm.world.env.robots[0].base_pos)
    return float(np.linalg.norm(pose.position[:2] - base[:2])) < 0.85
