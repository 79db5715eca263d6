"""LIBERO's Franka Panda as openpi's evaluation client sees it: the environment's own actions, pictures of 224 pixels.

Source: openpi ``examples/libero/main.py``: pictures turned by 180 degrees, state of position, axis-angle and fingers,
actions handed to ``env.step`` as they come.
"""

from dataclasses import replace

from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import RAW_ACTION, libero_panda

PICTURE_SIDE = 224
"""Of openpi's models; its client scales and pads to this."""


def libero_openpi() -> EmbodimentSpec:
    """The embodiment; unlike ``libero_panda`` it speaks in [-1, 1], gripper +1 closed."""
    return replace(libero_panda(PICTURE_SIDE), name="libero_openpi", action=RAW_ACTION)
