"""How sure a count makes us: an interval for one rate, a test and an interval for the difference of two paired ones."""

import math

from vla.errors import ConfigError


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate.

    Unlike the normal approximation it stays inside [0, 1] and says something useful at 0 of n and at n of n.

    Args:
        successes: of n.
        n: independent tries; with 0 nothing is known and the interval is (0, 1).
        confidence: probability that such an interval covers the true rate.

    Raises:
        ConfigError: there are more successes than tries, or a count is negative.
    """
    if not 0 <= successes <= n:
        raise ConfigError(f"{successes} successes of {n} tries")
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence lies between 0 and 1, found {confidence}")
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value that two paired rates are equal, from the pairs that differ.

    Args:
        only_first: pairs in which only the first succeeded.
        only_second: pairs in which only the second did.

    Returns:
        1.0 if no pair differs.

    Raises:
        ConfigError: a count is negative.
    """
    if min(only_first, only_second) < 0:
        raise ConfigError(f"counts of pairs cannot be negative, found {only_first} and {only_second}")
    if only_first == only_second:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second).pvalue)


def paired_difference(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The first rate minus the second over the same rows, with Newcombe's interval for paired data.

    Two Wilson intervals, joined with the correlation of the pairs (Newcombe 1998, Statistics in Medicine 17, 2635,
    method 10). It does not come from the same assumption as :func:`mcnemar_exact`: near the border one may exclude a
    difference of 0 where the other does not.

    Returns:
        difference, low, high.

    Raises:
        ConfigError: a count is negative, or all are 0.
    """
    counts = (both, only_first, only_second, neither)
    n = sum(counts)
    if min(counts) < 0 or n == 0:
        raise ConfigError(f"counts of pairs must not be negative, nor all 0, found {counts}")
    first, second = both + only_first, both + only_second
    low_1, high_1 = wilson(first, n, confidence)
    low_2, high_2 = wilson(second, n, confidence)
    p1, p2 = first / n, second / n
    phi = _correlation(both, only_first, only_second, neither)
    difference = p1 - p2

    def reach(d1: float, d2: float) -> float:
        return math.sqrt(max(0.0, d1**2 - 2 * phi * d1 * d2 + d2**2))

    return difference, difference - reach(p1 - low_1, high_2 - p2), difference + reach(high_1 - p1, p2 - low_2)


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Phi of the fourfold table with Newcombe's continuity correction towards 0; 0 where a margin is empty."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    n = both + only_first + only_second + neither
    cross = both * neither - only_first * only_second
    corrected = max(cross - n / 2, 0.0) if cross > 0 else float(cross)
    return corrected / math.sqrt(margins)
