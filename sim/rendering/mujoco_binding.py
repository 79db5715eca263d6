"""MuJoCo's binding, loaded when first needed, with names for its types, which its compiled parts do not declare."""

import importlib
from typing import Any

type MjModel = Any
type MjData = Any


def load() -> Any:
    """The ``mujoco`` module. What renders calls :func:`vla.sim.rendering.gl.choose` before this."""
    return importlib.import_module("mujoco")
