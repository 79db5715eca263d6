"""Smaller textures in a compiled model: LIBERO's are up to 4096 pixels wide for bowls of 30 pixels in the picture.

A renderer averages a texture down to the picture's resolution anyway; doing it once takes most of the time and memory
out of making a graphics context, and changes pictures hardly at all.
"""

import numpy as np
from PIL import Image

from vla.sim.rendering import mujoco_binding
from vla.sim.rendering.mujoco_binding import MjModel


def shrink_textures(model: MjModel, most: int = 512) -> None:
    """Average down flat textures in place until neither side is above ``most`` pixels, by whole factors."""
    flat = mujoco_binding.load().mjtTexture.mjTEXTURE_2D.value
    for texture in np.flatnonzero(model.tex_type == flat):
        height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
        channels, first = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
        factor = -(-max(height, width) // most)
        if factor < 2 or channels != 3:
            continue
        pixels = model.tex_data[first : first + height * width * channels].reshape(height, width, channels)
        smaller = np.asarray(Image.fromarray(pixels).reduce(factor))
        model.tex_height[texture], model.tex_width[texture] = smaller.shape[:2]
        model.tex_data[first : first + smaller.size] = smaller.reshape(-1)
