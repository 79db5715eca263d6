"""Where a thing can be put down so that a goal holds: positions, turns and the ways there, from the scene's shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64

from vla.sim.expert.boxes import Room
from vla.sim.expert.hand import about_vertical, up
from vla.sim.expert.solids import Solids
from vla.sim.libero_world import LiberoWorld

CENTRED = 0.02  # [m] that LIBERO's "on" allows between two objects' origins is 0.03
CLEAR = -0.005  # [m] from everything else, or a placement is none; so much gives way: a bowl slides past a handle
TIGHT = 4.0  # cost of each metre by which neighbours are nearer than what it is lifted for the check
TAKEN = 2.0  # cost of each metre that it covers of its neighbours' shares
PERCHED = 2.0  # cost of a metre above the lowest placement: what leans on a wall falls off it
LIFT = 0.010  # [m] above where the thing will rest, for the check of what it would collide with
TURNS_DEG = (0.0, 90.0, -90.0, 45.0, -45.0, 180.0)
WAYS = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0))  # out of where it was put
SWEEP = (0.0, 0.05, 0.11, 0.18, 0.25)  # [m] along a way
EASY_REACH = 0.74  # [m] horizontally from the arm's base; beyond it the elbow nears its limit and the hand creeps
REACH = 0.80  # [m] likewise; beyond it a hand that points down sinks under its own weight
UNDER = 0.10  # [m] that LIBERO's "on" allows above a region


@dataclass(frozen=True)
class Placement:
    """A thing put down.

    Attributes:
        origin: of its body at rest [m].
        turn: about the vertical, from how it is turned now [rad].
        way: direction in which the hand leaves, and the thing came.
        cost: the smaller, the better.
    """

    origin: Float64[np.ndarray, "3"]
    turn: float
    way: Float64[np.ndarray, "3"]
    cost: float


@dataclass(frozen=True)
class Region:
    """Where a goal allows an object's origin to rest.

    Attributes:
        centre: its middle [m].
        spots: horizontal positions to try [m].
        ceiling: height that the object's origin is lowered from [m].
        yaw: of what is there, about the vertical [rad].
        holds: whether the goal's geometry would hold for an origin.
        share: half of what an object may cover without taking room from those that share the region [m].
    """

    centre: Float64[np.ndarray, "3"]
    spots: Float64[np.ndarray, "n 2"]
    ceiling: float
    yaw: float
    holds: Callable[[Float64[np.ndarray, "3"]], bool]
    share: Float64[np.ndarray, "2"] = field(default_factory=lambda: np.full(2, np.inf))


def region(world: LiberoWorld, predicate: Sequence[str], part: int = 0, parts: int = 1) -> Region:
    """Of a goal ``on`` or ``in``.

    Args:
        world: the scene.
        predicate: kind, object, target.
        part: the object's number among those that go there.
        parts: how many share the target.
    """
    kind, _, target = predicate
    env = world.env
    if target not in env.object_sites_dict:
        there = world.position(target)
        spots = there[:2] + _grid(np.array([CENTRED, CENTRED]), 3)
        yaw = heading(world.rotation(target))
        return Region(there, spots, np.inf, yaw, lambda origin: bool(np.hypot(*(origin - there)[:2]) < CENTRED + 0.004))
    site = env.object_sites_dict[target]
    centre = np.array(env.sim.data.get_site_xpos(target))
    matrix = np.array(env.sim.data.get_site_xmat(target)).reshape(3, 3)
    extent = np.abs(matrix @ np.asarray(site.size))
    size, yaw = extent[:2] * 0.9 - 0.004, heading(matrix)
    base = np.asarray(env.robots[0].base_pos)[:2]
    axis = int(np.linalg.norm(centre[:2] + np.array([size[0], 0.0]) - base) > REACH)  # else one is too far behind
    share = np.where(np.arange(2) == axis, extent[:2] / parts, np.inf) if parts > 1 else np.full(2, np.inf)
    spots = centre[:2] + _grid(np.maximum(size, 0.0), 9)
    spots[:, axis] += size[axis] * (2 * part + 1 - parts) / max(parts, 1)
    if kind == "in":
        return Region(
            centre, spots, centre[2] + extent[2], yaw, lambda origin: bool(site.in_box(centre, matrix, origin)), share
        )
    return Region(
        centre,
        spots,
        centre[2] + extent[2] + UNDER,
        yaw,
        lambda origin: bool(site.under(centre, matrix, origin + up(0.003))),
        share,
    )


def placements(solids: Solids, source: str, where: Region, *, most: int = 25) -> list[Placement]:
    """Ways to put an object down there without it touching anything else, the best first."""
    world = solids.world
    still, thing = solids.boxes_around(source), solids.boxes(source).moved(np.eye(3), -world.position(source))
    base = np.asarray(world.env.robots[0].base_pos)[:2]
    floor = solids.floor - float((thing.middles - thing.reach)[:, 2].min())
    anchor = where.spots.mean(axis=0)
    corners = np.array([[*where.spots.min(axis=0), where.centre[2]], [*where.spots.max(axis=0), where.centre[2]]])
    found: list[Placement] = []
    lowered = np.zeros((0, 3))
    for turn in turns(world.rotation(source), where.yaw):
        turned = thing.moved(about_vertical(turn), np.zeros(3))
        covered = (np.abs(turned.middles) + turned.reach)[:, :2].max(axis=0)
        taken = TAKEN * float(np.maximum(covered - where.share, 0.0).sum())
        room = Room(turned, still, corners)
        rests = np.array([[*spot, room.rest(spot, where.ceiling, floor)] for spot in where.spots])
        rests = rests[[where.holds(rest + up(0.002)) for rest in rests]]
        if turn == 0:
            lowered = rests
        gaps = room.gaps(rests + up(LIFT))
        rests, gaps = rests[gaps > CLEAR], gaps[gaps > CLEAR]
        for index, way in enumerate(np.array(WAYS)):
            swept = rests[:, None] + up(LIFT) + np.array(SWEEP[1:])[:, None] * way
            free = (room.gaps(swept.reshape(-1, 3)) > CLEAR).reshape(len(rests), len(SWEEP) - 1).all(axis=1)
            for rest, gap in zip(rests[free], gaps[free], strict=True):
                away = float(np.linalg.norm(rest[:2] - anchor)) + TIGHT * max(0.0, LIFT - float(gap)) + far(rest, base)
                found.append(Placement(rest, float(turn), way, away + taken + 0.02 * abs(turn) + 0.05 * (index > 0)))
            rests, gaps = rests[~free], gaps[~free]
    if not found:  # a rack is meant to be touched on all sides: lower it there and see
        above = np.array(WAYS[0])
        found = [Placement(rest, 0.0, above, 0.1 + float(np.linalg.norm(rest[:2] - anchor))) for rest in lowered]
    lowest = min((option.origin[2] for option in found), default=0.0)
    found = [replace(option, cost=option.cost + PERCHED * float(option.origin[2] - lowest)) for option in found]
    found.sort(key=lambda option: option.cost)
    return found[:most]


def far(position: Float64[np.ndarray, "3"], base: Float64[np.ndarray, "2"]) -> float:
    """What a grasp or a placement beyond easy reach costs."""
    away = float(np.linalg.norm(position[:2] - base))
    return 0.5 * max(0.0, away - EASY_REACH) + 3.0 * max(0.0, away - REACH)


def turns(turned: Float64[np.ndarray, "3 3"], yaw: float) -> list[float]:
    """About the vertical [rad], the smallest first: none, some, and those that align a thing with where it goes."""
    aligned = [yaw - heading(turned) + quarter * np.pi / 2 for quarter in range(4)]
    wrapped = {round(float((angle + np.pi) % (2 * np.pi) - np.pi), 3) for angle in [*np.deg2rad(TURNS_DEG), *aligned]}
    return sorted(wrapped, key=abs)


def heading(turned: Float64[np.ndarray, "3 3"]) -> float:
    """Compass direction [rad] of whichever axis of a body lies flattest."""
    axis = turned[:, int(np.argmin(np.abs(turned[2])))]
    return float(np.arctan2(axis[1], axis[0]))


def _grid(half: Float64[np.ndarray, "2"], count: int) -> Float64[np.ndarray, "n 2"]:
    lines = [np.linspace(-extent, extent, count) for extent in half]
    return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
