"""Bins as OpenVLA's action tokenizer makes them, and words picked from logits."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.model.action_words import choose
from vla.model.head_tokens import from_bins, to_bins


@given(st.lists(st.floats(-1.5, 1.5, width=32), min_size=1, max_size=20))
def test_bins_are_those_of_openvla(values: list[float]):
    """Its tokenizer in NumPy: digitize over 256 edges, centres of the 255 bins, the last digit clipped."""
    edges = np.linspace(-1, 1, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    digits = np.digitize(np.clip(np.array(values, np.float64), -1, 1), edges)
    wanted = np.clip(digits - 1, 0, 254)
    bins = to_bins(torch.tensor(values), 256)
    assert bins.tolist() == wanted.tolist()
    assert np.allclose(from_bins(bins, 256).numpy(), centres[wanted], atol=1e-6)


def test_temperature_draws_from_the_softmax():
    logits = torch.tensor([[2.0, 0.0, 1.0]]).expand(20_000, -1)
    assert (choose(logits, 0.0) == 0).all()
    for temperature in (1.0, 2.0):
        drawn = choose(logits, temperature, torch.Generator().manual_seed(0))
        share = torch.bincount(drawn, minlength=3) / len(drawn)
        assert torch.allclose(share, (logits[0] / temperature).softmax(0), atol=0.015)
