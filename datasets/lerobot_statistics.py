"""Statistics as LeRobot keeps them: of each episode, and of the whole set.

Mean, std, min and max of the set are exact, pooled from the episodes'. Its quantiles come from one pass over the
written numbers (a histogram between the known ends: within 1/65536 of the range), where LeRobot averages the episodes'
quantiles, which are no quantiles of the set; for pictures, of which a few are sampled, that average is kept.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
FIELDS = ("min", "max", "mean", "std", *QUANTILES, "count")
_BINS = 65536

Stats = Mapping[str, Any]
"""One feature's numbers by field, as nested lists."""


def number_stats(values: np.ndarray) -> dict[str, Any]:
    """Statistics of each column of (steps, channels)."""
    wide = values.astype(np.float64)
    numbers = {"min": wide.min(0), "max": wide.max(0), "mean": wide.mean(0), "std": wide.std(0)}
    numbers |= dict(zip(QUANTILES, np.quantile(wide, list(QUANTILES.values()), axis=0), strict=True))
    return {name: value.tolist() for name, value in numbers.items()} | {"count": [len(values)]}


def picture_stats(pictures: list[UInt8[np.ndarray, "h w 3"]], stride: int = 2) -> dict[str, Any]:
    """Statistics of each colour in [0, 1], of shape (3, 1, 1), over every ``stride``-th pixel."""
    pixels = np.concatenate([picture[::stride, ::stride].reshape(-1, 3) for picture in pictures])
    counts = np.stack([np.bincount(pixels[:, colour], minlength=256) for colour in range(3)]).astype(np.float64)
    levels, total = np.arange(256) / 255.0, len(pixels)
    mean = counts @ levels / total
    there = counts > 0
    cumulative = counts.cumsum(1)
    numbers = {
        "min": levels[there.argmax(1)],
        "max": levels[255 - there[:, ::-1].argmax(1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0)),
    }
    for name, share in QUANTILES.items():
        numbers[name] = levels[(cumulative >= share * total).argmax(1)]
    return {name: value.reshape(3, 1, 1).tolist() for name, value in numbers.items()} | {"count": [len(pictures)]}


class Pool:
    """Statistics of several episodes as one's; memory does not grow with their number."""

    def __init__(self):
        self._count = 0
        self._numbers: dict[str, np.ndarray] = {}

    def add(self, stats: Stats) -> None:
        """Take in one episode's."""
        new = {name: np.asarray(stats[name], np.float64) for name in FIELDS if name != "count"}
        count, old, before = int(stats["count"][0]), self._numbers, self._count
        total = before + count
        if not before:
            self._numbers, self._count = new, count
            return
        share = count / total
        shift = new["mean"] - old["mean"]
        variance = old["std"] ** 2 * (1 - share) + new["std"] ** 2 * share + shift**2 * share * (1 - share)
        pooled = {name: old[name] + (new[name] - old[name]) * share for name in ("mean", *QUANTILES)}
        pooled |= {"min": np.minimum(old["min"], new["min"]), "max": np.maximum(old["max"], new["max"])}
        self._numbers, self._count = pooled | {"std": np.sqrt(variance)}, total

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value of each channel."""
        return self._numbers["min"], self._numbers["max"]

    def finish(self, quantiles: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """The pooled numbers, with true quantiles if given."""
        numbers = self._numbers | dict(quantiles or {})
        return {name: numbers[name].tolist() for name in FIELDS if name != "count"} | {"count": [self._count]}


def quantiles(
    parts: Iterable[np.ndarray], low: Float64[np.ndarray, "c"], high: Float64[np.ndarray, "c"]
) -> dict[str, Float64[np.ndarray, "c"]]:
    """Quantiles of each column over all parts, between known ends, from a histogram.

    Args:
        parts: arrays of shape (steps, channels).
        low: smallest value of each channel.
        high: largest value of each channel.
    """
    width = np.where(high > low, high - low, 1.0)
    counts = np.zeros((len(low), _BINS), np.int64)
    for part in parts:
        place = ((part.astype(np.float64) - low) / width * _BINS).astype(np.int64).clip(0, _BINS - 1)
        for channel in range(len(low)):
            counts[channel] += np.bincount(place[:, channel], minlength=_BINS)
    cumulative = counts.cumsum(1)
    result = {}
    for name, share in QUANTILES.items():
        middle = (cumulative >= share * cumulative[:, -1:]).argmax(1) + 0.5
        result[name] = np.clip(low + middle / _BINS * width, low, high)
    return result
