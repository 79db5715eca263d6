"""Statistics of any number of rows in one pass and bounded memory; two estimators merge into one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vla.errors import ConfigError, StatisticsMissing
from vla.normalize import ChannelStatistics, Statistics
from vla.statistics_sketch import QuantileSketch


@dataclass(frozen=True)
class Moments:
    """What of several parts is known exactly from each part's own.

    Attributes:
        count: rows.
        mean: of each column.
        std: the population's.
        min: smallest.
        max: largest.
    """

    count: int
    mean: Float[np.ndarray, "c"]
    std: Float[np.ndarray, "c"]
    min: Float[np.ndarray, "c"]
    max: Float[np.ndarray, "c"]


def pool(
    counts: Int[np.ndarray, "n"],
    means: Float[np.ndarray, "n c"],
    stds: Float[np.ndarray, "n c"],
    mins: Float[np.ndarray, "n c"],
    maxs: Float[np.ndarray, "n c"],
) -> Moments:
    """The moments of all rows from those of n parts, e.g. of a data set from its episodes'.

    There is no such formula for quantiles: mean and extremes of the parts' quantiles are not quantiles of the whole.

    Raises:
        StatisticsMissing: no part has a row.
    """
    weights = np.asarray(counts, dtype=np.float64)
    total = weights.sum()
    if not total:
        raise StatisticsMissing("no values to pool statistics of")
    share = (weights / total)[:, None]
    mean = (share * means).sum(0)
    # law of total variance; deviations are taken from the pooled mean, so that a large offset costs no precision
    variance = (share * (np.square(stds, dtype=np.float64) + (means - mean) ** 2)).sum(0)
    there = weights > 0
    low, high = np.asarray(mins)[there].min(0), np.asarray(maxs)[there].max(0)
    return Moments(int(total), mean, np.sqrt(variance), low, high)


class StatisticsEstimator:
    """Collects rows and computes :class:`~vla.normalize.Statistics`.

    Mean, std, min and max are exact in double precision (merged as in Chan et al. 1979). Quantiles are exact up to
    :data:`~vla.statistics_sketch.EXACT_ROWS` rows and beyond that off by a proven number of ranks, which the result
    states. Memory is bounded: 2 MiB a channel, or 64 KiB for each doubling of the rows from 16,384 on.

    Args:
        names: of the channels.
        sketch: for the quantiles; one with the usual settings if None.
    """

    def __init__(self, names: tuple[str, ...], sketch: QuantileSketch | None = None):
        self.names = names
        self._sketch = sketch or QuantileSketch(len(names))
        self._count = 0
        self._mean = np.zeros(len(names))
        self._squares = np.zeros(len(names))
        self._min = np.full(len(names), np.inf)
        self._max = np.full(len(names), -np.inf)

    def add(self, values: Float[np.ndarray, "n c"]) -> None:
        """Take in rows of raw numbers, columns in the order of ``names``.

        Raises:
            ConfigError: the columns are not as many as the names, or a number is not finite.
        """
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise ConfigError(f"statistics of {len(self.names)} channels were given an array of shape {values.shape}")
        if not len(values):
            return
        if not np.isfinite(values).all():
            column = int(np.nonzero(~np.isfinite(values))[1][0])
            raise ConfigError(f"channel {self.names[column]} holds a number that is not finite")
        wide = values.astype(np.float64)
        mean = wide.mean(0)
        self._take_in(len(wide), mean, ((wide - mean) ** 2).sum(0), wide.min(0), wide.max(0))
        self._sketch.add(values)

    def merge(self, other: "StatisticsEstimator") -> None:
        """Take in all that another estimator of the same channels has seen.

        Raises:
            ConfigError: its channels are others.
        """
        if other.names != self.names:
            raise ConfigError(f"statistics of {', '.join(self.names)} cannot take in those of {', '.join(other.names)}")
        if other._count:
            self._take_in(other._count, other._mean, other._squares, other._min, other._max)
            self._sketch.merge(other._sketch)

    def finish(self) -> Statistics:
        """The statistics of all rows so far.

        Raises:
            StatisticsMissing: there were no rows.
        """
        if not self._count:
            raise StatisticsMissing("no values to compute statistics from")
        low, high = self._sketch.quantiles([0.01, 0.99])
        std = np.sqrt(self._squares / self._count)
        columns = zip(*(column.tolist() for column in (self._mean, std, self._min, self._max, low, high)), strict=True)
        return Statistics(
            {
                name: ChannelStatistics(*numbers, count=self._count, quantile_error=self._sketch.error)
                for name, numbers in zip(self.names, columns, strict=True)
            }
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything, for a file."""
        moments = np.stack([self._mean, self._squares, self._min, self._max])
        own = {"names": np.array(self.names, dtype=np.str_), "count": np.array(self._count), "moments": moments}
        return own | {f"sketch_{name}": array for name, array in self._sketch.to_arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "StatisticsEstimator":
        """The estimator that :meth:`to_arrays` wrote.

        Raises:
            KeyError: an array is missing.
        """
        sketch = {name.removeprefix("sketch_"): value for name, value in arrays.items() if name.startswith("sketch_")}
        result = cls(tuple(arrays["names"].tolist()), QuantileSketch.from_arrays(sketch))
        result._count = int(arrays["count"])
        result._mean, result._squares, result._min, result._max = np.array(arrays["moments"])
        return result

    def _take_in(self, count: int, mean: np.ndarray, squares: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        shift, total = mean - self._mean, self._count + count
        self._squares = self._squares + squares + shift**2 * (self._count * count / total)
        self._mean = self._mean + shift * (count / total)
        self._min, self._max, self._count = np.minimum(self._min, low), np.maximum(self._max, high), total
