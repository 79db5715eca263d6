"""What is known to be wrong in Open X-Embodiment data sets, and how it is mended: small functions by name.

A fix gets the stored embodiment and the state and action of a whole episode, and gives arrays of the same shape; steps
that it makes useless are left out later (``drop_first``, ``drop_last``), so that lengths are known without reading.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float32
from numpy import ndarray

from vla.embodiment import EmbodimentSpec

Numbers = tuple[Float32[ndarray, "t s"], Float32[ndarray, "t a"]]
"""State and action of one episode."""


def unchanged(spec: EmbodimentSpec, state: Float32[ndarray, "t s"], action: Float32[ndarray, "t a"]) -> Numbers:
    """For fixes that only leave out steps."""
    return state, action


@dataclass(frozen=True)
class Fix:
    """One thing mended.

    Attributes:
        mend: changes the numbers of a whole episode.
        drop_first: steps to leave out at the start.
        drop_last: steps to leave out at the end.
    """

    mend: Callable[[EmbodimentSpec, Float32[ndarray, "t s"], Float32[ndarray, "t a"]], Numbers] = unchanged
    drop_first: int = 0
    drop_last: int = 0


FIXES: dict[str, Fix] = {
    "drop_first_step": Fix(drop_first=1),
}
