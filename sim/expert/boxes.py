"""Boxes that a thing and a scene are made of, and exactly where the thing can be among them without turning.

Two boxes are apart if and only if they are so along one of 15 directions: the three of each and the nine that are
perpendicular to one of both (Gottschalk et al., "OBBTree", 1996). For a given orientation these directions do not
change when the thing is shifted, so that many places are looked at together::

    gap(offset) = least over pairs of  most over directions of  |middles' distance along it + offset along it| - radii
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

CHUNK = 2_000_000  # numbers at a time

type Offsets = Float64[np.ndarray, "k 3"]


@dataclass(frozen=True)
class Boxes:
    """Middles [m], directions (columns) and half lengths [m] of boxes."""

    middles: Float64[np.ndarray, "n 3"]
    axes: Float64[np.ndarray, "n 3 3"]
    halves: Float64[np.ndarray, "n 3"]

    def __len__(self) -> int:
        return len(self.middles)

    def moved(self, rotation: Float64[np.ndarray, "3 3"], offset: Float64[np.ndarray, "3"]) -> "Boxes":
        """Turned about the origin, then shifted."""
        return Boxes(self.middles @ rotation.T + offset, rotation @ self.axes, self.halves)

    @property
    def reach(self) -> Float64[np.ndarray, "n 3"]:
        """Half lengths of the upright boxes around them."""
        return (np.abs(self.axes) * self.halves[:, None]).sum(axis=2)


class Room:
    """A thing of a given orientation among still boxes.

    Args:
        thing: its boxes, about its own origin.
        still: the scene's.
        offsets: where its origin may be asked about: the box around these, widened by ``margin`` [m], is looked at.
        margin: see above.
    """

    def __init__(self, thing: Boxes, still: Boxes, offsets: Offsets, margin: float = 0.3):
        low, high = offsets.min(axis=0) - margin, offsets.max(axis=0) + margin
        reach = thing.reach[:, None] + still.reach[None]
        between = still.middles[None] - thing.middles[:, None]
        first, second = np.nonzero(np.all((between > low - reach) & (between < high + reach), axis=2))
        mine, theirs = thing.axes[first].swapaxes(1, 2), still.axes[second].swapaxes(1, 2)  # rows are directions
        crossed = np.cross(mine[:, :, None], theirs[:, None]).reshape(len(first), 9, 3)
        lengths = np.linalg.norm(crossed, axis=2, keepdims=True)
        crossed = np.where(lengths > 1e-6, crossed / np.maximum(lengths, 1e-6), mine[:, :1])  # parallel: seen already
        self._directions = np.concatenate([mine, theirs, crossed], axis=1)
        self._radii = _radii(self._directions, thing, first) + _radii(self._directions, still, second)
        self._middles = ((thing.middles[first] - still.middles[second])[:, None] * self._directions).sum(axis=2)

    def gaps(self, offsets: Offsets, most: float = 0.02) -> Float64[np.ndarray, "k"]:
        """How far the thing is from the nearest box [m], but no more than ``most``; negative where it is inside one."""
        if not len(offsets):
            return np.zeros(0)
        low, high = offsets.min(axis=0), offsets.max(axis=0)
        between = np.abs(self._middles + self._directions @ ((low + high) / 2)) - self._radii
        near = (between - np.abs(self._directions) @ ((high - low) / 2)).max(axis=1) < most  # for any of the offsets
        size = max(1, CHUNK // max(1, 15 * int(near.sum())))
        parts = [self._gaps(offsets[begin : begin + size], near) for begin in range(0, len(offsets), size)]
        return np.minimum(np.concatenate(parts), most)

    def rest(self, spot: Float64[np.ndarray, "2"], start: float, floor: float) -> float:
        """Height of the thing's origin at which it, lowered at a spot, first touches something [m].

        Args:
            spot: horizontal place of its origin [m].
            start: height it is lowered from [m]; where that is inside something, it begins below that.
            floor: height at which it stands on the ground [m].
        """
        sideways = self._middles + self._directions[..., :2] @ spot
        slope = self._directions[..., 2]
        flat = np.abs(slope) < 1e-9
        apart = (flat & (np.abs(sideways) >= self._radii)).any(axis=1)
        steep = np.where(flat, 1.0, slope)
        ends = (np.array([-1.0, 1.0])[:, None, None] * self._radii - sideways) / steep
        lower = np.where(flat, -np.inf, ends.min(axis=0)).max(axis=1, initial=-np.inf)
        upper = np.where(flat, np.inf, ends.max(axis=0)).min(axis=1, initial=np.inf)
        inside = ~apart & (lower < upper)
        height = start
        blocked = sorted(zip(upper[inside], lower[inside], strict=True), reverse=True)
        for top, bottom in blocked:
            if top >= height > bottom:
                height = bottom
        return max([floor, *(float(top) for top, _ in blocked if top < height)])

    def _gaps(self, offsets: Offsets, near: Bool[np.ndarray, "p"]) -> Float64[np.ndarray, "k"]:
        shifted = self._middles[near, :, None] + self._directions[near] @ offsets.T
        return (np.abs(shifted) - self._radii[near, :, None]).max(axis=1).min(axis=0, initial=np.inf)


def _radii(directions: Float64[np.ndarray, "p 15 3"], boxes: Boxes, index: np.ndarray) -> Float64[np.ndarray, "p 15"]:
    """Half of what the boxes cover along each direction [m]."""
    return (np.abs(directions @ boxes.axes[index]) * boxes.halves[index][:, None]).sum(axis=2)
