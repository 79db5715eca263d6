"""How much each data set of a mixture is drawn, and from which of its episodes."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int64

from vla.datasets.shuffle import permuted
from vla.errors import ConfigError

WeightKind = Literal["share", "times-size"]
"""``share``: a weight is a share of the draws. ``times-size``: it multiplies the data set's size, as in Octo's and
OpenVLA's mixtures, where 2 means that each window comes twice as often as at 1."""


def draw_shares(
    sizes: Sequence[int],
    weights: Sequence[float] = (),
    *,
    kind: WeightKind = "share",
    temperature: float = 1.0,
) -> tuple[float, ...]:
    """The chance of each data set to be drawn from; together 1.

    ``times-size``, and no weights at all (all 1), give ``weight * size ** (1 / temperature)``: at temperature 1 every
    window of equal weight is as likely as any other, at higher ones small sets come more often, at infinity all sets
    alike.

    Args:
        sizes: windows of each data set.
        weights: one each, in any unit; none for all alike.
        kind: what a weight says.
        temperature: above 0.

    Raises:
        ConfigError: a number is out of its range, or a temperature is given for shares, which know no size.
    """
    if weights and len(weights) != len(sizes):
        raise ConfigError(f"{len(weights)} weights were given for {len(sizes)} data sets")
    if not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise ConfigError(f"weights must be finite and above 0, found {list(weights)}")
    if not temperature > 0:
        raise ConfigError(f"temperature must be above 0, found {temperature}")
    if kind == "share" and weights:
        if temperature != 1.0:
            raise ConfigError("a temperature flattens sizes; weights that are shares leave none: use times-size")
        chances = np.array(weights, dtype=np.float64)
    else:
        # relative to the largest set: no power overflows
        relative = np.array(sizes, dtype=np.float64) / max(sizes)
        chances = np.array(weights or [1.0] * len(sizes)) * relative ** (1 / temperature)
    if not chances.all():
        raise ConfigError(f"at temperature {temperature} the smallest of {list(sizes)} windows are never drawn")
    return tuple((chances / chances.sum()).tolist())


def sampled_episodes(count: int, sample: str, *, seed: int) -> Int64[np.ndarray, "n"]:
    """Numbers of the episodes of a random sub-set, in rising order; a smaller one is part of a larger one.

    Args:
        count: episodes in all.
        sample: ``"all"``, a number of episodes (``"100"``), or a part of them (``"25%"``, at least one).
        seed: names the sub-set.

    Raises:
        ConfigError: the sample is none of these, or larger than the data set.
    """
    wanted = _wanted(count, sample)
    if wanted == count:
        return np.arange(count)
    return np.sort(permuted(np.arange(wanted), np.zeros(wanted, np.int64), [count], [(seed, 2)]))


def _wanted(count: int, sample: str) -> int:
    if sample == "all":
        return count
    try:
        number = float(sample.removesuffix("%")) / 100 * count if sample.endswith("%") else int(sample)
    except ValueError as error:
        raise ConfigError(f"a sample is 'all', a number of episodes or a percentage, found {sample!r}") from error
    if not 0 < number <= count:
        raise ConfigError(f"a sample of {sample} episodes of a data set that has {count}")
    return max(1, round(number))
