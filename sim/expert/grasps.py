"""Where a thing can be gripped: found from its shape, not looked up by its name.

::

      │ │ fingers        A slice of the surface as wide as a finger is cut into groups along the direction in which
     ┌┘ └┐               the fingers close. A group that fits between the fingers, with room for them on both sides and
    ─┤ ▓ ├─ y            faces that look at them, is a grasp: a bowl's rim, a bottle's neck, a box's narrow side,
       ▓                 a handle.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vla.sim.expert.hand import OPENING, TIP, Pose, fits, orientation
from vla.sim.expert.solids import Cloud, Points, Surface

WIDEST = 0.070  # [m] that is gripped
GAP = 0.024  # [m] beside what is gripped for a finger
HALF_FINGER = 0.009  # [m]
DEPTHS = (0.026, 0.018, 0.011, 0.006, 0.002)  # [m] of the frame's origin below the top of what is gripped
LOOKED = 500  # grasps whose room is looked at
FACING = 0.65  # smallest mean cosine between the faces' normals and the closing direction: a bowl's wall leans
TILTS_DEG = (35.0, 50.0, 65.0, 75.0, 85.0)
DIRECTIONS_DEG = (90.0, -90.0, 0.0)  # that a tilted hand points to


@dataclass(frozen=True)
class Grasp:
    """A pose at which closing the fingers holds something; the smaller the cost, the better.

    ``opening``: how far from the middle [m] each finger is on the way there.
    """

    pose: Pose
    cost: float
    yaw: float
    tilt: float
    opening: float = OPENING


def upright(step_deg: float = 15.0, heading: float | None = None) -> list[tuple[float, float, float]]:
    """Yaw, direction and angle of tilt [rad] of hands that point down, in steps and along and across a heading."""
    yaws = [float(yaw) for yaw in np.deg2rad(np.arange(-75, 105.1, step_deg))]
    if heading is not None:
        yaws += [(heading + quarter * np.pi / 2 + np.deg2rad(75)) % np.pi - np.deg2rad(75) for quarter in (0, 1)]
    return [(yaw, 0.0, 0.0) for yaw in yaws]


def tilted(
    yaws_deg: Iterable[float] = (0.0, 90.0), tilts_deg: Iterable[float] = TILTS_DEG
) -> list[tuple[float, float, float]]:
    """Hands that lean to the sides and to the front."""
    return [
        (np.deg2rad(yaw), np.deg2rad(direction), np.deg2rad(tilt))
        for tilt in tilts_deg
        for direction in DIRECTIONS_DEG
        for yaw in yaws_deg
    ]


def grasps(
    surface: Surface,
    obstacles: Points,
    floor: float,
    orientations: list[tuple[float, float, float]],
    rng: np.random.Generator,
    *,
    most: int = 30,
    opening: float = OPENING,
    facing: float = FACING,
    reach: float = 0.10,
) -> list[Grasp]:
    """The best grasps of a surface that the hand can approach without touching anything.

    Args:
        surface: of what is to be gripped.
        obstacles: points of everything the hand must not touch, the surface's own included.
        floor: height below which there is no room [m].
        orientations: yaw, direction and angle of tilt [rad] to try.
        rng: breaks ties, so that demonstrations differ.
        most: grasps to return.
        opening: how far from the middle [m] each finger is on the way there.
        facing: smallest mean cosine between the faces' normals and the closing direction.
        reach: way of the hand along its approach that has to be free [m].
    """
    centre = (surface.points.min(axis=0) + surface.points.max(axis=0)) / 2
    found: list[Grasp] = []
    for yaw, towards, tilt in orientations:
        turn = orientation(yaw, towards, tilt)
        for position, cost in _held(surface, turn, centre, min(WIDEST, 2 * opening - 0.008), facing):
            preference = cost + 0.01 * abs(yaw) + 0.04 * tilt + rng.uniform(0, 0.01)
            found.append(Grasp(Pose(position, turn), preference, yaw, tilt, opening))
    found.sort(key=lambda grasp: grasp.cost)
    near = Cloud(obstacles, centre, 0.4)
    chosen: list[Grasp] = []
    looked = 0
    for grasp in found:
        if any(_alike(grasp, other) for other in chosen):
            continue
        looked += 1
        if looked > LOOKED:
            break
        if _approachable(grasp, near, floor, reach):
            chosen.append(grasp)
            if len(chosen) == most:
                break
    return chosen


def _alike(grasp: Grasp, other: Grasp) -> bool:
    """Whether looking at both would be a waste."""
    if np.abs(grasp.pose.position - other.pose.position).max() > 0.012:
        return False
    return float(np.trace(grasp.pose.rotation.T @ other.pose.rotation)) > 2.8


def _held(
    surface: Surface, turn: Float64[np.ndarray, "3 3"], centre: Float64[np.ndarray, "3"], widest: float, least: float
) -> Iterable[tuple[Float64[np.ndarray, "3"], float]]:
    """Positions for one orientation, each with its cost."""
    points, normals = (surface.points - centre) @ turn, surface.normals @ turn
    spread = np.ptp(points[:, 0])
    count = max(1, int(spread / 0.008))
    for along in np.linspace(points[:, 0].min(), points[:, 0].max(), count + 2)[1:-1] if count > 1 else (0.0,):
        strip = np.abs(points[:, 0] - along) < HALF_FINGER
        if not strip.any():
            continue
        slice_, facing = points[strip], normals[strip]
        tops = {0.0, *(float(slice_[group, 2].min()) - float(slice_[:, 2].min()) for group in _groups(slice_[:, 1]))}
        levels = sorted({(round(top + depth, 3), depth) for top in tops for depth in DEPTHS})
        for level, depth in levels:
            at = slice_[:, 2].min() + level
            height = (slice_[:, 2] > at - 0.012) & (slice_[:, 2] < at + TIP)
            if height.sum() < 4 or at > slice_[:, 2].max() + 0.002:
                continue
            for group in _groups(slice_[height, 1]):
                gripped = _across(slice_[height, 1][group], facing[height, 1][group], widest, least)
                if gripped is None:
                    continue
                middle, width, quality = gripped
                position = centre + turn @ np.array([along, middle, at])
                lever = np.hypot(along, middle) if abs(turn[2, 2]) > 0.5 else abs(along)
                shallow = 2.0 * max(0.0, 0.012 - depth) + 0.2 * max(0.0, DEPTHS[0] - depth)
                yield position, lever + shallow + 0.5 * (1 - quality) + 0.2 * max(0.0, width - 0.055)


def _across(
    values: Float64[np.ndarray, "n"], looks: Float64[np.ndarray, "n"], widest: float, least: float
) -> tuple[float, float, float] | None:
    """Middle, width [m] and quality of what fingers would close on, if they can."""
    low, high = float(values.min()), float(values.max())
    if len(values) < 4 or high - low > widest:
        return None
    quality = min(_best(-looks[values < low + 0.004]), _best(looks[values > high - 0.004]))
    return ((low + high) / 2, high - low, quality) if quality >= least else None


def _groups(values: Float64[np.ndarray, "n"]) -> list[np.ndarray]:
    """Masks of the values that are not separated by room for a finger."""
    order = np.argsort(values)
    breaks = np.flatnonzero(np.diff(values[order]) > GAP)
    groups = []
    for part in np.split(order, breaks + 1):
        mask = np.zeros(len(values), dtype=bool)
        mask[part] = True
        groups.append(mask)
    return groups


def _best(cosines: Float64[np.ndarray, "n"]) -> float:
    """The mean of the better half: edges have samples that look elsewhere."""
    if not len(cosines):
        return 0.0
    return float(np.sort(cosines)[-max(1, len(cosines) // 3) :].mean())


def _approachable(grasp: Grasp, obstacles: Cloud, floor: float, reach: float) -> bool:
    pose, backs = grasp.pose, (0.0, reach / 3, reach)
    return all(fits(obstacles, pose.shifted(-back * pose.approach), floor, grasp.opening) for back in backs)
