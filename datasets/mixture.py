"""Training windows drawn from several sources, in an order that is a function of the seed and an index alone.

::

    index ─shares of weights, shuffled in blocks─▶ source and its k-th draw ─permutation of its epoch─▶ episode, step

Nothing is kept between draws: any process can compute any index, a training resumes by its index, and memory does not
grow with the data. A source gives each of its windows once before it gives one again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from vla.datasets.shuffle import mixed, permuted
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import Place, Window
from vla.protocols import EpisodeSource

_BLOCK = 1024  # slots within which the order of the sources is shuffled
_SHARES = 1 << 32  # weights are whole shares of this, so that counting draws is exact

Episodes = slice | Sequence[int] | None


@dataclass(frozen=True)
class _Selection:
    """The windows of one source that may be drawn.

    Attributes:
        episodes: numbers in the source.
        ends: windows up to and including each of them.
    """

    episodes: Int64[np.ndarray, "n"]
    ends: Int64[np.ndarray, "n"]

    @property
    def count(self) -> int:
        return int(self.ends[-1])

    def at(self, number: int, stride: int) -> tuple[int, int]:
        """Episode and step of a window."""
        row = int(np.searchsorted(self.ends, number, side="right"))
        before = int(self.ends[row - 1]) if row else 0
        return int(self.episodes[row]), (number - before) * stride


class Mixture:
    """An endless, seeded order of windows over some sources (a :class:`~vla.protocols.WindowSource`).

    Args:
        sources: where episodes come from.
        weights: share of the draws that each source gets, in any unit; None for as many as it has windows.
        horizon: actions in a window.
        seed: names the order.
        stride: windows begin at every n-th step of an episode.
        episodes: for each source the episodes to draw from (a slice or their numbers, None for all), e.g. to hold some
            out for validation; None for all of all.

    Raises:
        ConfigError: a setting is out of range, or a source has no window.
    """

    def __init__(
        self,
        sources: Sequence[EpisodeSource],
        weights: Sequence[float] | None = None,
        *,
        horizon: int,
        seed: int,
        stride: int = 1,
        episodes: Sequence[Episodes] | None = None,
    ):
        chosen = [None] * len(sources) if episodes is None else list(episodes)
        if not sources:
            raise ConfigError("a mixture needs at least one source")
        if horizon < 1 or stride < 1:
            raise ConfigError(f"horizon and stride must be at least 1, found {horizon} and {stride}")
        if len(chosen) != len(sources):
            raise ConfigError(f"{len(chosen)} selections of episodes were given for {len(sources)} sources")
        self.sources, self.horizon, self.seed, self.stride = tuple(sources), horizon, seed, stride
        self._selections = tuple(
            _select(source, which, stride, number)
            for number, (source, which) in enumerate(zip(sources, chosen, strict=True))
        )
        self._splits = _splits(self.windows if weights is None else weights, len(sources))

    @property
    def specs(self) -> tuple[EmbodimentSpec, ...]:
        """One for each source."""
        return tuple(source.spec for source in self.sources)

    @property
    def windows(self) -> tuple[int, ...]:
        """Windows of each source, which it gives once an epoch of its own."""
        return tuple(selection.count for selection in self._selections)

    def __getitem__(self, index: int) -> Window:
        """The window at a place in the order.

        Raises:
            IndexError: the index is below 0.
        """
        return self.window(self.place(index))

    def place(self, index: int) -> Place:
        """Where the window of an index comes from; reads nothing.

        Raises:
            IndexError: the index is below 0.
        """
        if index < 0:
            raise IndexError(f"an endless order has no index {index}")
        block, offset = divmod(index, _BLOCK)
        number, draw = _block_draws(self.seed, block, self._splits)[offset]
        selection = self._selections[number]
        epoch, turn = divmod(draw, selection.count)
        window = permuted(turn, selection.count, (self.seed, 1, number, epoch))
        return Place(number, *selection.at(window, self.stride))

    def window(self, place: Place, *, images: bool = True) -> Window:
        """The window at a place; without ``images`` no picture is decoded."""
        window = self.sources[place.source][place.episode].window(place.step, self.horizon, images=images)
        return replace(window, origin=place)

    def frames(self) -> Iterator[Place]:
        """Every place that can be drawn, episode by episode, e.g. to compute features of all pictures once."""
        for number, selection in enumerate(self._selections):
            counts = np.diff(selection.ends, prepend=0)
            for episode, count in zip(selection.episodes.tolist(), counts.tolist(), strict=True):
                for turn in range(count):
                    yield Place(number, episode, turn * self.stride)


@lru_cache(maxsize=8)
def _block_draws(seed: int, block: int, splits: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """For each index of a block its source and how many draws that source had before."""
    first = block * _BLOCK
    shares = [_source_of(slot, splits) for slot in range(first, first + _BLOCK)]
    draws: list[int] = [0] * len(splits)
    for number, draw in reversed(shares):
        draws[number] = draw  # of each source's first slot in the block
    shuffled = sorted(range(_BLOCK), key=lambda offset: mixed(seed, 0, block, offset))
    result = []
    for offset in shuffled:
        number = shares[offset][0]
        result.append((number, draws[number]))
        draws[number] += 1
    return tuple(result)


def _source_of(slot: int, splits: tuple[int, ...]) -> tuple[int, int]:
    """Source of a slot, and how many earlier slots that source had.

    The first source takes the slots where ``floor(slot * share)`` grows, the next one does the same with the slots
    left over, and so on: every stretch of n slots holds each source n * weight times, to within a few.
    """
    for number, share in enumerate(splits):
        taken = slot * share // _SHARES
        if (slot + 1) * share // _SHARES > taken:
            return number, taken
        slot -= taken
    raise AssertionError("the last source takes all slots that are left")


def _select(source: EpisodeSource, which: Episodes, stride: int, number: int) -> _Selection:
    lengths = np.asarray(source.lengths, dtype=np.int64)
    every = np.arange(len(lengths))
    if which is None:
        episodes = every
    elif isinstance(which, slice):
        episodes = every[which]
    else:
        episodes = np.asarray(which, dtype=np.int64)
        if len(np.unique(episodes)) != len(episodes) or ((episodes < 0) | (episodes >= len(lengths))).any():
            raise ConfigError(f"source {number}: episodes must be different numbers below {len(lengths)}")
    ends = np.cumsum(-(-lengths[episodes] // stride))
    if not len(ends) or not ends[-1]:
        raise ConfigError(f"source {number} has no window: {len(lengths)} episodes, of which {len(ends)} were chosen")
    return _Selection(episodes, ends)


def _splits(weights: Sequence[float], count: int) -> tuple[int, ...]:
    """For each source the share that it takes of what the sources before it have left."""
    if len(weights) != count:
        raise ConfigError(f"{len(weights)} weights were given for {count} sources")
    if not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise ConfigError(f"weights must be finite and above 0, found {list(weights)}")
    exact = [Fraction(weight) for weight in weights]
    return tuple(round(weight / sum(exact[number:]) * _SHARES) for number, weight in enumerate(exact))
