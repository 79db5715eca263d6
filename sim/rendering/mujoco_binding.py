"""MuJoCo's binding, loaded when first needed, with names for its types, which its compiled parts do not declare."""

import importlib
from typing import Any

type MjModel = Any
type MjData = Any


def load() -> Any:
    """The ``mujoco`` module. What renders calls :func:`vla.sim.rendering.gl.choose` before this."""
    return importlib.import_module("mujoco")


def full_mass_takes_matrix_first() -> bool:
    """Whether ``mj_fullM`` is called with (model, matrix, qM), as in all versions that LIBERO's numbers hold for.

    Newer ones want (model, data, matrix).
    """
    arguments = (load().mj_fullM.__doc__ or "").split(",")
    return len(arguments) < 2 or arguments[1].strip().startswith("dst")
