"""The sketch against numpy over all the rows: exact while it says so, within its own bound afterwards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.statistics_sketch import QuantileSketch

FRACTIONS = (0.0, 0.01, 0.5, 0.99, 1.0)


def rows(count: int, seed: int) -> np.ndarray:
    """A bell, a ramp, coin tosses and a constant: what robots' channels look like."""
    chance = np.random.default_rng(seed)
    columns = (
        chance.normal(size=count),
        np.arange(count) / max(count, 1),
        chance.integers(0, 2, count),
        np.ones(count),
    )
    return np.stack(columns, 1).astype(np.float32)


def rank_errors(values: np.ndarray, quantiles: np.ndarray) -> float:
    """How far the ranks that a quantile may stand for are from the one asked for, worst case."""
    below = (values[None] < quantiles[:, None]).sum(1)
    up_to = (values[None] <= quantiles[:, None]).sum(1)
    wanted = np.array(FRACTIONS)[:, None] * (len(values) - 1)
    return float(np.maximum(np.maximum(below - np.ceil(wanted), np.floor(wanted) - (up_to - 1)), 0).max())


def test_exact_while_all_rows_are_kept():
    values = rows(1000, 0)
    sketch = QuantileSketch(4, block=64, exact=1024)
    for part in np.array_split(values, 13):
        sketch.add(part)
    assert sketch.error == 0 and sketch.count == 1000
    np.testing.assert_array_equal(
        sketch.quantiles(FRACTIONS), np.quantile(values.astype(np.float64), FRACTIONS, axis=0)
    )


@given(st.integers(1, 20_000), st.sampled_from([4, 64, 256]), st.integers(0, 9), st.integers(1, 9))
def test_ranks_are_within_the_stated_error(count, block, seed, parts):
    values = rows(count, seed)
    sketch = QuantileSketch(4, block=block, exact=2 * block)
    for part in np.array_split(values, parts):
        sketch.add(part)
    assert sketch.count == count
    assert rank_errors(values, sketch.quantiles(FRACTIONS)) <= sketch.error * count + 1e-6
    assert sketch.error <= max(0.0, np.log2(count / block)) / (2 * block) + 1e-9


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=5), st.integers(0, 9))
def test_merging_keeps_count_and_bound(counts, seed):
    values = rows(sum(counts), seed)
    merged = QuantileSketch(4, block=64, exact=256)
    for part in np.split(values, np.cumsum(counts)[:-1]):
        one = QuantileSketch(4, block=64, exact=256)
        one.add(part)
        merged.merge(one)
    assert merged.count == len(values)
    if len(values):
        assert rank_errors(values, merged.quantiles(FRACTIONS)) <= merged.error * len(values) + 1e-6


@pytest.mark.parametrize("count", [0, 5, 64, 200, 3000])
def test_it_travels_as_arrays_and_goes_on_alike(count):
    values = rows(count + 500, 1)
    one = QuantileSketch(4, block=64, exact=256)
    one.add(values[:count])
    two = QuantileSketch.from_arrays(one.to_arrays())
    for sketch in (one, two):
        sketch.add(values[count:])
    assert one.error == two.error and one.count == two.count == len(values)
    np.testing.assert_array_equal(one.quantiles(FRACTIONS), two.quantiles(FRACTIONS))


def test_memory_is_bounded():
    sketch = QuantileSketch(2, block=64, exact=256)
    for seed in range(100):
        sketch.add(rows(10_000, seed)[:, :2])
    kept = sum(array.size for array in sketch.to_arrays().values())
    assert sketch.count == 1_000_000 and kept < 2 * 64 * 16 and sketch.error < 0.12
    # the bound is for the worst case; taking odd and even rows in turns does far better
    assert abs(sketch.quantiles([0.5])[0, 0]) < 0.02
