"""Random shifts of pictures: what makes a policy look at where things are instead of at pixels it knows."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8


def shifted(
    images: UInt8[np.ndarray, "n h w 3"], pixels: int, chance: np.random.Generator
) -> UInt8[np.ndarray, "n h w 3"]:
    """Each picture moved by up to ``pixels`` in both directions, its edges repeated (DrQ's random shift)."""
    if not pixels:
        return images
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    places = chance.integers(0, 2 * pixels + 1, size=(len(images), 2))
    return np.stack(
        [item[top : top + height, left : left + width] for item, (top, left) in zip(padded, places, strict=True)]
    )


def shift_into(image: UInt8[np.ndarray, "h w 3"], place: Sequence[int], out: UInt8[np.ndarray, "h w 3"]) -> None:
    """One of those pictures, written to ``out``.

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
