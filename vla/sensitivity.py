"""The smallest difference that a run could have seen: what "no significant difference" is worth.

Computed from the number of rows and from how often single rows turn out differently, not from the difference found:
power at the observed difference would only repeat the p-value (Hoenig and Heisey 2001, American Statistician 55, 19).
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from vla.errors import ConfigError
from vla.intervals import stratified_exact

POWER = 0.8
ALPHA = 0.05


def smallest_paired(n: int, discordant: int, *, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """Smallest true difference of two rates that the exact McNemar test over ``n`` pairs finds with this power.

    Args:
        n: pairs.
        discordant: of them, those in which exactly one side succeeded; it decides the noise. One more is assumed, so
            that a run without any does not claim to see everything.
        alpha: level of the test.
        power: wanted probability of a p-value of at most ``alpha``.

    Returns:
        in (0, 1]; None if not even a difference of 1 would be found, because the rows are too few.

    Raises:
        ConfigError: there are more discordant pairs than pairs, or no pair.
    """
    if not 0 <= discordant <= n or n < 1:
        raise ConfigError(f"{discordant} discordant pairs of {n}")
    noise = min(1.0, (discordant + 1) / n)
    critical = _critical(n, alpha)
    return _smallest(lambda difference: _paired_power(n, max(noise, difference), difference, critical), power)


def smallest_independent(
    first_n: int, second_n: int, rate: float, *, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """Smallest true difference of two rates that a test of unpaired rows finds with this power, approximately.

    Normal approximation with the pooled variance under equality; the exact test is a little weaker.

    Args:
        first_n: tries of the first.
        second_n: tries of the second.
        rate: around which the two rates lie, e.g. the pooled one; near 0 or 1 they are moved inside.
        alpha: level of the test.
        power: wanted probability of finding it.

    Returns:
        in (0, 1]; None if not even a difference of 1 would be found.

    Raises:
        ConfigError: a side has no tries, or the rate is outside [0, 1].
    """
    from scipy.stats import norm

    if min(first_n, second_n) < 1 or not 0 <= rate <= 1:
        raise ConfigError(f"{first_n} and {second_n} tries at a rate of {rate}")
    if stratified_exact([(first_n, first_n, 0, second_n)]) > alpha:
        return None  # all against none would not be significant
    z = float(norm.ppf(1 - alpha / 2))

    def found(difference: float) -> float:
        high = min(1.0, max(rate + difference / 2, difference))
        low = high - difference
        pooled = (high * first_n + low * second_n) / (first_n + second_n)
        equal = math.sqrt(pooled * (1 - pooled) * (1 / first_n + 1 / second_n))
        apart = math.sqrt(high * (1 - high) / first_n + low * (1 - low) / second_n)
        return float(norm.sf((z * equal - difference) / apart)) if apart else float(difference > z * equal)

    return _smallest(found, power)


def _smallest(found: Callable[[float], float], power: float) -> float | None:
    """Where an increasing function reaches ``power``, to 0.0005, rounded up."""
    if found(1.0) < power:
        return None
    low, high = 0.0, 1.0
    while high - low > 5e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return high


def _critical(n: int, alpha: float) -> Float64[np.ndarray, "d"]:
    """For 0 to ``n`` discordant pairs, the largest smaller count at which the test rejects; -1 where it never does."""
    from scipy.stats import binom

    numbers = np.arange(n + 1)
    quantile = binom.ppf(alpha / 2, numbers, 0.5)  # the first count whose tail reaches alpha / 2
    return np.where(2 * binom.cdf(quantile, numbers, 0.5) <= alpha, quantile, quantile - 1)


def _paired_power(n: int, noise: float, difference: float, critical: Float64[np.ndarray, "d"]) -> float:
    """Of the exact McNemar test, over every number of discordant pairs and how they split."""
    from scipy.stats import binom

    numbers = np.arange(n + 1)
    share = 0.5 + difference / (2 * noise)  # of discordant pairs that favour the better side
    few, many = binom.cdf(critical, numbers, share), binom.sf(numbers - critical - 1, numbers, share)
    reject = np.where(critical >= 0, few + many, 0.0)
    return float(binom.pmf(numbers, n, noise) @ reject)
