"""Where an arm's joints are in space, from its measured angles: enough to draw it, not to control it."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiment import EmbodimentSpec

Row = tuple[float, float, float]
"""Of a chain in Craig's (modified) convention: a [m], alpha [rad], d [m]; the joint turns around its own z axis."""

PANDA: tuple[Row, ...] = (
    (0.0, 0.0, 0.333),
    (0.0, -math.pi / 2, 0.0),
    (0.0, math.pi / 2, 0.316),
    (0.0825, math.pi / 2, 0.0),
    (-0.0825, -math.pi / 2, 0.384),
    (0.0, math.pi / 2, 0.0),
    (0.088, math.pi / 2, 0.0),
    (0.0, 0.0, 0.107),
)
"""Franka Control Interface, "Denavit-Hartenberg parameters" of the Panda; the last row is its flange."""

CHAINS: dict[str, tuple[Row, ...]] = {"panda_arm": PANDA}
"""By embodiment, of those whose states are in the frame of the arm's own base."""


def chain_points(rows: Sequence[Row], angles: Float64[np.ndarray, "j"]) -> Float64[np.ndarray, "k 3"]:
    """The base and the origin of each row's frame [m]; rows beyond the angles do not turn."""
    turns = np.concatenate([angles, np.zeros(len(rows) - len(angles))])
    pose = np.eye(4)
    points: list[np.ndarray] = [np.zeros(3)]
    for (a, alpha, d), theta in zip(rows, turns, strict=True):
        ca, sa, ct, st = math.cos(alpha), math.sin(alpha), math.cos(theta), math.sin(theta)
        pose = pose @ np.array(
            [
                [ct, -st, 0.0, a],
                [st * ca, ct * ca, -sa, -d * sa],
                [st * sa, ct * sa, ca, d * ca],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
        points.append(pose[:3, 3])
    return np.array(points)


def skeleton(spec: EmbodimentSpec) -> Callable[[Float32[np.ndarray, "s"]], Float64[np.ndarray, "k 3"]] | None:
    """From a state of the embodiment to the places of its arm's joints; None where nobody knows its chain."""
    rows = CHAINS.get(spec.name)
    places = [place for place, channel in enumerate(spec.state) if channel.kind == "joint" and channel.unit == "rad"]
    if rows is None or not 0 < len(places) <= len(rows):
        return None
    scale = np.array([spec.state[place].scale for place in places])
    return lambda state: chain_points(rows, state[places].astype(np.float64) * scale)
