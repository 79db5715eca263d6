"""Random shifts of pictures: what makes a policy look at where things are instead of at pixels it knows."""

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
