"""Checks for numbers that stand still while the others move: a sensor that hangs, a command that is repeated."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int64

from vla.embodiment import Channel
from vla.experience import Episode
from vla.quality_findings import Finding, in_episode

MIN_STEPS = 8
"""Equal numbers in a row that are not called stuck yet, however slow the data."""
MIN_SECONDS = 1.0
"""Time of equal numbers that is not called stuck yet."""
MOVING = {"m": 0.01, "rad": 0.05}
"""Change by which a channel of a unit counts as moving."""


class Stuck:
    """Single channels that hang for a while, and whole states or actions that do.

    A channel that never changes in the whole set is only noted: an arm may not use all its joints. A channel that
    stays at its declared limit is not stuck, nor is a commanded change of exactly 0.
    """

    def __init__(self, state: tuple[Channel, ...], action: tuple[Channel, ...]):
        self._channels = {"state": state, "action": action}
        self._first = {part: np.full(len(channels), np.nan) for part, channels in self._channels.items()}
        self._varies = {part: np.zeros(len(channels), dtype=bool) for part, channels in self._channels.items()}
        self._steps = 0

    def episode(self, place: int, episode: Episode) -> Iterator[Finding]:
        """What hangs in one episode."""
        self._steps += len(episode)
        long = max(MIN_STEPS, round(MIN_SECONDS * episode.spec.action.rate))
        for part, values in (("state", episode.state), ("action", episode.action)):
            if len(values):
                first = self._first[part]
                first[:] = np.where(np.isnan(first), values[0], first)
                self._varies[part] |= (values != first).any(0)
        if len(episode) <= long:
            return
        yield from self._whole(place, episode, long)
        yield from self._single(place, episode, long)

    def finish(self) -> Iterator[Finding]:
        """Channels that never change."""
        for part, channels in self._channels.items():
            still = [c.name for c, varies in zip(channels, self._varies[part], strict=True) if not varies]
            if self._steps > 1 and still:
                found = f"{len(still)} of {len(channels)} never change: {', '.join(still)}"
                yield Finding("constant", "note", f"{part} channels that vary", found)

    def _whole(self, place: int, episode: Episode, long: int) -> Iterator[Finding]:
        """A state that hangs while motion is commanded, or a command repeated while the state moves."""
        spec = episode.spec
        states, actions = motion_columns(spec.state), motion_columns(spec.action.channels)
        if not len(states) or not len(actions):
            return
        delta = spec.action.mode == "delta"
        commanded = np.abs(_physical(spec.action.channels, episode.action, actions))
        for first, end in runs(episode.state[:, states]):
            asked = commanded[first : end - 1] if delta else np.ptp(commanded[first:end], axis=0)[None]
            moving = (asked.sum(0) > _floors(spec.action.channels, actions)).any()
            if end - first > long and moving:
                found = f"{end - first} equal states while the actions ask for motion"
                yield in_episode(
                    "stuck", "error", place, episode, np.arange(first, end), "state", "a state that moves", found
                )
        moved = _physical(spec.state, episode.state, states)
        for first, end in runs(episode.action[:, actions]):
            travelled = np.ptp(moved[first:end], axis=0)
            nothing = delta and not episode.action[first, actions].any()
            at_limit = _at_limit(spec.action.channels, episode.action[first], actions).any()
            if end - first > long and (travelled > _floors(spec.state, states)).any() and not nothing and not at_limit:
                found = f"{end - first} equal actions while the state moves"
                steps = np.arange(first, end)
                yield in_episode("stuck", "warning", place, episode, steps, "action", "actions that vary", found)

    def _single(self, place: int, episode: Episode, long: int) -> Iterator[Finding]:
        """One number of the state that hangs, though it does change in this episode and others of its kind move."""
        channels = episode.spec.state
        columns = motion_columns(channels)
        if len(columns) < 2:
            return
        changes = np.diff(episode.state[:, columns], axis=0) != 0
        for position, column in enumerate(columns):
            kin = [i for i, other in enumerate(columns) if channels[other].kind == channels[column].kind]
            kin.remove(position)
            if not kin or not changes[:, position].any():
                continue
            live = changes[:, kin].all(1)  # exact equality is chance in one of them, not in one alone
            for first, end in runs(episode.state[:, [column]]):
                if end - first > long and live[first : end - 1].mean() > 0.9:
                    found = f"{episode.state[first, column]:.6g} for {end - first} steps while its kind moves"
                    steps = np.arange(first, end)
                    expected = "a number that moves"
                    yield in_episode("stuck", "warning", place, episode, steps, channels[column], expected, found)


def runs(values: Float[np.ndarray, "t c"]) -> list[tuple[int, int]]:
    """Runs of equal rows as first and one past last, those of one row left out."""
    if len(values) < 2:
        return []
    same = (np.diff(values, axis=0) == 0).all(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    return [(int(first), int(last) + 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def motion_columns(channels: tuple[Channel, ...]) -> Int64[np.ndarray, "n"]:
    """Columns of what moves: positions, rotations and joints."""
    kinds = ("position", "rotation", "joint")
    return np.array([column for column, channel in enumerate(channels) if channel.kind in kinds], dtype=np.int64)


def floor(channel: Channel) -> float:
    """Change [unit] below which a channel counts as standing still."""
    return MOVING.get(channel.unit, 0.05)


def _floors(channels: tuple[Channel, ...], columns: Int64[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return np.array([floor(channels[column]) for column in columns])


def _physical(
    channels: tuple[Channel, ...], values: Float[np.ndarray, "t c"], columns: Int64[np.ndarray, "n"]
) -> Float[np.ndarray, "t n"]:
    return values[:, columns].astype(np.float64) * np.array([channels[column].scale for column in columns])


def _at_limit(
    channels: tuple[Channel, ...], row: Float[np.ndarray, "c"], columns: Int64[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    physical = _physical(channels, row[None], columns)[0]
    ends = [(channels[column].low, channels[column].high) for column in columns]
    slack = [1e-3 * (high - low) if np.isfinite(high - low) else 0.0 for low, high in ends]
    return np.array(
        [v <= low + s or v >= high - s for v, (low, high), s in zip(physical, ends, slack, strict=True)], dtype=bool
    )
