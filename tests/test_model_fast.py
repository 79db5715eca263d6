"""FAST as a codec: what comes back, what the words are, what is malformed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dct

from vla.errors import ConfigError, DataError
from vla.model.fast import FastCodec
from vla.model.head_fast import held

HORIZON, SCALE = 12, 10.0


def chunks(count: int, channels: int = 7, seed: int = 0) -> list[np.ndarray]:
    """Smooth, as a robot moves, and a gripper that is open or closed."""
    chance = np.random.default_rng(seed)
    time = np.linspace(0, 1, HORIZON)[:, None]
    found = []
    for _ in range(count):
        chunk = chance.uniform(-0.9, 0.9, channels) * np.cos(time * chance.uniform(0, 3, channels))
        chunk[:, -1] = np.where(np.arange(HORIZON) < chance.integers(0, HORIZON + 1), 1, -1)
        found.append(chunk.astype(np.float32))
    return found


@pytest.fixture(scope="module")
def codec() -> FastCodec:
    return FastCodec.fit(chunks(300), horizon=HORIZON, scale=SCALE, vocabulary=512)


@given(seed=st.integers(0, 10**6), channels=st.integers(1, 9), loud=st.floats(0, 1))
def test_a_chunk_comes_back_to_half_a_rounding_step(codec: FastCodec, seed: int, channels: int, loud: float):
    """In the transform's own numbers, and so, the transform being orthonormal, in the root mean square of the chunk."""
    chunk = np.random.default_rng(seed).uniform(-loud, loud, (HORIZON, channels)).astype(np.float32)
    (words,) = codec.encode([chunk])
    back = codec.decode(words, channels)
    errors = np.asarray(dct(back - chunk, axis=0, norm="ortho"))
    assert np.abs(errors).max() <= 0.5 / SCALE + 1e-5


def test_the_extremes_have_symbols_too(codec: FastCodec):
    for value in (-1.0, 1.0):
        chunk = np.full((HORIZON, 2), value, np.float32)
        (words,) = codec.encode([chunk])
        assert np.abs(codec.decode(words, 2) - chunk).max() < 0.05


def test_words_are_fewer_than_numbers_on_data_like_those_it_was_fitted_to(codec: FastCodec):
    rows = codec.encode(chunks(50, seed=1))
    assert np.mean([len(row) for row in rows]) < 0.5 * HORIZON * 7
    assert max(max(row) for row in rows) < 512 == len(codec.spelling)


def test_low_frequencies_come_first(codec: FastCodec):
    still = np.zeros((HORIZON, 3), np.float32)
    still[:] = [0.2, -0.4, 0.6]
    (words,) = codec.encode([still])
    symbols = "".join(codec.spelling[word] for word in words)
    zero = symbols[-1]
    assert symbols[3:] == zero * (3 * HORIZON - 3) and zero not in symbols[:3]
    steps = [ord(symbol) - ord(zero) for symbol in symbols[:3]]
    assert steps == [round(SCALE * value * HORIZON**0.5) for value in (0.2, -0.4, 0.6)]


def test_fitting_again_gives_the_same_words(codec: FastCodec):
    again = FastCodec.fit(chunks(300), horizon=HORIZON, scale=SCALE, vocabulary=512)
    assert again.to_json() == codec.to_json()


def test_it_is_saved_as_json(codec: FastCodec, tmp_path: Path):
    path = tmp_path / "fast.json"
    path.write_text(codec.to_json())
    again = FastCodec.from_json(path)
    assert again.encode(chunks(9, seed=2)) == codec.encode(chunks(9, seed=2))
    for text in ("{", '{"horizon": 3}', codec.to_json().replace('"BPE"', '"NONE"')):
        path.write_text(text)
        with pytest.raises(DataError, match=r"fast\.json"):
            FastCodec.from_json(path)
    with pytest.raises(DataError, match="readable"):
        FastCodec.from_json(tmp_path / "none.json")


def test_malformed_words_are_an_error_not_a_motion(codec: FastCodec):
    (words,) = codec.encode(chunks(1))
    for wrong, match in ((words[:-1], "coefficients"), ([*words, 0], "coefficients"), ([], "0 coeff"), ([512], "512")):
        with pytest.raises(ConfigError, match=match):
            codec.decode(wrong, 7)


def test_a_vocabulary_smaller_than_the_alphabet_is_refused():
    with pytest.raises(ConfigError, match="vocabulary of 50"):
        FastCodec.fit(chunks(2), horizon=HORIZON, scale=SCALE, vocabulary=50)


def test_what_is_past_the_end_holds_the_last_action():
    chunk = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert held(chunk, np.array([1, 1, 0, 0], bool)).tolist() == [[0, 1], [2, 3], [2, 3], [2, 3]]
    assert held(chunk, np.array([0, 1, 0, 1], bool)).tolist() == [[2, 3], [2, 3], [2, 3], [6, 7]]
    assert held(chunk, np.zeros(4, bool)).tolist() == [[0, 0]] * 4
