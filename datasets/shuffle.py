"""Random order without a list: the permuted place of any number, computed from the number and a key alone.

A Feistel network permutes a power of four; places past the end are walked on until they fall inside (Black and Rogaway,
"Ciphers with arbitrary finite domains", 2002).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

_ROUNDS = 6
_MASK = (1 << 64) - 1


def permuted(place: int, size: int, key: Sequence[int]) -> int:
    """Where ``place`` goes in the permutation of ``range(size)`` that ``key`` names.

    Raises:
        ValueError: the place is outside the range.
    """
    if not 0 <= place < size:
        raise ValueError(f"place {place} is outside range({size})")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    begun = _begun(tuple(key))
    while True:
        left, right = place >> half, place & low
        for state in begun:
            state = (state ^ right) + 0x9E3779B97F4A7C15 & _MASK  # the second turn of mixed(subkey, right)
            state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
            state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
            left, right = right, left ^ ((state ^ state >> 31) & low)
        place = left << half | right
        if place < size:
            return place


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
        state = (np.uint64(mixed(*key)) ^ numbers) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.argsort(state ^ state >> np.uint64(31), kind="stable")
