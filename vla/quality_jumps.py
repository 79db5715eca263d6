"""Check for jumps: single changes far beyond what a channel usually does, found in one pass and constant memory."""

import heapq
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from vla import rotation
from vla.embodiment import EmbodimentSpec, RotationForm
from vla.experience import Episode
from vla.quality_findings import Finding
from vla.quality_numbers import parts, rotations

Z = 12.0
"""Robust z-score (change over 1.4826 times the median change) from which on a change may be a jump."""
BEYOND = 5.0
"""Times the change that nine in ten stay below, from which on it may be one: motion has a long tail of its own."""
LARGEST = 100
"""Largest changes of each channel that are remembered with their place."""
_BINS_AN_OCTAVE, _LOWEST, _HIGHEST = 16, -40, 30
ALONE = 4.0
"""Times the changes around it that a jump must have."""
SPEEDS = {"m": 1.0, "rad": 3.0}
"""Speed [unit/s] that arms reach in regular motion: a change that needs no more is no jump."""


class Jumps:
    """Changes of the state and of absolute actions, and spikes of delta actions, against the whole set.

    Rotations count as one angle between two poses, so that a leap from pi to -pi is none.
    """

    def __init__(self, spec: EmbodimentSpec):
        self._largest: dict[str, list[tuple[float, int, int, str]]] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._floors: dict[str, float] = {}

    def episode(self, place: int, episode: Episode) -> Iterator[Finding]:
        """Take in one episode; nothing can be said before all are seen."""
        for name, sizes, alone, lowest in _changes(episode):
            sizes = np.where(np.isfinite(sizes), sizes, 0.0)
            counts = self._counts.setdefault(name, np.zeros((_HIGHEST - _LOWEST) * _BINS_AN_OCTAVE, np.int64))
            moved = sizes[sizes > 0]
            bins = np.floor((np.log2(moved) - _LOWEST) * _BINS_AN_OCTAVE).astype(np.int64)
            np.add.at(counts, np.clip(bins, 0, len(counts) - 1), 1)
            self._floors[name] = lowest
            heap = self._largest.setdefault(name, [])
            candidates = np.where(alone, sizes, 0.0)
            for step in np.argsort(candidates)[-LARGEST:]:
                entry = (float(candidates[step]), place, int(step), episode.source)
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


def _changes(episode: Episode) -> Iterator[tuple[str, Float[np.ndarray, "n"], Bool[np.ndarray, "n"], float]]:
    """Name, size of the change at each step [unit], whether it stands alone, and the size that no arm reaches."""
    spec = episode.spec
    for part, channels, values in parts(episode):
        form = spec.state_rotation if part == "state" else spec.action.rotation
        delta = part == "action" and spec.action.mode == "delta"
        physical = values.astype(np.float64) * np.array([channel.scale for channel in channels])
        for column, channel in enumerate(channels):
            if channel.kind not in ("position", "joint"):
                continue
            most = SPEEDS.get(channel.unit, 0.0) / spec.action.rate
            numbers = physical[:, column]
            if delta:  # what is out of range is a finding of its own
                sizes = _spikes(np.where((numbers < channel.low) | (numbers > channel.high), np.nan, numbers))
                yield f"{part} {channel.name}", sizes, np.ones(len(sizes), dtype=bool), most
            else:
                changes = np.diff(numbers)
                yield f"{part} {channel.name}", np.abs(changes), _alone(changes), most
        for columns in rotations(channels, form):
            name = f"{part} {channels[columns][0].name} rotation"
            sizes = turn_sizes(physical[:, columns], form, steps=delta)
            sizes = _spikes(sizes) if delta else sizes
            alone = np.ones(len(sizes), dtype=bool) if delta else _alone(sizes, signed=False)
            yield name, sizes, alone, SPEEDS["rad"] / spec.action.rate


def _spikes(values: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """How far each value stands out from both its neighbours (a burst of several steps is motion); 0 at the ends."""
    if len(values) < 3:
        return np.zeros(len(values))
    steps = np.abs(np.diff(values, prepend=values[0], append=values[-1]))
    spikes = np.minimum(steps[:-1], steps[1:])
    return np.where(np.isfinite(spikes), spikes, 0.0)


def _alone(changes: Float[np.ndarray, "n"], *, signed: bool = True) -> Bool[np.ndarray, "n"]:
    """Which changes are far larger than those around: one step, or one away and one back, but no swift motion."""
    changes = np.where(np.isfinite(changes), changes, 0.0)
    sizes = np.pad(np.abs(changes), 2)
    around = np.maximum(sizes[:-4], sizes[4:])
    if signed:  # on in the same direction
        along = np.pad(changes, 1)
        same = np.sign(along[1:-1])
        around = np.maximum(around, np.maximum(along[:-2] * same, along[2:] * same))
    return sizes[2:-2] > ALONE * around


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
