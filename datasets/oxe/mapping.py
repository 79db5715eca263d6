"""Which fields of an Open X-Embodiment data set are the state, the action, the pictures and the instruction.

A data set is a value, :class:`OxeMapping`; the modules beside this one hold them, one or more a file, in ``MAPPINGS``.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from vla.embodiment import EmbodimentSpec
from vla.errors import UnknownName

Columns = tuple[Float32[np.ndarray, "t s"], Float32[np.ndarray, "t a"]]
"""State and action of one episode."""


@dataclass(frozen=True)
class OxeMapping:
    """One data set as this project reads it.

    Attributes:
        names: names that the data set goes by in its ``dataset_info.json``.
        embodiment: the robot, given the cameras to read and one picture size [pixels].
        state: numeric step fields, put side by side in this order to make the state's channels.
        action: the same for the action.
        cameras: (camera name, image field of a step).
        instruction: text field of a step.
        drop_first: steps to leave out at an episode's start when fixes are on.
        fix: what else to mend when fixes are on; keeps the number of steps.
    """

    names: tuple[str, ...]
    embodiment: Callable[[tuple[str, ...], int, int], EmbodimentSpec]
    state: tuple[str, ...]
    action: tuple[str, ...]
    cameras: tuple[tuple[str, str], ...]
    instruction: str
    drop_first: int = 0
    fix: Callable[[Columns], Columns] | None = None


def oxe_mapping(name: str) -> OxeMapping:
    """The mapping of the data set of that name.

    Raises:
        UnknownName: nobody wrote one.
    """
    known: dict[str, OxeMapping] = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        module = importlib.import_module(f"vla.datasets.oxe.{file.stem}")
        for mapping in getattr(module, "MAPPINGS", ()):
            known |= dict.fromkeys(mapping.names, mapping)
    if name not in known:
        raise UnknownName("Open X-Embodiment data set", name, known)
    return known[name]
