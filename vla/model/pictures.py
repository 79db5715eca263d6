"""How a camera's picture becomes the square that a model takes.

``stretch`` is this project's own: antialiased, aspect ratio not kept. ``centre`` (pi0) and ``corner`` (SmolVLA) keep it
and fill up with black; they do LeRobot's arithmetic, bilinear without antialiasing, because policies trained there have
seen no other pictures. The result is rounded to whole numbers, which LeRobot leaves out: half a step of 255.
"""

import numpy as np
from jaxtyping import UInt8

from vla.model.config import Fit
from vla.transforms import resize


def fitted(image: UInt8[np.ndarray, "h w 3"], side: int, fit: Fit) -> UInt8[np.ndarray, "side side 3"]:
    """A picture as a square; unchanged if it is one of that size already."""
    height, width = image.shape[:2]
    if fit == "stretch" or (height, width) == (side, side):
        return resize(image, side, side)
    import torch  # only here: processes that read data have none as a rule
    import torch.nn.functional as F

    ratio = max(height, width) / side
    inner = (max(1, int(height / ratio)), max(1, int(width / ratio)))
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    scaled = F.interpolate(pixels, size=inner, mode="bilinear", align_corners=False)[0]
    share = 2 if fit == "centre" else 1  # of the black: half of it, or all, goes to the left and above
    top, left = (side - inner[0]) // share, (side - inner[1]) // share
    result = np.zeros((side, side, 3), dtype=np.uint8)
    rounded = scaled.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    result[top : top + inner[0], left : left + inner[1]] = rounded
    return result
