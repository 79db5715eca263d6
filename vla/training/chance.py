"""Randomness as a function of a seed and a name: nothing to save, nothing to restore."""

import hashlib

import numpy as np


def number(*names: object) -> int:
    """63 bits that depend on all the names and on nothing else."""
    text = "/".join(map(str, names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def numpy_chance(*names: object) -> np.random.Generator:
    """A NumPy generator for these names."""
    return np.random.default_rng(number(*names))
