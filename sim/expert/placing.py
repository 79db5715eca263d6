"""Where a thing can be put down so that a goal holds: positions, turns and the ways there, from the scene's shapes."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float64

from vla import rotation
from vla.sim.expert.boxes import Boxes, Offsets, Room
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
TIPS_DEG = (30.0, 50.0, 70.0, 90.0)  # from upright of what does not fit in standing
WAYS = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0))  # out of where it was put
SWEEP = (0.0, 0.05, 0.11, 0.18, 0.25)  # [m] along a way
SWEEPS = {SWEEP[-1]: SWEEP[1:]}  # how far a thing moves until it is out [m], and where it is looked at until then
FINE_SWEEPS = {reach: np.arange(0.015, reach + 0.015, 0.015).tolist() for reach in SWEEP[2:]}  # boards are thin
OUT = (0.08, 0.2)  # [m] that a thing can rise where it is out of a shelf
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
        tip: over to a side, before the turn.
        reach: how far it moves along the way until it is out [m].
    """

    origin: Float64[np.ndarray, "3"]
    turn: float
    way: Float64[np.ndarray, "3"]
    cost: float
    tip: Float64[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))
    reach: float = SWEEP[-1]

    @property
    def rotation(self) -> Float64[np.ndarray, "3 3"]:
        """From how the thing is turned now."""
        return about_vertical(self.turn) @ self.tip

    @property
    def upright(self) -> bool:
        """Whether it stays as upright as it is."""
        return bool(self.tip[2, 2] > 0.999)


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
    """Ways to put an object down there, as upright as it is, without it touching anything else, the best first."""
    ground, yaws = _Ground(solids, source, where), turns(solids.world.rotation(source), where.yaw)
    found = [option for turn in yaws for option in ground.free(turn, np.eye(3), SWEEPS)]
    if not found:  # a rack is meant to be touched on all sides: lower it there, if nothing is above, and see
        found = ground.lowered()
    return _cheapest(found)[:most]


def tipped(solids: Solids, source: str, where: Region, *, each: int = 4) -> list[Placement]:
    """The same for what does not fit in standing, tipped over to a side; of each way to do so the ``each`` best.

    A book in a low shelf, a bottle in a drawer.
    """
    ground, ahead = _Ground(solids, source, where), heading(solids.world.rotation(source))
    found: list[Placement] = []
    for angle, side in itertools.product(np.deg2rad(TIPS_DEG), range(4)):
        axis = np.array([np.cos(ahead + side * np.pi / 2), np.sin(ahead + side * np.pi / 2), 0.0])
        tip = rotation.to_matrix(angle * axis, "axis_angle")
        for quarter in range(4):
            turn = (where.yaw - ahead + quarter * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
            found += _cheapest(list(ground.free(float(turn), tip, FINE_SWEEPS)))[:each]
    return _cheapest(found)


class _Ground:
    """Where one thing goes, and what is there."""

    def __init__(self, solids: Solids, source: str, where: Region):
        world = solids.world
        self._where, self._floor = where, solids.floor
        self._still = solids.boxes_around(source)
        self._thing = solids.boxes(source).moved(np.eye(3), -world.position(source))
        self._base = np.asarray(world.env.robots[0].base_pos)[:2]
        self._anchor = where.spots.mean(axis=0)

    def free(
        self, turn: float, tip: Float64[np.ndarray, "3 3"], sweeps: Mapping[float, Sequence[float]]
    ) -> Iterator[Placement]:
        """Placements of the thing in one attitude, with what each costs but for its height.

        Args:
            turn: about the vertical [rad].
            tip: before that.
            sweeps: steps of each way out [m]; the longest is taken as it is, of the others the first after which the
                thing can rise.
        """
        turned = self._thing.moved(about_vertical(turn) @ tip, np.zeros(3))
        covered = (np.abs(turned.middles) + turned.reach)[:, :2].max(axis=0)
        taken = TAKEN * float(np.maximum(covered - self._where.share, 0.0).sum())
        effort = 0.02 * (abs(turn) + float(np.linalg.norm(rotation.from_matrix(tip, "axis_angle"))))
        room, rests = self._rests(turned)
        gaps = room.gaps(rests + up(LIFT))
        rests, gaps = rests[gaps > CLEAR], gaps[gaps > CLEAR]
        for index, way in enumerate(np.array(WAYS)):
            for reach, passed in sweeps.items():
                steps = np.asarray(passed)[:, None] * way
                if reach < max(sweeps):
                    steps = np.concatenate([steps, steps[-1] + np.array([up(rise) for rise in OUT])])
                free = _all_free(room, rests, up(LIFT) + steps)
                for rest, gap in zip(rests[free], gaps[free], strict=True):
                    away = self._away(rest) + TIGHT * max(0.0, LIFT - float(gap)) + far(rest, self._base)
                    yield Placement(rest, turn, way, away + taken + effort + 0.05 * (index > 0), tip, reach)
                rests, gaps = rests[~free], gaps[~free]

    def lowered(self) -> list[Placement]:
        """Placements from above, as the thing is turned now, that may touch what is around when it is nearly down."""
        room, rests = self._rests(self._thing)
        above = np.array(WAYS[0])
        free = _all_free(room, rests, np.array(SWEEP[2:])[:, None] * above)
        return [Placement(rest, 0.0, above, 0.1 + self._away(rest)) for rest in rests[free]]

    def _rests(self, turned: Boxes) -> tuple[Room, Float64[np.ndarray, "n 3"]]:
        """Room about the thing, and the origins at which it rests and the goal holds."""
        where = self._where
        corners = np.array([[*where.spots.min(axis=0), where.centre[2]], [*where.spots.max(axis=0), where.centre[2]]])
        room = Room(turned, self._still, corners)
        floor = self._floor - float((turned.middles - turned.reach)[:, 2].min())
        rests = np.array([[*spot, room.rest(spot, where.ceiling, floor)] for spot in where.spots])
        return room, rests[[where.holds(rest + up(0.002)) for rest in rests]]

    def _away(self, rest: Float64[np.ndarray, "3"]) -> float:
        return float(np.linalg.norm(rest[:2] - self._anchor))


def _all_free(room: Room, rests: Offsets, steps: Offsets) -> Bool[np.ndarray, "n"]:
    """Whether a thing has room after each of some steps from where it rests."""
    swept = (rests[:, None] + steps).reshape(-1, 3)
    return np.asarray((room.gaps(swept) > CLEAR).reshape(len(rests), len(steps)).all(axis=1))


def _cheapest(found: list[Placement]) -> list[Placement]:
    """The cheapest first, a low one before a high one."""
    lowest = min((option.origin[2] for option in found), default=0.0)
    found = [replace(option, cost=option.cost + PERCHED * float(option.origin[2] - lowest)) for option in found]
    return sorted(found, key=lambda option: option.cost)


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
