import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.errors import ConfigError, StatisticsMissing
from vla.normalize import Normalize, NormalizeSpec, Statistics
from vla.statistics_estimator import StatisticsEstimator

NAMES = ("a", "b", "still")


def measured(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    values = np.c_[rng.normal(3, 2, rows), rng.uniform(-1, 5, rows), np.full(rows, 0.25)].astype(np.float32)
    estimator = StatisticsEstimator(NAMES)
    for part in np.array_split(values, 7):
        estimator.add(part)
    return values, estimator.finish()


def test_the_estimator_equals_numpy_in_one_piece():
    values, statistics = measured()
    wide = values.astype(np.float64)
    numbers = statistics.arrays(NAMES)
    assert np.allclose(numbers["mean"], wide.mean(0), atol=1e-9)
    assert np.allclose(numbers["std"], wide.std(0), atol=1e-9)
    assert np.array_equal(numbers["min"], wide.min(0)) and np.array_equal(numbers["max"], wide.max(0))
    assert np.allclose(numbers["q01"], np.quantile(wide, 0.01, axis=0))
    assert np.allclose(numbers["q99"], np.quantile(wide, 0.99, axis=0))
    assert all(channel.count == 500 for channel in statistics.channels.values())


def test_a_large_offset_costs_no_precision():
    estimator = StatisticsEstimator(("t",))
    values = np.random.default_rng(0).normal(size=(1000, 1)) + 1e6
    for part in np.array_split(values, 10):
        estimator.add(part)
    assert np.isclose(estimator.finish().channels["t"].std, values.std(), rtol=1e-9)


@given(arrays(np.float32, (4, 3), elements=st.floats(-3, 8, width=32)))
def test_encode_and_decode_undo_each_other(values):
    _, statistics = measured()
    for kind in ("mean_std", "quantile", "min_max", "identity"):
        normalize = Normalize.build(NormalizeSpec(kind=kind), statistics, NAMES)
        back = normalize.decode(normalize.encode(values))
        still = [2] if kind != "identity" else []
        assert np.allclose(np.delete(back, still, 1), np.delete(values, still, 1), atol=1e-4)
        assert np.all(back[:, still] == 0.25)


def test_openvla_quantiles():
    """2 (x - q01) / (q99 - q01 + 1e-8) - 1, clipped to +-1, a constant to 0, the gripper untouched."""
    values, statistics = measured()
    numbers = statistics.arrays(NAMES)
    spec = NormalizeSpec("quantile", skip=("b",), clip=1.0, epsilon=1e-8, constant="zero")
    encoded = Normalize.build(spec, statistics, NAMES).encode(values)
    q01, q99 = numbers["q01"][0], numbers["q99"][0]
    assert np.allclose(encoded[:, 0], np.clip(2 * (values[:, 0] - q01) / (q99 - q01 + 1e-8) - 1, -1, 1), atol=1e-5)
    assert np.array_equal(encoded[:, 1], values[:, 1])
    assert (encoded[:, 2] == 0).all()


def test_lerobot_min_max_maps_a_constant_to_minus_one_and_does_not_clip():
    values, statistics = measured()
    spec = NormalizeSpec("min_max", constant="minus_one")
    normalize = Normalize.build(spec, statistics, NAMES)
    assert (normalize.encode(values)[:, 2] == -1).all()
    assert normalize.encode(np.array([[99.0, 0, 0]]))[0, 0] > 1


def test_a_missing_channel_is_an_error_not_a_pass_through():
    _, statistics = measured()
    with pytest.raises(StatisticsMissing, match="no statistics for gripper; there are some for a, b, still"):
        Normalize.build(NormalizeSpec(), statistics, ("a", "gripper"))
    assert Normalize.build(NormalizeSpec(skip=("gripper",)), statistics, ("a", "gripper")).names == ("a", "gripper")
    with pytest.raises(ConfigError, match="not there: c"):
        Normalize.build(NormalizeSpec(skip=("c",)), statistics, NAMES)


def test_statistics_travel_as_json():
    _, statistics = measured()
    assert Statistics.from_json(json.loads(json.dumps(statistics.to_json()))) == statistics
    broken = statistics.to_json()
    del broken["a"]["q01"]
    with pytest.raises(StatisticsMissing, match="a: q01 missing"):
        Statistics.from_json(broken)
    broken["a"]["q01"] = float("nan")
    with pytest.raises(StatisticsMissing, match="finite"):
        Statistics.from_json(broken)


def test_bad_values_are_refused():
    estimator = StatisticsEstimator(("a",))
    with pytest.raises(StatisticsMissing, match="no values"):
        estimator.finish()
    with pytest.raises(ConfigError, match="not finite"):
        estimator.add(np.array([[np.nan]]))
    with pytest.raises(ConfigError, match="shape"):
        estimator.add(np.zeros((2, 3)))
    for wrong in ({"kind": "bounds"}, {"constant": "one"}, {"clip": 0.0}, {"epsilon": -1.0}):
        with pytest.raises(ConfigError):
            NormalizeSpec(**wrong)  # pyright: ignore[reportArgumentType]


@given(arrays(np.float32, (4, 3), elements=st.floats(-3, 8, width=32)))
def test_lerobots_bounds(values):
    """Epsilon stands in for a range of zero and is added to no other; nothing is clipped."""
    _, statistics = measured()
    numbers = statistics.arrays(NAMES)
    normalize = Normalize.build(NormalizeSpec("min_max", epsilon=1e-8, constant="epsilon"), statistics, NAMES)
    width = numbers["max"] - numbers["min"]
    expected = 2 * (values - numbers["min"]) / np.where(width == 0, 1e-8, width) - 1
    assert np.allclose(normalize.encode(values), expected, rtol=1e-5, atol=1e-5)
    assert np.allclose(normalize.encode(np.full((1, 3), 0.25))[:, 2], -1)
    assert np.allclose(normalize.decode(normalize.encode(values))[:, :2], values[:, :2], atol=1e-4)
