"""Randomness as a function of a seed and a name: nothing to save, nothing to restore."""

import hashlib

import numpy as np
import torch


def number(*names: object) -> int:
    """63 bits that depend on all the names and on nothing else."""
    text = "/".join(map(str, names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def torch_chance(*names: object) -> torch.Generator:
    """A torch generator on the CPU for these names, e.g. ``(seed, step, "flow")``."""
    return torch.Generator().manual_seed(number(*names))


def numpy_chance(*names: object) -> np.random.Generator:
    """A NumPy generator for these names."""
    return np.random.default_rng(number(*names))
