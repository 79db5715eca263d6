"""The border between raw units and the model's tensors."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, DataError, SpecMismatch, StatisticsMissing, UnknownName
from vla.experience import Observation
from vla.model.config import ExpertConfig, Fit, distinct_specs, fit_to
from vla.model.encode import Encoder
from vla.model.pictures import fitted
from vla.model.presets import preset
from vla.model.text import Text, read_tokenizer, state_prompt, word_tokenizer
from vla.normalize import Statistics
from vla.statistics_estimator import StatisticsEstimator

SPECS = (libero_panda(64), bridge_widowx())
TEXT = Text(word_tokenizer(["put the bowl on the plate"], 100), 12)


def statistics() -> dict[str, Statistics]:
    chance, found = np.random.default_rng(0), {}
    for spec in SPECS:
        names = (*spec.state_names, *spec.action.names)
        estimator = StatisticsEstimator(names)
        estimator.add(chance.uniform(0, 1, (50, len(names))))
        found[spec.name] = estimator.finish()
    return found


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(fit_to(preset("nano"), SPECS), SPECS, statistics(), TEXT, 32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1), st.integers(0, 2**32 - 1))
def test_actions_come_back(encoder: Encoder, body: int, seed: int):
    raw = np.random.default_rng(seed).uniform(0, 1, (12, 7)).astype(np.float32)
    assert np.allclose(encoder.decode(body, encoder.actions(body, raw)), raw, atol=1e-5)


def test_a_gripper_is_never_more_open_than_open(encoder: Encoder):
    decoded = encoder.decode(0, np.full((3, 7), 50.0, dtype=np.float32))
    assert (decoded[:, 6] == 1.0).all() and (decoded[:, :6] > 1.0).all()


def test_shorter_states_are_padded_with_zeros(encoder: Encoder):
    state = encoder.state(1, np.full(7, 0.3, dtype=np.float32))
    assert state.shape == (8,) and state[7] == 0 and (state[:7] != 0).all()


def test_cameras_go_to_the_slot_of_their_role(encoder: Encoder):
    images = {"agentview": np.full((64, 64, 3), 10, np.uint8), "robot0_eye_in_hand": np.full((64, 64, 3), 20, np.uint8)}
    pictures, present = encoder.pictures(0, images)
    assert pictures[:, 0, 0, 0].tolist() == [10, 20] and present.tolist() == [True, True]
    pictures, present = encoder.pictures(1, {"image_0": np.full((9, 9, 3), 30, np.uint8)})
    assert pictures[:, 0, 0, 0].tolist() == [30, 0] and present.tolist() == [True, False]


def test_one_observation_is_a_batch_of_one(encoder: Encoder):
    inputs = encoder.inputs(1, Observation({}, np.zeros(7, np.float32), "Put the bowl,  on the moon", 0.0))
    assert inputs.image_mask.tolist() == [[False, False]] and inputs.embodiment.tolist() == [1]
    unknown = TEXT.tokenizer.token_to_id("<unk>")
    assert (inputs.tokens == unknown).sum() == 2  # the comma and the moon


def test_missing_statistics_are_named():
    known = statistics()
    config = fit_to(preset("nano"), SPECS)
    with pytest.raises(StatisticsMissing, match="bridge_widowx"):
        Encoder(config, SPECS, {"libero_panda": known["libero_panda"]}, TEXT, 32)
    lacking = {name: value for name, value in known["libero_panda"].channels.items() if name != "drz"}
    with pytest.raises(StatisticsMissing, match="drz"):
        Encoder(config, SPECS, {**known, "libero_panda": Statistics(lacking)}, TEXT, 32)


def test_other_embodiments_than_the_models_are_refused(encoder: Encoder):
    with pytest.raises(SpecMismatch):
        Encoder(encoder.config, SPECS[:1], statistics(), TEXT, 32)
    with pytest.raises(UnknownName, match="bridge_widowx"):
        encoder.index("bridge")
    with pytest.raises(ConfigError, match="another name"):
        distinct_specs([libero_panda(64), libero_panda(128)])


def test_an_instruction_is_never_cut_short():
    with pytest.raises(ConfigError, match="tokens"):
        TEXT.encode(["the " * 20])


def test_tokenizers_survive_their_json(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(TEXT.to_json())
    again = Text(read_tokenizer(path), 12)
    assert again.encode(["the plate"])[0].tolist() == TEXT.encode(["The  plate "])[0].tolist()
    path.write_text("{")
    with pytest.raises(DataError):
        read_tokenizer(path)


def test_presets_are_answered_with_the_closest():
    with pytest.raises(UnknownName, match="nano"):
        preset("nan")


@given(st.lists(st.floats(-1.5, 1.5, width=32), min_size=1, max_size=9))
def test_states_are_written_into_the_prompt_in_256_bins(values: list[float]):
    """A bin is 1/128 wide and counts from -1; what is outside falls into bin -1 or 255."""
    prompt = state_prompt(" put_the bowl\naway ", np.array(values, dtype=np.float32))
    before, bins, after = prompt.partition("State: ")[0], prompt.partition("State: ")[2].partition(";")[0], prompt[-10:]
    assert (before, after) == ("Task: put the bowl away, ", ";\nAction: ")
    for value, found in zip(values, map(int, bins.split()), strict=True):
        assert found == (-1 if value < -1 else min(255, math.floor((Fraction(value) + 1) * 128)))


def test_only_a_pretrained_tokenizer_can_read_states():
    config = replace(preset("nano"), expert=ExpertConfig(state="prompt"))
    with pytest.raises(ConfigError, match="prompt"):
        Encoder(fit_to(config, SPECS), SPECS, statistics(), TEXT, 32)


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(("stretch", "centre", "corner")))
@example(35, 56, "centre")
def test_pictures_keep_their_shape_if_they_are_to(height: int, width: int, fit: Fit):
    """What is white stays white, all else is black, in the middle or at the lower right, and touches two sides."""
    square = fitted(np.full((height, width, 3), 255, np.uint8), 24, fit)
    assert square.shape == (24, 24, 3) and set(np.unique(square)) <= {0, 255}
    rows, columns = (np.flatnonzero(square.any(axis=(axis, 2))) for axis in (1, 0))
    sizes = (len(rows), len(columns))
    assert (square == 255).sum() == 3 * sizes[0] * sizes[1]
    scale = Fraction(24, max(height, width))
    wanted = (24, 24) if fit == "stretch" else (max(1, height * scale), max(1, width * scale))
    # never larger; LeRobot's quotient of 35 and 56 / 24 is just below 15, and it takes 14
    assert max(sizes) == 24 and all(want - 1 <= size <= want for size, want in zip(sizes, wanted, strict=True))
    if fit == "corner":
        assert (rows[-1], columns[-1]) == (23, 23)
    else:
        assert abs(rows[0] + rows[-1] - 23) <= 1 and abs(columns[0] + columns[-1] - 23) <= 1
