"""The smallest visible difference, against statsmodels and simulation of the very test it speaks of."""

import numpy as np
import pytest

from vla.errors import ConfigError
from vla.intervals import mcnemar_exact
from vla.sensitivity import smallest_independent, smallest_paired


@pytest.mark.parametrize(("n", "discordant"), [(20, 3), (100, 12), (500, 20)])
def test_the_paired_test_finds_it_four_times_in_five(n, discordant):
    difference = smallest_paired(n, discordant)
    assert difference is not None
    noise = max((discordant + 1) / n, difference)
    rng = np.random.default_rng(0)
    split = rng.multinomial(n, [(noise + difference) / 2, (noise - difference) / 2, 1 - noise], 4000)
    found = np.mean([mcnemar_exact(int(b), int(c)) <= 0.05 for b, c, _ in split])
    assert found == pytest.approx(0.8, abs=0.03)


def test_too_few_rows_see_nothing():
    assert smallest_paired(5, 1) is None  # even five of five has p = 0.06
    assert smallest_paired(6, 0) is not None
    assert smallest_paired(6, 0, alpha=0.05 / 3) is None
    assert smallest_independent(2, 2, 0.5) is None


def test_more_rows_less_noise_and_a_looser_level_see_more():
    assert smallest_paired(1000, 40) < smallest_paired(100, 4) < smallest_paired(100, 20)  # type: ignore[operator]
    assert smallest_paired(100, 20) < smallest_paired(100, 20, alpha=0.01)  # type: ignore[operator]
    assert smallest_independent(500, 500, 0.95) < smallest_independent(500, 500, 0.5)  # type: ignore[operator]


@pytest.mark.parametrize(("n", "rate"), [(50, 0.5), (500, 0.95), (200, 0.2)])
def test_the_unpaired_one_agrees_with_statsmodels(n, rate):
    from statsmodels.stats.proportion import power_proportions_2indep

    difference = smallest_independent(n, n, rate)
    assert difference is not None
    low = min(rate - difference / 2, 1 - difference)
    power = power_proportions_2indep(difference, low, n, alternative="two-sided").power  # type: ignore[attr-defined]
    assert power == pytest.approx(0.8, abs=0.02)


def test_impossible_counts_are_refused():
    with pytest.raises(ConfigError):
        smallest_paired(0, 0)
    with pytest.raises(ConfigError):
        smallest_paired(3, 4)
    with pytest.raises(ConfigError):
        smallest_independent(0, 5, 0.5)
