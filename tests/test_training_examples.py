"""Batches made whole are the windows encoded one by one, shifted and stacked."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_arms import Arms, encoder_of

from vla.errors import ConfigError
from vla.model.encode import Encoder
from vla.training.augment import shifted
from vla.training.chance import numpy_chance
from vla.training.config import TrainConfig
from vla.training.examples import ExampleReader
from vla.training.fake import FakeWindows
from vla.training.shard import Shard


def one_by_one(source: Any, encoder: Encoder, config: TrainConfig, indices: range) -> list[np.ndarray]:
    """Every column, as a loop over the windows makes it."""
    rows = []
    for index in indices:
        window = source[index]
        body = encoder.index(window.spec.name)
        images, present = encoder.pictures(body, window.observation.images)
        images = shifted(images, config.shift, numpy_chance(config.seed, index, "shift"))
        numbers = encoder.state(body, window.observation.state), encoder.actions(body, window.actions)
        rows.append((np.array(window.observation.instruction), images, present, *numbers, window.valid, np.array(body)))
    return [np.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize(("side", "shift"), [(32, 4), (32, 0), (16, 3), (48, 1)])
def test_batches_are_the_windows_one_by_one(side, shift):
    source, config = Arms(), TrainConfig(steps=1, shift=shift, seed=5)
    encoder = encoder_of(source, side)
    for number, shard in ((0, Shard(21)), (3, Shard(14, 1, 2))):
        have = ExampleReader(source, encoder, config, shard)(number)
        wanted = one_by_one(source, encoder, config, shard.places(number))
        for name, one, two in zip("tipsavb", have, wanted, strict=True):
            assert np.asarray(one).dtype == two.dtype, name
            np.testing.assert_array_equal(one, two, err_msg=name)
    assert not have.present.all() and have.present.any()


def test_windows_of_another_horizon_are_refused():
    source = FakeWindows(horizon=5)
    with pytest.raises(ConfigError, match="windows hold 5 actions; the model's horizon is 8"):
        ExampleReader(source, encoder_of(source), TrainConfig(steps=1), Shard(4))(0)


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_pictures_are_cut_out_of_ones_whose_edges_are_repeated(seed, height, width, pixels):
    images = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    places = np.random.default_rng(seed).integers(0, 2 * pixels + 1, size=(2, 2))
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    pairs = zip(padded, places, strict=True)
    wanted = [one[row : row + height, column : column + width] for one, (row, column) in pairs]
    np.testing.assert_array_equal(shifted(images, pixels, np.random.default_rng(seed)), wanted)
