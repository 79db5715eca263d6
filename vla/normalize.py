"""Statistics by channel name, and the one place where raw units become the model's numbers and back.

A checkpoint carries both the numbers and the rule (:class:`NormalizeSpec`), because the same word means different
things elsewhere: "bounds" is q01/q99 in Octo and min/max in OpenVLA; a constant channel is -1 in LeRobot, 0 in OpenVLA.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32

from vla.errors import ConfigError, StatisticsMissing

FIELDS = ("mean", "std", "min", "max", "q01", "q99")


@dataclass(frozen=True)
class ChannelStatistics:
    """Of one channel over ``count`` values, raw units; ``std`` is the population's.

    Attributes:
        mean: exact.
        std: exact.
        min: exact; None where a file of another program has none.
        max: likewise.
        q01: 1 % quantile; None where a file of another program has none: nothing else can stand in for it.
        q99: 99 % quantile, likewise.
        count: values.
        quantile_error: the quantiles' ranks are off by this fraction of ``count`` at most; 0 where they are exact
            (and interpolate linearly), None where nobody says.
    """

    mean: float
    std: float
    min: float | None
    max: float | None
    q01: float | None
    q99: float | None
    count: int
    quantile_error: float | None = 0.0


@dataclass(frozen=True)
class Statistics:
    """Statistics of a data set by channel name."""

    channels: Mapping[str, ChannelStatistics]

    def arrays(self, names: Sequence[str], wanted: Sequence[str] = FIELDS) -> dict[str, Float[np.ndarray, "c"]]:
        """One array for each of ``wanted`` (mean, std, min, max, q01, q99), in the order of ``names``.

        Raises:
            StatisticsMissing: a channel has none, or not all of these.
        """
        missing = [name for name in names if name not in self.channels]
        if missing:
            present = ", ".join(sorted(self.channels)) or "none"
            raise StatisticsMissing(f"no statistics for {', '.join(missing)}; there are some for {present}")
        for key in wanted:
            without = [name for name in names if getattr(self.channels[name], key) is None]
            if without:
                raise StatisticsMissing(
                    f"no {key} for {', '.join(without)}: the file that the statistics come from has none; "
                    "compute them from the data"
                )
        return {key: np.array([getattr(self.channels[name], key) for name in names]) for key in wanted}

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :meth:`from_json` reads back."""
        return {name: asdict(channel) for name, channel in self.channels.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Statistics":
        """The statistics that :meth:`to_json` wrote.

        Raises:
            StatisticsMissing: a number of a channel is missing or not finite.
        """
        channels = {}
        for name, numbers in value.items():
            absent = sorted(_REQUIRED - set(numbers)) if isinstance(numbers, Mapping) else sorted(_REQUIRED)
            if absent:
                raise StatisticsMissing(f"statistics of {name}: {', '.join(absent)} missing")
            # files older than the sketch have exact quantiles and do not say so
            read: dict[str, Any] = {"quantile_error": 0.0} | {key: numbers[key] for key in numbers if key in _KNOWN}
            if not all(_is_number(item) or (item is None and key in _OPTIONAL) for key, item in read.items()):
                raise StatisticsMissing(f"statistics of {name}: expected finite numbers, found {json.dumps(numbers)}")
            channels[name] = ChannelStatistics(**read)
        return cls(channels)


_KNOWN = {entry.name for entry in fields(ChannelStatistics)}
_REQUIRED = _KNOWN - {"quantile_error"}
_OPTIONAL = {"min", "max", "q01", "q99", "quantile_error"}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class NormalizeSpec:
    """The rule by which raw numbers become the model's.

    Attributes:
        kind: ``mean_std``: (x - mean) / (std + epsilon); ``quantile``: q01..q99 to -1..1;
            ``min_max``: min..max to -1..1; ``identity``: nothing.
        skip: channels passed through unchanged.
        clip: the result is clipped to +-clip; None for not.
        epsilon: added to the denominator.
        constant: what a channel without spread becomes: 0, or -1, or ``scaled``: the formula as it stands, or
            ``epsilon``: that formula with ``epsilon`` as its whole denominator, added nowhere else (LeRobot's bounds:
            -1 at the constant, far away from it anywhere else).
    """

    kind: Literal["mean_std", "quantile", "min_max", "identity"] = "quantile"
    skip: tuple[str, ...] = ()
    clip: float | None = None
    epsilon: float = 1e-8
    constant: Literal["zero", "minus_one", "scaled", "epsilon"] = "zero"

    def __post_init__(self):
        if self.kind not in ("mean_std", "quantile", "min_max", "identity"):
            raise ConfigError(f"normalisation kind {self.kind!r} is none of mean_std, quantile, min_max, identity")
        if self.constant not in ("zero", "minus_one", "scaled", "epsilon"):
            raise ConfigError(f"rule for constants {self.constant!r} is none of zero, minus_one, scaled, epsilon")
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
            wanted = {"mean_std": ("mean", "std"), "quantile": ("q01", "q99"), "min_max": ("min", "max")}[spec.kind]
            numbers = statistics.arrays([names[i] for i in used], wanted)
            if spec.kind == "mean_std":
                low, width, factor, floor = numbers["mean"], numbers["std"], 1.0, 0.0
            else:
                first, last = wanted
                low, width, factor, floor = numbers[first], numbers[last] - numbers[first], 2.0, 1.0
            by_formula = spec.constant in ("scaled", "epsilon")
            still = width <= 0 if not by_formula else np.zeros(len(used), dtype=bool)
            shift[used], base[used], frozen[used] = low, floor, still
            added = np.where(width <= 0, spec.epsilon, 0.0) if spec.constant == "epsilon" else spec.epsilon
            spread[used] = np.where(still, 1.0, (width + added) / factor)
            if (spread[used] <= 0).any():
                raise ConfigError(f"a constant channel with epsilon 0 and rule {spec.constant!r} divides by zero")
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
