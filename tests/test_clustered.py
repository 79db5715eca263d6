"""Intervals and tests with the task as the unit, against statsmodels, exact enumeration and simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.clustered import clustered_difference, clustered_wilson, sign_flip_exact
from vla.errors import ConfigError
from vla.intervals import mcnemar_exact, wilson, wilson_from_rate


def variance_of_statsmodels(values, groups):
    """Of a mean, cluster-robust with statsmodels' own small-sample factor."""
    from statsmodels.regression.linear_model import OLS

    fitted = OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True}
    )
    return float(fitted.cov_params()[0, 0]), fitted


def episodes(rng, tasks, each, spread):
    rates = rng.beta(0.8 / spread, 0.2 / spread, tasks)
    return rng.random((tasks, each)) < rates[:, None]


def test_the_variance_is_the_cluster_robust_one_of_statsmodels():
    rng = np.random.default_rng(3)
    solved = episodes(rng, 10, 20, 0.3)
    groups = np.repeat(np.arange(10), 20)
    variance, _ = variance_of_statsmodels(solved.ravel().astype(float), groups)
    rate = solved.mean()
    from scipy.stats import norm, t

    effective = rate * (1 - rate) / variance * (norm.ppf(0.975) / t.ppf(0.975, 9)) ** 2
    assert effective < solved.size
    low, high = clustered_wilson(solved.sum(1).tolist(), [20] * 10) or (0, 0)
    assert (low, high) == pytest.approx(wilson_from_rate(rate, effective), abs=1e-9)
    plain = wilson(int(solved.sum()), solved.size)
    assert low < plain[0] and high > plain[1]


def test_the_interval_of_a_difference_is_that_of_statsmodels_with_students_t():
    rng = np.random.default_rng(4)
    first, second = (episodes(rng, 8, 15, 0.3).astype(int) for _ in range(2))
    difference = first - second
    groups = np.repeat(np.arange(8), 15)
    _, fitted = variance_of_statsmodels(difference.ravel().astype(float), groups)
    from scipy.stats import t

    mean, error = float(fitted.params[0]), float(fitted.bse[0])
    reach = t.ppf(0.975, 7) * error
    assert clustered_difference(difference.sum(1).tolist(), [15] * 8) == pytest.approx((mean - reach, mean + reach))


@pytest.mark.parametrize(
    ("tasks", "each", "mean", "icc"), [(10, 50, 0.8, 0.0), (10, 50, 0.9, 0.05), (20, 20, 0.6, 0.2)]
)
def test_it_covers_the_truth_where_wilson_does_not(tasks, each, mean, icc):
    rng = np.random.default_rng(7)
    hits = plain = 0
    rounds = 400
    for _ in range(rounds):
        spread = 1 / icc - 1 if icc else None
        rates = np.full(tasks, mean) if spread is None else rng.beta(mean * spread, (1 - mean) * spread, tasks)
        solved = rng.binomial(each, rates)
        low, high = clustered_wilson(solved.tolist(), [each] * tasks) or (0, 0)
        hits += low <= mean <= high
        low, high = wilson(int(solved.sum()), tasks * each)
        plain += low <= mean <= high
    assert hits / rounds > 0.93
    assert icc == 0 or plain / rounds < 0.85


def test_what_cannot_be_known_is_not_said():
    assert clustered_wilson([5], [10]) is None
    assert clustered_wilson([5, 0], [10, 0]) is None
    assert clustered_difference([3], [10]) is None
    assert clustered_difference([3, 3], [10, 10]) is None  # nothing shows how much tasks vary
    low, high = clustered_wilson([50] * 10, [50] * 10) or (0, 0)
    assert 0.98 < low < wilson(500, 500)[0] and high == 1.0
    for wrong in ([11], [-1]):
        with pytest.raises(ConfigError):
            clustered_wilson([*wrong, 1], [10, 10])
    with pytest.raises(ConfigError):
        clustered_wilson([1], [1, 2])


@settings(deadline=None)
@given(st.lists(st.integers(-12, 12), max_size=9))
def test_sign_flips_are_every_one_of_them(differences):
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True))
            for signs in itertools.product((-1, 1), repeat=len(differences))]  # fmt: skip
    expected = np.mean([abs(value) >= abs(sum(differences)) for value in sums])
    assert sign_flip_exact(differences) == pytest.approx(expected)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_sign_flips_of_single_rows_are_mcnemars_test(only_first, only_second):
    differences = [1] * only_first + [-1] * only_second + [0] * 7
    assert sign_flip_exact(differences) == pytest.approx(mcnemar_exact(only_first, only_second))
