"""Random shifts of pictures: what makes a policy look at where things are instead of at pixels it knows."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt8


def shifts(count: int, pixels: int, chance: np.random.Generator) -> Int64[np.ndarray, "n 2"]:
    """Row and column that become each picture's first ones, from ``-pixels`` to ``pixels`` (DrQ's random shift)."""
    return chance.integers(0, 2 * pixels + 1, size=(count, 2)) - pixels


def shifted(
    images: UInt8[np.ndarray, "n h w 3"], pixels: int, chance: np.random.Generator
) -> UInt8[np.ndarray, "n h w 3"]:
    """Each picture moved by up to ``pixels`` in both directions, its edges repeated."""
    if not pixels:
        return images
    moved = np.empty_like(images)
    for image, place, out in zip(images, shifts(len(images), pixels, chance).tolist(), moved, strict=True):
        shift_into(image, place, out)
    return moved


def shift_into(image: UInt8[np.ndarray, "h w 3"], place: Sequence[int], out: UInt8[np.ndarray, "h w 3"]) -> None:
    """One picture, moved and written to ``out``.

    Args:
        image: to move.
        place: row and column that become the first ones [pixels]; may be negative.
        out: other memory of the same shape.
    """
    height, width = image.shape[:2]
    down, right = (max(1 - size, min(size - 1, start)) for start, size in zip(place, (height, width), strict=True))
    top, bottom = max(0, -down), height - max(0, down)
    left, last = max(0, -right), width - max(0, right)
    out[top:bottom, left:last] = image[top + down : bottom + down, left + right : last + right]
    out[top:bottom, :left] = out[top:bottom, left : left + 1]
    out[top:bottom, last:] = out[top:bottom, last - 1 : last]
    out[:top] = out[top]
    out[bottom:] = out[bottom - 1]
