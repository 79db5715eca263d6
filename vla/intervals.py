"""How sure counts make us: an interval for one rate; tests and intervals for the difference of two, paired or not."""

import math
from collections.abc import Sequence

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


def wilson_from_rate(rate: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a rate from ``n`` tries, which need not be a whole number (effective tries).

    Raises:
        ConfigError: the rate is outside [0, 1] or there is no try.
    """
    if not 0 <= rate <= 1 or n <= 0:
        raise ConfigError(f"a rate of {rate} from {n} tries")
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + confidence / 2))
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # at 0 and 1 the end is the rate itself, which rounding may miss
    return min(rate, max(0.0, centre - reach)), max(rate, min(1.0, centre + reach))


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


def independent_difference(
    first: int, first_n: int, second: int, second_n: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The first rate minus the second from different rows, with Newcombe's hybrid score interval.

    Two Wilson intervals, joined (Newcombe 1998, Statistics in Medicine 17, 873, method 10).

    Returns:
        difference, low, high.

    Raises:
        ConfigError: a side has no tries, or more successes than tries.
    """
    if min(first_n, second_n) < 1:
        raise ConfigError(f"a difference needs tries on both sides, found {first_n} and {second_n}")
    low_1, high_1 = wilson(first, first_n, confidence)
    low_2, high_2 = wilson(second, second_n, confidence)
    p1, p2 = first / first_n, second / second_n
    below, above = math.hypot(p1 - low_1, high_2 - p2), math.hypot(high_1 - p1, p2 - low_2)
    return p1 - p2, p1 - p2 - below, p1 - p2 + above


def stratified_exact(tables: Sequence[tuple[int, int, int, int]]) -> float:
    """Exact two-sided p-value that two policies succeed equally often within every stratum (a task), rows not paired.

    Conditional on each stratum's successes, the first side's are hypergeometric; their sum's distribution is the
    convolution (the exact form of the Cochran-Mantel-Haenszel test; with one stratum, Fisher's exact test). Two-sided:
    all sums that are at most as probable as the observed one.

    Args:
        tables: of each stratum: successes and tries of the first, successes and tries of the second.

    Returns:
        1.0 if nothing differs or there is nothing to compare.

    Raises:
        ConfigError: there are more successes than tries.
    """
    import numpy as np
    from scipy.stats import hypergeom

    chances, start, observed = np.ones(1), 0, 0
    for first, first_n, second, second_n in tables:
        if not (0 <= first <= first_n and 0 <= second <= second_n):
            raise ConfigError(f"{first} of {first_n} and {second} of {second_n}: more successes than tries")
        if not (first_n and second_n):
            continue
        solved = first + second
        least, most = max(0, solved - second_n), min(first_n, solved)
        chances = np.convolve(chances, hypergeom.pmf(np.arange(least, most + 1), first_n + second_n, solved, first_n))
        start, observed = start + least, observed + first
    return float(min(1.0, chances[chances <= chances[observed - start] * (1 + 1e-7)].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several (Holm 1979, Scandinavian Journal of Statistics 6, 65), in the given order.

    Comparing an adjusted value with a level keeps the chance of any false positive among all below that level.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Phi of the fourfold table with Newcombe's continuity correction towards 0; 0 where a margin is empty."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    n = both + only_first + only_second + neither
    cross = both * neither - only_first * only_second
    corrected = max(cross - n / 2, 0.0) if cross > 0 else float(cross)
    return corrected / math.sqrt(margins)
