"""Two ways, step by step: what is told of each channel and of the hand's pose."""

import math

import numpy as np
import pytest

from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError
from vla.path_comparison import compare_paths

SPEC = libero_panda(8)


def test_a_shift_and_a_turn_are_told_in_their_units():
    recorded = np.zeros((5, 8), np.float32)
    recorded[:, 3] = math.pi
    measured = recorded.copy()
    measured[:, 0] += np.array([0.0, 0.01, 0.02, 0.03, 0.0], np.float32)
    measured[2, 3] = -math.pi  # the same orientation in other numbers
    measured[3, 3] = math.pi - 0.1
    found = compare_paths(SPEC, recorded, np.concatenate([measured, measured]))
    assert found["steps"] == 5 and found["channels"]["x"]["unit"] == "m" and "rx" not in found["channels"]
    x = found["channels"]["x"]
    assert (x["start"], x["end"]) == (0.0, 0.0) and x["max"] == pytest.approx(0.03)
    assert x["rms"] == pytest.approx(math.sqrt((1 + 4 + 9) / 5) / 100)
    hand = found["hands"]["hand"]
    assert hand["distance_m"]["max"] == pytest.approx(0.03)
    assert hand["angle_rad"]["max"] == pytest.approx(0.1, abs=1e-5)
    with pytest.raises(ConfigError):
        compare_paths(SPEC, recorded, measured[:0])
