"""The Panda's hand as boxes, and whether it has room at a pose.

The hand's frame has its origin between the finger tips, z the way the fingers point and y the way they open; pointing
down at a yaw of 0, x is the base's.
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from vla import rotation
from vla.sim.expert.solids import Cloud

POINTING_DOWN = np.diag([1.0, -1.0, -1.0])
OPENING = 0.039  # [m] from the middle to each finger's inner face, fully open
TIP = 0.010  # [m] that the fingers reach beyond the frame's origin
DEPTH = 0.031  # [m] from the frame's origin back to the palm
YAWS = (-1.75, 3.3)  # [rad] that the last joint allows, the hand pointing down in front of the arm
MARGIN = 0.002  # [m] around each box


@dataclass(frozen=True)
class Pose:
    """Of the hand: where the point between its finger tips is [m], and how it is turned (hand to world)."""

    position: Float64[np.ndarray, "3"]
    rotation: Float64[np.ndarray, "3 3"]

    @property
    def approach(self) -> Float64[np.ndarray, "3"]:
        """The way the fingers point."""
        return self.rotation[:, 2]

    def shifted(self, offset: Float64[np.ndarray, "3"]) -> "Pose":
        """The same orientation elsewhere."""
        return Pose(self.position + offset, self.rotation)

    def turned(self, turn: Float64[np.ndarray, "3 3"], about: Float64[np.ndarray, "3"]) -> "Pose":
        """Carried along by a rotation about a point."""
        return Pose(about + turn @ (self.position - about), turn @ self.rotation)


def orientation(yaw: float, towards: float = 0.0, tilt: float = 0.0) -> Float64[np.ndarray, "3 3"]:
    """Pointing down with ``yaw``, then tilted so that the fingers point to the compass direction ``towards`` [rad]."""
    axis = np.array([np.sin(towards), -np.cos(towards), 0.0])
    return rotation.to_matrix(axis * tilt, "axis_angle") @ about_vertical(yaw) @ POINTING_DOWN


def turned_within(pose: Pose, base: Float64[np.ndarray, "2"]) -> float:
    """Yaw [rad] of a hand as seen from the arm's base, of the turns that are the same the one within :data:`YAWS`."""
    ahead = (pose.rotation @ POINTING_DOWN)[:2, 0]
    yaw = float(np.arctan2(ahead[1], ahead[0]) - np.arctan2(*(pose.position[:2] - base)[::-1]))
    middle = sum(YAWS) / 2
    return middle + (yaw - middle + np.pi) % (2 * np.pi) - np.pi


def up(height: float) -> Float64[np.ndarray, "3"]:
    """An offset [m]."""
    return np.array([0.0, 0.0, height])


def about_vertical(angle: float) -> Float64[np.ndarray, "3 3"]:
    """The matrix of a turn about the vertical [rad]."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


@functools.cache
def boxes(opening: float) -> Float64[np.ndarray, "k 2 3"]:
    """Lower and upper corners in the hand's frame: four of the fingers, two of the palm, one of the wrist."""
    fingers = [
        [[-0.010, opening, -0.012], [0.010, opening + 0.019, TIP]],
        [[-0.010, opening, -0.044], [0.010, opening + 0.026, -0.012]],
    ]
    mirrored = [[[low[0], -high[1], low[2]], [high[0], -low[1], high[2]]] for low, high in fingers]
    palm = [[[-0.022, -0.103, -0.056], [0.022, 0.103, -DEPTH]], [[-0.032, -0.103, -0.124], [0.032, 0.103, -0.056]]]
    wrist = [[[-0.10, -0.06, -0.24], [0.055, 0.06, -0.13]]]
    return np.array([*fingers, *mirrored, *palm, *wrist])


def inside(
    points: Float64[np.ndarray, "n 3"], pose: Pose, opening: float = OPENING, margin: float = MARGIN
) -> Bool[np.ndarray, "n"]:
    """Which points lie within the hand."""
    local = (points - pose.position) @ pose.rotation
    shape = boxes(opening)
    low, high = shape[:, 0] - margin, shape[:, 1] + margin
    found = np.zeros(len(points), dtype=bool)
    near = np.flatnonzero(((local > low.min(axis=0)) & (local < high.max(axis=0))).all(axis=1))  # of most scenes, few
    if len(near):
        within = np.all((local[near, None] > low) & (local[near, None] < high), axis=2)
        found[near] = within.any(axis=1)
    return found


def fits(cloud: Cloud, pose: Pose, floor: float, opening: float = OPENING) -> bool:
    """Whether the hand touches none of the points, nor the floor."""
    if lowest(pose, opening) <= floor + MARGIN:
        return False
    return not inside(cloud.points, pose, opening).any()


def lowest(pose: Pose, opening: float = OPENING) -> float:
    """Height of the hand's lowest corner [m]."""
    return float(pose.position[2] + (_corners(opening) @ pose.rotation[2]).min())


@functools.cache
def _corners(opening: float) -> Float64[np.ndarray, "k 3"]:
    """Of all boxes but the wrist's, which is the highest where that matters."""
    shape = boxes(opening)[:-1]
    which = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
    return shape[:, which, np.arange(3)].reshape(-1, 3)
