"""Check for jumps: single changes far beyond what a channel usually does, found in one pass and constant memory."""

import heapq
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from vla import rotation
from vla.embodiment import EmbodimentSpec, RotationForm
from vla.experience import Episode
from vla.quality_findings import Finding
from vla.quality_numbers import as_commanded, parts, rotations
from vla.quality_stuck import floor

Z = 12.0
"""Robust z-score (change over 1.4826 times the median change) from which on a change may be a jump."""
BEYOND = 5.0
"""Times the change that nine in ten stay below, from which on it may be one: motion has a long tail of its own."""
LARGEST = 100
"""Largest changes of each channel that are remembered with their place."""
_BINS_AN_OCTAVE, _LOWEST, _HIGHEST = 16, -40, 30
_FLOOR_RAD = 0.05


class Jumps:
    """Changes of the state (and of absolute actions) and sizes of delta actions, against the whole set.

    Rotations count as one angle between two poses, so that a leap from pi to -pi is none.
    """

    def __init__(self, spec: EmbodimentSpec):
        self._largest: dict[str, list[tuple[float, int, int, str]]] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._floors: dict[str, float] = {}

    def episode(self, place: int, episode: Episode) -> Iterator[Finding]:
        """Take in one episode; nothing can be said before all are seen."""
        for name, sizes, lowest in _changes(episode):
            sizes = np.where(np.isfinite(sizes), sizes, 0.0)
            counts = self._counts.setdefault(name, np.zeros((_HIGHEST - _LOWEST) * _BINS_AN_OCTAVE, np.int64))
            moved = sizes[sizes > 0]
            bins = np.floor((np.log2(moved) - _LOWEST) * _BINS_AN_OCTAVE).astype(np.int64)
            np.add.at(counts, np.clip(bins, 0, len(counts) - 1), 1)
            self._floors[name] = lowest
            heap = self._largest.setdefault(name, [])
            for step in np.argsort(sizes)[-LARGEST:]:
                entry = (float(sizes[step]), place, int(step), episode.source)
                if len(heap) < LARGEST:
                    heapq.heappush(heap, entry)
                elif entry > heap[0]:
                    heapq.heapreplace(heap, entry)
        yield from ()

    def finish(self) -> Iterator[Finding]:
        """The jumps of all episodes, in their order."""
        for name, heap in self._largest.items():
            counts = self._counts[name]
            if not counts.sum():
                continue
            usual, high = _quantile(counts, 0.5), _quantile(counts, 0.9)
            limit = max(Z * 1.4826 * usual, BEYOND * high, self._floors[name])
            unit = "rad" if name.endswith("rotation") else ""
            for size, place, step, source in sorted(heap, key=lambda entry: entry[1:3]):
                if size > limit:
                    z = size / (1.4826 * usual)
                    expected = f"changes up to {limit:.3g} {unit}".rstrip() + f" (median {usual:.3g})"
                    found = f"{size:.4g} {unit}".rstrip() + f" at once, robust z-score {z:.0f}"
                    channel = name.split(" ", 1)[1]
                    yield Finding("jump", "warning", expected, found, place, (step, step + 2), channel, source)


def _changes(episode: Episode) -> Iterator[tuple[str, Float[np.ndarray, "n"], float]]:
    """Name, absolute change at each step [unit] and the size below which it does not matter."""
    spec = episode.spec
    for part, channels, values in parts(episode):
        form = spec.state_rotation if part == "state" else spec.action.rotation
        steps = part == "action" and spec.action.mode == "delta"
        if part == "action":
            values = as_commanded(spec, values)  # what is out of range is a finding of its own
        else:
            values = values.astype(np.float64) * np.array([channel.scale for channel in channels])
        for column, channel in enumerate(channels):
            if channel.kind in ("position", "joint"):
                sizes = np.abs(values[:, column] if steps else np.diff(values[:, column]))
                yield f"{part} {channel.name}", sizes, floor(channel)
        for columns in rotations(channels, form):
            name = f"{part} {channels[columns][0].name} rotation"
            sizes = turn_sizes(values[:, columns], form, steps=steps)
            yield name, sizes, _FLOOR_RAD


def turn_sizes(values: Float[np.ndarray, "t n"], form: RotationForm | None, *, steps: bool) -> Float[np.ndarray, "n"]:
    """Angles [rad] between poses in a row, or with ``steps`` of the turns themselves; 0 where they are unusable."""
    size = len(values) if steps else max(0, len(values) - 1)
    usable = np.isfinite(values).all(1) & (np.abs(values).max(1, initial=0.0) < 1e6)
    if form in ("quat_xyzw", "rot6d"):
        usable &= np.linalg.norm(values, axis=1) > 1e-6
    if form is None or usable.sum() < (1 if steps else 2):
        return np.zeros(size)
    if steps and form in ("axis_angle", "axis_angle_2pi"):
        return np.where(usable, np.linalg.norm(values, axis=1), 0.0)  # a matrix would fold them into [0, pi]
    matrices = np.tile(np.eye(3), (len(values), 1, 1))
    matrices[usable] = rotation.to_matrix(values[usable], form)
    turns = matrices if steps else matrices[1:] @ np.swapaxes(matrices[:-1], -1, -2)
    cosine = np.clip((np.trace(turns, axis1=-2, axis2=-1) - 1) / 2, -1, 1)
    good = usable if steps else usable[1:] & usable[:-1]
    return np.where(good, np.arccos(cosine), 0.0)


def _quantile(counts: np.ndarray, share: float) -> float:
    """From the histogram, right to 1/16 octave (4 %)."""
    place = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
    return math.exp2(_LOWEST + (place + 0.5) / _BINS_AN_OCTAVE)
