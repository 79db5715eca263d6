"""Checks of what an episode is about: its instruction, its length, what it does at all, whether it is there twice."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from vla.embodiment import EmbodimentSpec
from vla.experience import Episode
from vla.quality_findings import Finding, Severity, in_episode
from vla.quality_stuck import motion_columns
from vla.quirks import EVERY, Quirk

SHORT = 5
"""Steps below which an episode is too short to learn from."""
SHORTER = 0.2
"""Of the median length; below it an episode was probably broken off."""
NOOP = 1e-4
"""Norm of the motion numbers, as they are read, below which an action does nothing (OpenVLA: of raw actions)."""
MANY_NOOPS, ALL_NOOPS = 0.3, 0.9
"""Shares of no-ops: in the whole set, in one episode."""
SAME = 1e-5
"""Difference [of 1, or of the numbers' size] up to which episodes are the same: conversions change less."""
NEIGHBOURS = 8
"""Episodes beside each other, in the order of their projections, that are compared."""


def instruction(place: int, episode: Episode) -> Iterator[Finding]:
    """It says what is to be done."""
    if not episode.instruction.strip():
        expected = "an instruction"
        yield in_episode("instruction", "warning", place, episode, None, None, expected, "none")


def shape(place: int, episode: Episode) -> Iterator[Finding]:
    """All columns are equally long, and every declared camera is there."""
    steps = len(episode)
    lengths = {"state": len(episode.state), "time": len(episode.time)}
    lengths |= {name: len(frames) for name, frames in episode.images.items()}
    for name, length in lengths.items():
        if length != steps:
            yield in_episode(
                "length", "error", place, episode, None, name, f"{steps} steps, as many as actions", str(length)
            )
    for name in sorted(set(episode.spec.camera_names) - set(episode.images)):
        yield in_episode("camera", "error", place, episode, None, name, "pictures of a declared camera", "none")


def lengths(steps: Int64[np.ndarray, "n"]) -> Iterator[Finding]:
    """No episode is too short, in itself or beside the others."""
    median = float(np.median(steps)) if len(steps) else 0.0
    for place in np.flatnonzero((steps < SHORT) | (steps < SHORTER * median)):
        expected = f"at least {SHORT} steps" if steps[place] < SHORT else f"some {median:g} steps, the median"
        yield Finding("short", "warning", expected, str(int(steps[place])), int(place))


def quirks(found: Sequence[Quirk], tolerate: Collection[str]) -> Iterator[Finding]:
    """What the reader read around: a warning if it is to be, else an error."""
    for quirk in found:
        severity: Severity = "warning" if EVERY in tolerate or quirk.kind in tolerate else "error"
        place = f"{quirk.file}: {quirk.field}"
        yield Finding(
            "quirk", severity, quirk.expected, f"{quirk.found}; {quirk.remedy}", channel=quirk.kind, source=place
        )


class Noops:
    """Actions that do nothing: the motion's norm is below 1e-4 and the gripper as it was."""

    def __init__(self, spec: EmbodimentSpec):
        self._spec = spec
        self._steps = self._nothing = self._episodes = self._first = self._skipped = 0

    def episode(self, place: int, episode: Episode) -> Iterator[Finding]:
        """Count them; say so if there is nothing else."""
        nothing = noops(self._spec, episode)
        if not len(nothing):
            return
        self._steps += len(nothing)
        self._nothing += int(nothing.sum())
        self._episodes += 1
        self._first += bool(nothing[0] and not nothing[1:2].any())  # a slow start is none
        if nothing.mean() > ALL_NOOPS:
            found = f"{int(nothing.sum())} no-ops in {len(nothing)} steps"
            yield in_episode("noop", "warning", place, episode, None, None, "actions that move", found)

    def finish(self) -> Iterator[Finding]:
        """Their share of the set, and whether all first actions are some."""
        if not self._episodes:
            return
        share = self._nothing / self._steps
        if share > MANY_NOOPS:
            yield Finding("noop", "note", "few actions that do nothing", f"{100 * share:.0f} % of all steps")
        elif self._episodes > 3 and self._first == self._episodes:
            found = f"in all {self._episodes} episodes it is a no-op: leave it out"
            yield Finding("noop-first", "warning", "a first action that moves", found)

    def share(self) -> float:
        """Of all steps."""
        return self._nothing / self._steps if self._steps else 0.0


def noops(spec: EmbodimentSpec, episode: Episode) -> Bool[np.ndarray, "t"]:
    """Which actions do nothing; empty if the action has no motion channels."""
    channels = spec.action.channels
    columns = motion_columns(channels)
    if not len(columns) or not len(episode):
        return np.zeros(0, dtype=bool)
    motion = episode.action[:, columns].astype(np.float64)
    if spec.action.mode == "absolute":  # holding a target is doing nothing
        motion = np.diff(motion, axis=0, prepend=episode.action[:1, columns] + 1.0)
    still = np.linalg.norm(motion, axis=1) < NOOP
    grippers = [column for column, channel in enumerate(channels) if channel.kind == "gripper"]
    if grippers:
        still &= ~np.diff(episode.action[:, grippers], axis=0, prepend=episode.action[:1, grippers]).any(1)
    return still


class Duplicates:
    """Episodes whose numbers are the same, but for the rounding of a conversion.

    Kept of each episode: its length and three random projections of its numbers, which differ as little as the numbers
    do (a hash of rounded numbers would change wherever one lies at the edge of its rounding).

    Args:
        episodes: number of episodes in the set.
    """

    def __init__(self, episodes: int):
        self._marks = np.full((episodes, 4), np.nan)

    def episode(self, place: int, episode: Episode) -> Iterable[Finding]:
        """Remember it."""
        numbers = np.concatenate([episode.state, episode.action], axis=1).astype(np.float64).ravel()
        if numbers.size and np.isfinite(numbers).all():
            weights = np.random.default_rng(0).standard_normal((3, numbers.size))
            self._marks[place] = [len(episode), *(weights @ numbers / np.sqrt(numbers.size))]
        return ()

    def finish(self) -> Iterator[Finding]:
        """Every episode that is there before."""
        places = np.flatnonzero(np.isfinite(self._marks[:, 0]))
        order = places[np.lexsort((places, self._marks[places, 1], self._marks[places, 0]))]
        repeats: dict[int, int] = {}
        for position, place in enumerate(order):
            for other in order[position + 1 : position + 1 + NEIGHBOURS]:
                first, second = self._marks[place], self._marks[other]
                slack = SAME * np.maximum(1.0, np.abs(first))
                if first[0] != second[0] or second[1] - first[1] > slack[1]:
                    break
                if (np.abs(second - first) <= slack).all():
                    repeats[max(place, other)] = min(place, other, repeats.get(max(place, other), place))
        for place in sorted(repeats):
            original = repeats[place]
            while original in repeats:
                original = repeats[original]
            yield Finding(
                "duplicate", "warning", "an episode of its own", f"the same as episode {original}", int(place)
            )
