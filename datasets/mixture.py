"""Training windows drawn from several sources, in an order that is a function of the seed and an index alone.

::

    index ─shares of weights, shuffled in blocks─▶ source and its k-th draw ─permutation of its epoch─▶ episode, step

Nothing is kept between draws: any process can compute any index, a training resumes by its index, and memory does not
grow with the data. A source gives each of its windows once before it gives one again.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from vla.datasets.shuffle import permuted, shuffled
from vla.datasets.window_reader import read_windows
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import Place, Window
from vla.protocols import EpisodeSource
from vla.window_batch import WindowBatch

_BLOCK = 1024  # slots within which the order of the sources is shuffled
_KEPT = 4  # blocks whose order is kept
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

    def at(self, numbers: Int64[np.ndarray, "n"], stride: int) -> Int64[np.ndarray, "n 2"]:
        """Episode and step of each window."""
        rows = np.searchsorted(self.ends, numbers, side="right")
        before = np.where(rows, self.ends[rows - 1], 0)
        return np.stack([self.episodes[rows], (numbers - before) * stride], axis=1)


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
        self._blocks: dict[int, np.ndarray] = {}
        self._splits = _splits(self.windows if weights is None else weights, len(sources))

    @property
    def specs(self) -> tuple[EmbodimentSpec, ...]:
        """One for each source."""
        return tuple(source.spec for source in self.sources)

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """Windows of each source, which it gives once an epoch of its own."""
        return tuple(selection.count for selection in self._selections)

    @property
    def order(self) -> str:
        """Hex digits that change whenever :meth:`place` of any index does."""
        digest = hashlib.sha256(repr((_BLOCK, self.seed, self.stride, self._splits)).encode())
        for selection in self._selections:
            digest.update(selection.episodes.tobytes())
            digest.update(selection.ends.tobytes())
        return digest.hexdigest()[:16]

    def __getitem__(self, index: int) -> Window:
        """The window at a place in the order.

        Raises:
            IndexError: the index is below 0.
        """
        return self.window(self.place(index))

    def batch(self, indices: Sequence[int]) -> list[WindowBatch]:
        """The windows of these indices as columns, read from each source together.

        Raises:
            IndexError: an index is below 0.
        """
        steady = isinstance(indices, range)  # NumPy would take its numbers out one by one
        wanted = np.arange(indices.start, indices.stop, indices.step) if steady else np.asarray(indices, np.int64)
        if (wanted < 0).any():
            raise IndexError(f"an endless order has no index {wanted.min()}")
        blocks, offsets = np.divmod(wanted, _BLOCK)
        places = np.empty((len(wanted), 3), np.int64)
        for block in sorted(set(blocks.tolist())):
            mine = blocks == block
            places[mine] = self._kept(block)[offsets[mine]]
        found: list[WindowBatch] = []
        for number in sorted(set(places[:, 0].tolist())):
            rows = np.flatnonzero(places[:, 0] == number)
            episodes, steps = places[rows, 1], places[rows, 2]
            for batch in read_windows(self.sources[number], episodes, steps, self.horizon):
                found.append(replace(batch, rows=rows[batch.rows]))
        return found

    def place(self, index: int) -> Place:
        """Where the window of an index comes from; reads nothing.

        Raises:
            IndexError: the index is below 0.
        """
        return Place(*self._row(index))

    def _row(self, index: int) -> list[int]:
        if index < 0:
            raise IndexError(f"an endless order has no index {index}")
        block, offset = divmod(index, _BLOCK)
        return self._kept(block)[offset].tolist()

    def _kept(self, block: int) -> Int64[np.ndarray, "slots 3"]:
        """:meth:`_block`, kept for a while."""
        places = self._blocks.get(block)
        if places is None:
            places = self._blocks[block] = self._block(block)
            for old in list(self._blocks)[:-_KEPT]:
                self._blocks.pop(old, None)  # another thread may have done it
        return places

    def _block(self, block: int) -> Int64[np.ndarray, "slots 3"]:
        """Source, episode and step of each index of a block."""
        sources, before = _sources(block * _BLOCK, self._splits)
        sources = sources[shuffled(_BLOCK, (self.seed, 0, block))]
        result = np.empty((_BLOCK, 3), np.int64)
        turns, which = (np.empty(_BLOCK, np.int64) for _ in range(2))
        keys: list[tuple[int, ...]] = []
        sizes: list[int] = []
        for number, (count, drawn) in enumerate(zip(self.windows, before, strict=True)):
            # a source's draws count on from those it had before the block, in the block's shuffled order
            mine = np.flatnonzero(sources == number)
            epoch, turn = divmod(drawn, count)
            epochs, turns[mine] = np.divmod(turn + np.arange(len(mine)), count)
            which[mine] = len(keys) + epochs
            later = range(epoch, epoch + int(epochs.max(initial=0)) + 1)
            keys += [(self.seed, 1, number, one) for one in later]
            sizes += [count] * len(later)
        windows = permuted(turns, which, sizes, keys)
        for number, selection in enumerate(self._selections):
            mine = sources == number
            result[mine, 0], result[mine, 1:] = number, selection.at(windows[mine], self.stride)
        return result

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


def _sources(first: int, splits: tuple[int, ...]) -> tuple[Int64[np.ndarray, "n"], list[int]]:
    """Sources of a block's slots, and how many slots before the block each of them had.

    The first source takes the slots where ``floor(slot * share)`` grows, the next one does the same with the slots
    left over, and so on: every stretch of n slots holds each source n * weight times, to within a few.
    """
    result = np.full(_BLOCK, -1, dtype=np.int64)
    left = np.arange(_BLOCK)  # slots of the block that nobody took yet
    before: list[int] = []
    for number, share in enumerate(splits):
        # whole numbers of any size up to the block's first slot, 64 bits within the block
        taken, rest = divmod(first * share, _SHARES)
        grown = (rest + np.arange(len(left) + 1, dtype=np.int64) * share) // _SHARES
        mine = grown[1:] > grown[:-1]
        result[left[mine]] = number
        before.append(taken)
        first, left = first - taken, left[~mine]
    return result, before


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
    splits = tuple(round(weight / sum(exact[number:]) * _SHARES) for number, weight in enumerate(exact))
    if 0 in splits or _SHARES in splits[:-1]:
        raise ConfigError(f"weights {list(weights)} are too far apart: a source would never be drawn from")
    return splits
