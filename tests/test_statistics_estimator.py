"""Laws of pooling: what is merged from parts equals what is computed from all rows at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.errors import ConfigError, StatisticsMissing
from vla.statistics_estimator import StatisticsEstimator, pool
from vla.statistics_sketch import QuantileSketch

NAMES = ("a", "b", "c")
PARTS = st.lists(
    st.integers(1, 40).flatmap(
        lambda n: arrays(np.float32, (n, 3), elements=st.floats(-1000, 1000, width=32, allow_subnormal=False))
    ),
    min_size=1,
    max_size=8,
)


def seen(values: np.ndarray) -> StatisticsEstimator:
    estimator = StatisticsEstimator(NAMES, QuantileSketch(3, block=64, exact=512))
    estimator.add(values)
    return estimator


@given(PARTS)
def test_pool_equals_direct_computation(parts):
    whole = np.concatenate(parts).astype(np.float64)
    wide = [part.astype(np.float64) for part in parts]
    moments = pool(
        np.array([len(part) for part in wide]),
        *(np.stack([measure(part, axis=0) for part in wide]) for measure in (np.mean, np.std, np.min, np.max)),
    )
    assert moments.count == len(whole)
    np.testing.assert_allclose(moments.mean, whole.mean(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moments.std, whole.std(0), rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(moments.min, whole.min(0))
    np.testing.assert_array_equal(moments.max, whole.max(0))


def test_parts_without_rows_say_nothing():
    empty = np.array([[0.0], [99.0]])
    moments = pool(np.array([4, 0]), empty, empty, empty - 1, empty + 1)
    assert (moments.count, moments.mean[0], moments.max[0]) == (4, 0.0, 1.0)
    with pytest.raises(StatisticsMissing, match="no values"):
        pool(np.array([0, 0]), empty, empty, empty, empty)


@given(PARTS)
def test_merged_estimators_equal_one(parts):
    merged = StatisticsEstimator(NAMES, QuantileSketch(3, block=64, exact=512))
    for part in parts:
        merged.merge(seen(part))
    merged.merge(StatisticsEstimator(NAMES, QuantileSketch(3, block=64, exact=512)))  # saw nothing
    whole = np.concatenate(parts).astype(np.float64)
    numbers = merged.finish().arrays(NAMES)
    np.testing.assert_allclose(numbers["mean"], whole.mean(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(numbers["std"], whole.std(0), rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(numbers["min"], whole.min(0))
    np.testing.assert_array_equal(numbers["max"], whole.max(0))
    np.testing.assert_allclose(numbers["q01"], np.quantile(whole, 0.01, axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(numbers["q99"], np.quantile(whole, 0.99, axis=0), rtol=1e-9, atol=1e-9)


def test_it_travels_as_arrays():
    estimator = seen(np.random.default_rng(0).normal(size=(2000, 3)))
    again = StatisticsEstimator.from_arrays(estimator.to_arrays())
    assert again.finish() == estimator.finish()
    error = again.finish().channels["a"].quantile_error
    assert error is not None and 0 < error < 0.04


def test_other_channels_do_not_merge():
    with pytest.raises(ConfigError, match="a, b, c cannot take in those of x"):
        seen(np.zeros((1, 3))).merge(StatisticsEstimator(("x",)))
