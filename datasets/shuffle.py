"""Random order without a list: the permuted place of any number, computed from the number and a key alone.

A Feistel network permutes a power of four; places past the end are walked on until they fall inside (Black and Rogaway,
"Ciphers with arbitrary finite domains", 2002).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int64, UInt64

_ROUNDS = 6
_MASK = (1 << 64) - 1
_STEP = np.uint64(0x9E3779B97F4A7C15)


def permuted(
    places: Int64[np.ndarray, "n"],
    which: Int64[np.ndarray, "n"],
    sizes: Sequence[int],
    keys: Sequence[tuple[int, ...]],
) -> Int64[np.ndarray, "n"]:
    """Where places go in some permutations, of which each of ``range(size)`` is named by its key.

    Args:
        places: in the range of their permutation.
        which: number of the permutation of each place.
        sizes: of the permutations.
        keys: of the permutations.

    Raises:
        ValueError: a place is outside its range.
    """
    size = np.array(sizes, np.int64)[which]
    outside = (places < 0) | (places >= size)
    if outside.any():
        raise ValueError(f"place {places[outside][0]} is outside range({size[outside][0]})")
    half = np.array([max(1, ((size - 1).bit_length() + 1) // 2) for size in sizes], np.uint64)[which]
    begun = np.array([_begun(key) for key in keys], np.uint64).T[:, which]
    low = (np.uint64(1) << half) - np.uint64(1)
    result, left = places.astype(np.uint64), np.arange(len(places))
    while len(left):  # those that are outside, still or again
        result[left] = _once(result[left], half[left], low[left], begun[:, left])
        left = left[result[left] >= size[left].astype(np.uint64)]
    return result.astype(np.int64)


def _once(
    place: UInt64[np.ndarray, "n"],
    half: UInt64[np.ndarray, "n"],
    low: UInt64[np.ndarray, "n"],
    begun: UInt64[np.ndarray, "rounds n"],
) -> UInt64[np.ndarray, "n"]:
    """Through the network, which permutes ``range(4**half)``; sums and products wrap around."""
    left, right = place >> half, place & low
    for state in begun:
        left, right = right, left ^ (_finished((state ^ right) + _STEP) & low)  # as mixed(subkey, right)
    return left << half | right


def _finished(state: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """SplitMix64's finalizer."""
    state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return state ^ state >> np.uint64(31)


@lru_cache(maxsize=256)
def _begun(key: tuple[int, ...]) -> tuple[int, ...]:
    """Of each round the hash's state after its subkey; a loader asks for the same few keys again and again."""
    return tuple(mixed(mixed(*key, turn)) for turn in range(_ROUNDS))


def mixed(*numbers: int) -> int:
    """A 64-bit hash of some integers: SplitMix64's finalizer (Steele et al. 2014), chained."""
    state = 0
    for number in numbers:
        state = (state ^ number & _MASK) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def shuffled(size: int, key: Sequence[int]) -> Int64[np.ndarray, "n"]:
    """``range(size)`` in the order of ``mixed(*key, number)``: for lists short enough to be kept."""
    numbers = np.arange(size, dtype=np.uint64)
    with np.errstate(over="ignore"):  # the hash is made of wrapping arithmetic
        return np.argsort(_finished((np.uint64(mixed(*key)) ^ numbers) + _STEP), kind="stable")
