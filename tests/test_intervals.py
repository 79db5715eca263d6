"""Intervals and tests against the formulas of the books, other libraries and exact enumeration."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import ConfigError
from vla.intervals import (
    holm,
    independent_difference,
    mcnemar_exact,
    paired_difference,
    stratified_exact,
    wilson,
    wilson_from_rate,
)

Z = 1.959963984540054


@settings(deadline=None)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_the_published_formula(counts):
    k, n = counts
    low, high = wilson(k, n)
    p = k / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    assert low == pytest.approx(max(0.0, centre - half), abs=1e-9)
    assert high == pytest.approx(min(1.0, centre + half), abs=1e-9)
    assert 0 <= low <= p <= high <= 1


@settings(deadline=None)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.99]))
def test_wilson_agrees_with_statsmodels(counts, confidence):
    from statsmodels.stats.proportion import proportion_confint

    k, n = counts
    theirs = proportion_confint(k, n, alpha=1 - confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx(theirs, abs=1e-9)


def test_wilson_of_the_known_and_of_nothing():
    assert wilson(85, 100) == pytest.approx((0.7672, 0.9069), abs=1e-4)  # 77 to 91 %
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    for wrong in [(-1, 5), (6, 5)]:
        with pytest.raises(ConfigError):
            wilson(*wrong)
    with pytest.raises(ConfigError):
        wilson(1, 2, 1.0)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_twice_the_binomial_tail(b, c):
    n = b + c
    tail = sum(math.comb(n, i) for i in range(min(b, c) + 1)) / 2**n
    assert mcnemar_exact(b, c) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 0), (12, 3), (40, 41)])
def test_mcnemar_agrees_with_statsmodels(b, c):
    from statsmodels.stats.contingency_tables import mcnemar

    theirs = mcnemar([[7, b], [c, 9]], exact=True).pvalue  # type: ignore[attr-defined]
    assert mcnemar_exact(b, c) == pytest.approx(theirs if b + c else 1.0)


def test_paired_difference_is_newcombes_tenth_method():
    """Newcombe 1998b, Table II: (a, b, c, d) = (36, 12, 2, 0) has 0.20, from 0.0569 to 0.3404."""
    assert paired_difference(36, 12, 2, 0) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


@settings(deadline=None)
@given(*[st.integers(0, 40)] * 4)
def test_paired_difference_is_antisymmetric_and_within_bounds(a, b, c, d):
    if a + b + c + d == 0:
        with pytest.raises(ConfigError):
            paired_difference(a, b, c, d)
        return
    difference, low, high = paired_difference(a, b, c, d)
    assert -1 - 1e-9 <= low <= difference <= high <= 1 + 1e-9
    swapped = paired_difference(a, c, b, d)
    assert swapped == pytest.approx((-difference, -high, -low), abs=1e-9)


@pytest.mark.parametrize("p", [(0.5, 0.2, 0.1, 0.2), (0.1, 0.6, 0.05, 0.25), (0.8, 0.1, 0.05, 0.05)])
def test_paired_difference_covers_the_truth(p):
    """Over every possible outcome of 25 pairs, weighted by its probability."""
    n, covered = 25, 0.0
    for a, b, c in itertools.product(range(n + 1), repeat=3):
        d = n - a - b - c
        if d < 0:
            continue
        weight = math.exp(
            math.lgamma(n + 1) + sum(k * math.log(q) - math.lgamma(k + 1) for k, q in zip((a, b, c, d), p, strict=True))
        )
        if weight < 1e-7:
            continue
        _, low, high = paired_difference(a, b, c, d)
        covered += weight * (low <= p[1] - p[2] <= high)
    assert 0.93 < covered < 0.99


@settings(deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_from_a_rate_is_wilson(counts):
    k, n = counts
    assert wilson_from_rate(k / n, n) == pytest.approx(wilson(k, n), abs=1e-9)


@settings(deadline=None)
@given(*[st.integers(1, 80).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))] * 2)
def test_independent_difference_agrees_with_statsmodels(first, second):
    from statsmodels.stats.proportion import confint_proportions_2indep

    difference, low, high = independent_difference(*first, *second)
    assert difference == pytest.approx(first[0] / first[1] - second[0] / second[1])
    theirs = confint_proportions_2indep(*first, *second, method="newcomb", compare="diff")
    assert (low, high) == pytest.approx(theirs, abs=1e-9)


@settings(deadline=None)
@given(*[st.integers(0, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))] * 2)
def test_one_stratum_is_fishers_test(first, second):
    from scipy.stats import fisher_exact

    (a, m), (b, n) = first, second
    assert stratified_exact([(a, m, b, n)]) == pytest.approx(fisher_exact([[a, m - a], [b, n - b]])[1])


def test_strata_are_permuted_within_themselves():
    """Every way to deal out the outcomes inside each of two tasks, counted one by one."""
    tables = [(3, 4, 1, 3), (2, 3, 0, 4)]
    sums = {}
    for chosen in itertools.product(*(itertools.combinations(range(m + n), m) for _, m, _, n in tables)):
        total = sum(sum(place < a + b for place in places) for places, (a, _, b, _) in zip(chosen, tables, strict=True))
        sums[total] = sums.get(total, 0) + 1
    observed = sum(a for a, *_ in tables)
    expected = sum(count for count in sums.values() if count <= sums[observed]) / sum(sums.values())
    assert stratified_exact(tables) == pytest.approx(expected)
    with pytest.raises(ConfigError):
        stratified_exact([(2, 1, 0, 1)])


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_agrees_with_statsmodels(p_values):
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
