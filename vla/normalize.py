"""Statistics by channel name, and the one place where raw units become the model's numbers and back.

A checkpoint carries both the numbers and the rule (:class:`NormalizeSpec`), because the same word means different
things elsewhere: "bounds" is q01/q99 in Octo and min/max in OpenVLA; a constant channel is -1 in LeRobot, 0 in OpenVLA.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32

from vla.errors import ConfigError, StatisticsMissing

FIELDS = ("mean", "std", "min", "max", "q01", "q99")


@dataclass(frozen=True)
class ChannelStatistics:
    """Of one channel over ``count`` values, raw units; ``std`` is the population's, quantiles interpolate linearly."""

    mean: float
    std: float
    min: float
    max: float
    q01: float
    q99: float
    count: int


@dataclass(frozen=True)
class Statistics:
    """Statistics of a data set by channel name."""

    channels: Mapping[str, ChannelStatistics]

    def arrays(self, names: Sequence[str]) -> dict[str, Float[np.ndarray, "c"]]:
        """One array for each of mean, std, min, max, q01, q99, in the order of ``names``.

        Raises:
            StatisticsMissing: a channel has none.
        """
        missing = [name for name in names if name not in self.channels]
        if missing:
            present = ", ".join(sorted(self.channels)) or "none"
            raise StatisticsMissing(f"no statistics for {', '.join(missing)}; there are some for {present}")
        return {key: np.array([getattr(self.channels[name], key) for name in names]) for key in FIELDS}

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :meth:`from_json` reads back."""
        return {name: asdict(channel) for name, channel in self.channels.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Statistics":
        """The statistics that :meth:`to_json` wrote.

        Raises:
            StatisticsMissing: a number of a channel is missing or not finite.
        """
        wanted = {entry.name for entry in fields(ChannelStatistics)}
        channels = {}
        for name, numbers in value.items():
            if not isinstance(numbers, Mapping) or not wanted <= numbers.keys():
                absent = sorted(wanted - set(numbers)) if isinstance(numbers, Mapping) else sorted(wanted)
                raise StatisticsMissing(f"statistics of {name}: {', '.join(absent)} missing")
            if not all(isinstance(numbers[key], int | float) and math.isfinite(numbers[key]) for key in wanted):
                raise StatisticsMissing(f"statistics of {name}: expected finite numbers, found {json.dumps(numbers)}")
            channels[name] = ChannelStatistics(**{key: numbers[key] for key in wanted})
        return cls(channels)


@dataclass
class StatisticsEstimator:
    """Collects values and computes :class:`Statistics`: mean and std merged as in Chan et al. 1979, quantiles exact.

    Keeps all values (4 bytes a number) for the quantiles.
    """

    names: tuple[str, ...]
    _count: int = 0
    _mean: np.ndarray = field(init=False)
    _squares: np.ndarray = field(init=False)
    _values: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self):
        self._mean = np.zeros(len(self.names))
        self._squares = np.zeros(len(self.names))

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
        count, mean = len(wide), wide.mean(0)
        squares = ((wide - mean) ** 2).sum(0)
        shift, total = mean - self._mean, self._count + count
        self._squares += squares + shift**2 * (self._count * count / total)
        self._mean += shift * (count / total)
        self._count = total
        self._values.append(values.astype(np.float32))

    def finish(self) -> Statistics:
        """The statistics of all rows so far.

        Raises:
            StatisticsMissing: there were no rows.
        """
        if not self._count:
            raise StatisticsMissing("no values to compute statistics from")
        values = np.concatenate(self._values)
        low, high = np.quantile(values.astype(np.float64), [0.01, 0.99], axis=0)
        std = np.sqrt(self._squares / self._count)
        return Statistics(
            {
                name: ChannelStatistics(
                    float(self._mean[i]),
                    float(std[i]),
                    float(values[:, i].min()),
                    float(values[:, i].max()),
                    float(low[i]),
                    float(high[i]),
                    self._count,
                )
                for i, name in enumerate(self.names)
            }
        )


@dataclass(frozen=True)
class NormalizeSpec:
    """The rule by which raw numbers become the model's.

    Attributes:
        kind: ``mean_std``: (x - mean) / (std + epsilon); ``quantile``: q01..q99 to -1..1;
            ``min_max``: min..max to -1..1; ``identity``: nothing.
        skip: channels passed through unchanged.
        clip: the result is clipped to +-clip; None for not.
        epsilon: added to the denominator.
        constant: what a channel without spread becomes: 0, or -1 (LeRobot), or ``scaled``: the formula as it stands.
    """

    kind: Literal["mean_std", "quantile", "min_max", "identity"] = "quantile"
    skip: tuple[str, ...] = ()
    clip: float | None = None
    epsilon: float = 1e-8
    constant: Literal["zero", "minus_one", "scaled"] = "zero"

    def __post_init__(self):
        if self.kind not in ("mean_std", "quantile", "min_max", "identity"):
            raise ConfigError(f"normalisation kind {self.kind!r} is none of mean_std, quantile, min_max, identity")
        if self.constant not in ("zero", "minus_one", "scaled"):
            raise ConfigError(f"rule for constant channels {self.constant!r} is none of zero, minus_one, scaled")
        if self.epsilon < 0 or (self.clip is not None and self.clip <= 0):
            raise ConfigError("normalisation needs epsilon >= 0 and clip > 0")


@dataclass(frozen=True)
class Normalize:
    """Raw numbers to the model's (:meth:`encode`) and back (:meth:`decode`), for one list of channels.

    ``encode(x) = (x - shift) / spread - base``; constant channels encode to a constant and decode to their raw value.
    """

    spec: NormalizeSpec
    names: tuple[str, ...]
    shift: Float32[np.ndarray, "c"]
    spread: Float32[np.ndarray, "c"]
    base: Float32[np.ndarray, "c"]
    frozen: Bool[np.ndarray, "c"]

    @classmethod
    def build(cls, spec: NormalizeSpec, statistics: Statistics, names: Sequence[str]) -> "Normalize":
        """The normalisation of ``names`` by their statistics.

        Raises:
            StatisticsMissing: a channel that is not skipped has none.
            ConfigError: a skipped channel is not among the names.
        """
        names = tuple(names)
        if unknown := set(spec.skip) - set(names):
            raise ConfigError(f"channels to skip are not there: {', '.join(sorted(unknown))}")
        shift, spread = np.zeros(len(names)), np.ones(len(names))
        base, frozen = np.zeros(len(names)), np.zeros(len(names), dtype=bool)
        used = [i for i, name in enumerate(names) if name not in spec.skip]
        if spec.kind != "identity" and used:
            numbers = statistics.arrays([names[i] for i in used])
            if spec.kind == "mean_std":
                low, width, factor, floor = numbers["mean"], numbers["std"], 1.0, 0.0
            else:
                first, last = ("q01", "q99") if spec.kind == "quantile" else ("min", "max")
                low, width, factor, floor = numbers[first], numbers[last] - numbers[first], 2.0, 1.0
            still = width <= 0 if spec.constant != "scaled" else np.zeros(len(used), dtype=bool)
            shift[used], base[used], frozen[used] = low, floor, still
            spread[used] = np.where(still, 1.0, (width + spec.epsilon) / factor)
            if (spread[used] <= 0).any():
                raise ConfigError("a constant channel with epsilon 0 and rule 'scaled' divides by zero")
        return cls(spec, names, shift.astype(np.float32), spread.astype(np.float32), base.astype(np.float32), frozen)

    def encode(self, values: Float[np.ndarray, "*batch c"]) -> Float32[np.ndarray, "*batch c"]:
        """Raw numbers as the model's."""
        result = (values - self.shift) / self.spread - self.base
        if self.frozen.any():
            result = np.where(self.frozen, -1.0 if self.spec.constant == "minus_one" else 0.0, result)
        if self.spec.clip is not None:
            used = np.array([name not in self.spec.skip for name in self.names])
            result = np.where(used, np.clip(result, -self.spec.clip, self.spec.clip), result)
        return result.astype(np.float32)

    def decode(self, values: Float[np.ndarray, "*batch c"]) -> Float32[np.ndarray, "*batch c"]:
        """The model's numbers as raw ones."""
        result = (values + self.base) * self.spread + self.shift
        return np.where(self.frozen, self.shift, result).astype(np.float32)
