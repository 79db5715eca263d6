"""Weights, temperature and sub-sampling against their formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.datasets.mixture_shares import draw_shares, sampled_episodes
from vla.errors import ConfigError

SIZES = st.lists(st.integers(1, 10**9), min_size=1, max_size=8)


@given(SIZES, st.floats(0.5, 100))
def test_temperature_flattens_sizes(sizes, temperature):
    shares = draw_shares(sizes, temperature=temperature)
    powers = [size ** (1 / temperature) for size in sizes]
    assert shares == pytest.approx([power / sum(powers) for power in powers], rel=1e-9)
    assert sum(shares) == pytest.approx(1)


def test_limits_of_the_temperature():
    assert draw_shares([10, 30], temperature=1) == pytest.approx((0.25, 0.75))
    assert draw_shares([10, 30], temperature=math.inf) == pytest.approx((0.5, 0.5))


def test_a_share_ignores_the_size_and_a_factor_multiplies_it():
    assert draw_shares([10, 1000], [1, 3]) == pytest.approx((0.25, 0.75))
    assert draw_shares([10, 30], [3, 1], kind="times-size") == pytest.approx((0.5, 0.5))
    assert draw_shares([10, 40], [2, 1], kind="times-size", temperature=2) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("sizes", "weights", "options", "message"),
    [
        ([1, 2], [1], {}, "1 weights were given for 2"),
        ([1], [0], {}, "above 0"),
        ([1], [math.inf], {}, "finite"),
        ([1], [], {"temperature": 0}, "temperature"),
        ([1], [], {"temperature": math.nan}, "temperature"),
        ([1, 2], [1, 2], {"temperature": 2}, "times-size"),
        ([1, 10**9], [], {"temperature": 0.02}, "never drawn"),
    ],
)
def test_settings_out_of_range(sizes, weights, options, message):
    with pytest.raises(ConfigError, match=message):
        draw_shares(sizes, weights, **options)


@given(st.integers(1, 500), st.data(), st.integers())
def test_a_smaller_sample_is_part_of_a_larger_one(count, data, seed):
    large = data.draw(st.integers(1, count))
    small = data.draw(st.integers(1, large))
    few, many = (sampled_episodes(count, str(size), seed=seed).tolist() for size in (small, large))
    assert len(few) == small and len(many) == large
    assert set(few) <= set(many) <= set(range(count)) and few == sorted(set(few))


def test_parts_and_all():
    assert len(sampled_episodes(1000, "25%", seed=0)) == 250
    assert len(sampled_episodes(10, "1%", seed=0)) == 1
    assert sampled_episodes(7, "all", seed=0).tolist() == list(range(7))
    assert sampled_episodes(7, "100%", seed=3).tolist() == list(range(7))
    one, two = (sampled_episodes(1000, "100", seed=seed) for seed in (0, 1))
    assert 0 < len(np.intersect1d(one, two)) < 40, "another seed, other episodes"


@pytest.mark.parametrize("sample", ["0", "8", "-1", "101%", "0%", "half", "", "nan%", "inf%", "1.5"])
def test_samples_that_are_none(sample):
    with pytest.raises(ConfigError, match="sample"):
        sampled_episodes(7, sample, seed=0)
