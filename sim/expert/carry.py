"""Goals ``on`` and ``in``: which grasp and which resting place go together, and carrying it out."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vla import rotation
from vla.sim.expert.articulated import operate
from vla.sim.expert.drag import FLAT, drag
from vla.sim.expert.grasps import Grasp, grasps, tilted, upright
from vla.sim.expert.hand import OPENING, YAWS, Pose, about_vertical, fits, up
from vla.sim.expert.joints import joint_of
from vla.sim.expert.motion import MISSED_M, Actions, Arm, close, descend, go, release, travel
from vla.sim.expert.placing import SWEEP, Placement, far, heading, placements, region, tipped
from vla.sim.expert.servo import CLOSED, OPEN, hand_pose, hand_position
from vla.sim.expert.solids import Cloud
from vla.sim.expert.subtasks import Step, Steps, Subtask, during

HEIGHTS = (0.006, 0.03, 0.06, 0.09, 0.12, 0.15)  # [m] above its rest at which a thing is let go
BACK = 0.09  # [m] of the pose before a grasp
RAISED = 0.09  # [m] that a thing is lifted first
LIFTED = 0.03  # [m] by which it must have come along
HELD = 0.05  # [m] that a thing may slip in the fingers before it counts as lost
LYING, STILL = 20, 0.001  # steps at most until what was dropped lies, and what it moves in one then [m]
SAGS, RAISES = 0.006, 0.03  # [m] that a thing may hang lower than planned where it goes in sideways; that it is raised
FALL = 0.8  # cost of a metre of falling
CHECKS = 500  # pairs of a grasp and a placement looked at
ALIGNED, SLIP = 0.06, 0.5  # [rad] that is close enough, and that is corrected, before something is put down
ROUNDS = 5
NARROW = 0.024  # [m] of each finger where there is little room
TILTS_DEG = (20.0, 40.0, 60.0, 78.0)
SIDEWAYS = 1.75  # [rad] from straight ahead, that a leaning hand points to at most
BEHIND = 0.2  # cost of a hand beside what it pushes in
RAISED_COS, BACK_COS = 0.25, -0.35  # of a hand's approach with the vertical, and with the way out from the base
LEANING = tilted(tilts_deg=TILTS_DEG)

type Tried = list[tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3 3"]]]


@dataclass(frozen=True)
class Plan:
    """A grasp, where the thing goes and from how far above [m] it is dropped."""

    grasp: Grasp
    placement: Placement
    height: float


def put(arm: Arm, predicate: list[str], part: int = 0, parts: int = 1) -> Steps:
    """Actions that bring an object where a goal wants it; returns whether it is there."""
    source, target = predicate[1:]
    failed: Tried = []
    if _cramped(arm, predicate, part, parts):
        yield from operate(arm, ["open", target], fully=True)
    for _ in range(ROUNDS):
        chosen = plan(arm, predicate, part, parts, failed)
        if chosen is None:
            if arm.solids.height(source) > FLAT:
                return False
            yield from drag(arm, source, target, region(arm.world, predicate, part, parts).centre)
            if arm.satisfied(predicate):
                return True
            continue
        origin = arm.world.position(source)
        turned = arm.world.rotation(source)
        held = yield from pick(arm, source, chosen.grasp, target)
        if held:
            aligned = chosen.placement.rotation @ turned
            held = yield from _place(arm, source, target, chosen, aligned)
        if arm.satisfied(predicate):
            return True
        if not held:
            failed.append((turned.T @ (chosen.grasp.pose.position - origin), turned.T @ chosen.grasp.pose.rotation))
    return False


def plan(arm: Arm, predicate: list[str], part: int, parts: int, failed: Tried) -> Plan | None:
    """The cheapest pair of grasp and placement at which the hand has room, upright if possible."""
    source = predicate[1]
    where = region(arm.world, predicate, part, parts)
    surface, around = arm.solids.of(source), arm.solids.around()
    others = Cloud(arm.solids.around(source), where.centre, 0.6)
    origin, turned = arm.world.position(source), arm.world.rotation(source)
    ahead = heading(turned)
    hands = ((upright(heading=ahead), OPENING), (LEANING, OPENING), (upright(), NARROW), (LEANING, NARROW))
    ways = (placements, tipped) if arm.solids.height(source) > FLAT else (placements,)
    for way in ways:
        options = way(arm.solids, source, where)
        along = () if way is placements and options and options[0].way[2] > 0.5 else ((_leaning(ahead), OPENING),)
        for orientations, opening in (*hands, *along) if options else ():
            found = grasps(surface, around, arm.solids.floor, orientations, arm.rng, opening=opening)
            found = [grasp for grasp in found if not _tried(grasp, origin, turned, failed)]
            best = _pair(arm, found, options, origin, others)
            if best is not None:
                return best
    return None


def _cramped(arm: Arm, predicate: list[str], part: int, parts: int) -> bool:
    """Whether a thing would not come to lie in a drawer, below its rim, and the drawer could be opened further."""
    site = arm.world.env.object_sites_dict.get(predicate[2])
    if predicate[0] != "in" or site is None or not site.joints:
        return False
    joint = joint_of(arm.world, ["open", predicate[2]], fully=True)
    if not joint.slides or joint.ended:
        return False
    where = region(arm.world, predicate, part, parts)
    under = arm.solids.of(predicate[1]).points[:, 2].min() - arm.world.position(predicate[1])[2]
    options = placements(arm.solids, predicate[1], where)
    return min((option.origin[2] for option in options), default=np.inf) + under > where.centre[2]


def _pair(
    arm: Arm, found: list[Grasp], options: list[Placement], origin: Float64[np.ndarray, "3"], others: Cloud
) -> Plan | None:
    base = np.asarray(arm.world.env.robots[0].base_pos)[:2]
    heap = [
        (grasp.cost + option.cost + far(grasp.pose.position, base) + odd, first, second)
        for first, grasp in enumerate(found)
        for second, option in enumerate(options)
        if np.isfinite(odd := _odd(grasp, option, option.origin[:2] - base))
    ]
    best, least = None, np.inf
    for cost, first, second in heapq.nsmallest(CHECKS, heap):
        if cost >= least:
            break
        grasp, option = found[first], options[second]
        pose = _carried(grasp.pose, origin, option)
        cost += far(pose.position, base)
        if grasp.tilt == 0 and not _turnable(grasp.yaw + option.turn, pose, base):
            continue
        sideways = option.way[2] < 0.5
        steps = [step for step in SWEEP if step <= option.reach]
        for height in HEIGHTS[:1] if sideways else HEIGHTS:
            there = pose.shifted(up(height))
            if all(fits(others, there.shifted(step * option.way), arm.solids.floor) for step in steps):
                if cost + FALL * height < least:
                    best, least = Plan(grasp, option, height), cost + FALL * height
                break
    return best


def pick(arm: Arm, name: str, grasp: Grasp, target: str = "") -> Steps:
    """Approach, close, lift; returns whether the object came along. ``target`` is where it will go."""

    def part(label: str, actions: Actions) -> Iterator[Step]:
        return during(Subtask(label, name, target), actions)

    rest = arm.world.position(name)
    pose = grasp.pose
    wide = OPEN if grasp.opening == OPENING else grasp.opening
    yield from part("reach", travel(arm, pose.shifted(-BACK * pose.approach), wide))
    pose = pose.shifted(arm.world.position(name) - rest)  # it may have been pushed, or was still rolling
    yield from part("grasp", descend(arm, pose, wide))
    yield from part("grasp", close(arm, pose))
    before = arm.world.position(name)
    start = hand_position(arm.world)
    yield from part("lift", go(arm, pose.shifted(up(RAISED)), CLOSED, steps=16, tolerance=0.03, turned=0.5))
    risen = hand_position(arm.world)[2] - start[2]
    if arm.world.position(name)[2] - before[2] > min(LIFTED, 0.6 * risen) and risen > 0.01:
        return True
    back = pose.shifted(-BACK * pose.approach + up(0.03))
    yield from part("retreat", release(4))
    yield from part("retreat", go(arm, back, OPEN, steps=12, tolerance=0.03))
    return False


def _place(arm: Arm, name: str, to: str, chosen: Plan, aligned: Float64[np.ndarray, "3 3"]) -> Steps:
    """Carry there, turn as wanted, let go, leave; returns whether it was held until then."""

    def part(label: str, actions: Actions) -> Iterator[Step]:
        return during(Subtask(label, name, to), actions)

    option = chosen.placement
    wanted = option.rotation @ chosen.grasp.pose.rotation
    target = option.origin + up(chosen.height)
    offset = _offset(arm, name, wanted)
    over = Pose(target + offset + (option.reach if option.way[2] < 0.5 else 0.08) * option.way, wanted)
    yield from part("carry", _while_held(arm, name, travel(arm, over, CLOSED, held=name, turned=ALIGNED)))
    slipped = rotation.from_matrix(aligned @ arm.world.rotation(name).T, "axis_angle")[2]
    if ALIGNED < abs(slipped) < SLIP:  # it has turned in the fingers
        wanted = about_vertical(float(slipped)) @ hand_pose(arm.world).rotation
        back = Pose(hand_position(arm.world), wanted)
        yield from part("carry", go(arm, back, CLOSED, steps=10, turned=ALIGNED))
    drift = _offset(arm, name, wanted)
    over = Pose(over.position + drift - offset, wanted)
    if np.linalg.norm(drift - offset) <= HELD and np.linalg.norm(over.position - hand_position(arm.world)) > MISSED_M:
        offset = drift  # it slipped on the way, was turned back, and is still held: go on from there
        yield from part("carry", _while_held(arm, name, travel(arm, over, CLOSED, held=name, turned=ALIGNED)))
        drift = _offset(arm, name, wanted)
    if np.linalg.norm(drift - offset) > HELD:
        yield from part("retreat", _dropped(arm, name))
        return False
    there = Pose(target + drift, wanted)
    sag = _sag(arm, name, aligned, target[2]) if option.way[2] < 0.5 else 0.0
    if sag > SAGS:  # it would strike the edge of what it shall be put on
        there = there.shifted(up(min(sag, RAISES)))
        above = there.shifted(option.reach * option.way)
        yield from part("carry", go(arm, above, CLOSED, steps=15, tolerance=0.006, turned=0.25))
    if option.way[2] > 0.5:
        yield from part("place", descend(arm, there, CLOSED, -option.way))
    else:
        yield from part("place", go(arm, there, CLOSED, steps=50, tolerance=0.012, turned=0.25, speed=0.6))
    yield from part("place", release())
    out = there.shifted((0.1 if option.way[2] > 0.5 else option.reach) * option.way)
    yield from part("retreat", go(arm, out, OPEN, steps=30, tolerance=0.03, turned=1.0))
    return True


def _offset(arm: Arm, name: str, wanted: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3"]:
    """From an object to the hand that holds it, when the hand is turned as wanted [m]."""
    return wanted @ hand_pose(arm.world).rotation.T @ (hand_position(arm.world) - arm.world.position(name))


def _sag(arm: Arm, name: str, aligned: Float64[np.ndarray, "3 3"], height: float) -> float:
    """How much lower an object hangs than it would, turned as planned, with its origin at a height [m].

    A pan by its handle tips, and bends down the arm.
    """
    points = arm.solids.of(name).points
    planned = (points - arm.world.position(name)) @ arm.world.rotation(name) @ aligned.T
    return height + float(planned[:, 2].min()) - float(points[:, 2].min())


def _while_held(arm: Arm, name: str, actions: Actions) -> Actions:
    """The actions until the object is no longer where it was in the hand."""
    kept = hand_pose(arm.world).rotation.T @ (arm.world.position(name) - hand_position(arm.world))
    for raw in actions:
        now = hand_pose(arm.world).rotation.T @ (arm.world.position(name) - hand_position(arm.world))
        if np.linalg.norm(now - kept) > HELD:
            return
        yield raw


def _dropped(arm: Arm, name: str) -> Actions:
    """Let go, and wait until the object lies: what is planned while it falls is planned for another place."""
    before = np.full(3, np.inf)
    for raw in release(LYING):
        if np.linalg.norm(arm.world.position(name) - before) < STILL:
            return
        before = arm.world.position(name)
        yield raw


def _carried(pose: Pose, origin: Float64[np.ndarray, "3"], option: Placement) -> Pose:
    """The hand's pose when what it holds is where it shall be."""
    turn = option.rotation
    return Pose(option.origin + turn @ (pose.position - origin), turn @ pose.rotation)


def _turnable(yaw: float, pose: Pose, base: Float64[np.ndarray, "2"]) -> bool:
    bearing = float(np.arctan2(*(pose.position[:2] - base)[::-1]))
    return YAWS[0] < yaw - bearing < YAWS[1]


def _odd(grasp: Grasp, option: Placement, outward: Float64[np.ndarray, "2"]) -> float:
    """What it costs that a hand which tips something over is not behind it on its way in.

    Infinite where the hand would point up, or back to the arm's base, which is so far ``outward`` [m].
    """
    if option.upright:
        return 0.0
    approach = option.rotation @ grasp.pose.approach
    if approach[2] > RAISED_COS or approach[:2] @ outward < BACK_COS * np.linalg.norm(outward):
        return np.inf
    return BEHIND * (1.0 + float(approach @ option.way))


def _leaning(ahead: float) -> list[tuple[float, float, float]]:
    """Hands that lean along and across a thing with this heading [rad], away from the arm's base."""
    directions = [(ahead + quarter * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi for quarter in range(4)]
    return [
        (float((towards + across + np.pi / 2) % np.pi - np.pi / 2), float(towards), float(tilt))
        for tilt in np.deg2rad(TILTS_DEG)
        for towards in directions
        if abs(towards) < SIDEWAYS
        for across in (0.0, np.pi / 2)
    ]


def _tried(grasp: Grasp, origin: Float64[np.ndarray, "3"], turned: Float64[np.ndarray, "3 3"], failed: Tried) -> bool:
    """Whether nearly the same grasp of the object has failed before."""
    position = turned.T @ (grasp.pose.position - origin)
    turn = turned.T @ grasp.pose.rotation
    return any(np.linalg.norm(position - other) < 0.015 and np.trace(turn.T @ old) > 2.7 for other, old in failed)
