"""Random numbers that belong to an example, whatever batch it is in.

A generator gives each example of a batch what its turn brings, so half a batch on one rank would see other noise than
the same examples on one process. Here the numbers are a function of the seed, the example's place in the training's
order and the number of the draw (Philox, a counter-based generator: Salmon et al., "Parallel random numbers", 2011).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class ExampleNoise:
    """The noise of a batch's examples; every draw gives new numbers.

    Attributes:
        seed: 64 bits.
        places: of the examples in the training's order.
    """

    seed: int
    places: Sequence[int]
    _draws: int = field(default=0, init=False)

    def generators(self) -> list[np.random.Generator]:
        """One for each example, for the next draw."""
        self._draws += 1
        return [np.random.Generator(np.random.Philox(counter=self._draws, key=self._key(n))) for n in self.places]

    def _key(self, place: int) -> np.ndarray:
        return np.array([self.seed, place], dtype=np.uint64)


type Noise = torch.Generator | ExampleNoise | None
"""Where a model's random numbers come from: a generator, the examples' own, or (None) torch's global generator."""


def normal(shape: Sequence[int], noise: Noise = None) -> Float[Tensor, "n ..."]:
    """Standard normal numbers on the CPU, so that all devices agree.

    Args:
        shape: its first size is the number of examples, or a multiple of it; an example's rows lie one after the other.
        noise: where from.
    """
    if not isinstance(noise, ExampleNoise):
        return torch.randn(tuple(shape), generator=noise)
    each = _each(shape, noise)
    rows = [chance.standard_normal(each, dtype=np.float32) for chance in noise.generators()]
    return torch.from_numpy(np.stack(rows)).reshape(tuple(shape))


def uniform(shape: Sequence[int], noise: Noise = None) -> Float[Tensor, "n ..."]:
    """Numbers in [0, 1); see :func:`normal`."""
    if not isinstance(noise, ExampleNoise):
        return torch.rand(tuple(shape), generator=noise)
    each = _each(shape, noise)
    rows = [chance.random(each, dtype=np.float32) for chance in noise.generators()]
    return torch.from_numpy(np.stack(rows)).reshape(tuple(shape))


def integers(high: int, shape: Sequence[int], noise: Noise = None) -> Tensor:
    """Whole numbers from 0 to ``high - 1``, int64; see :func:`normal`."""
    return (uniform(shape, noise).double() * high).long().clamp(max=high - 1)


def _each(shape: Sequence[int], noise: ExampleNoise) -> tuple[int, ...]:
    times, rest = divmod(shape[0], len(noise.places))
    if rest:
        raise ValueError(f"{shape[0]} rows of noise for {len(noise.places)} examples")
    return (times, *shape[1:])
