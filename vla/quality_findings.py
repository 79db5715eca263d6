"""What a check of a data set says: findings, collected in constant memory, and the grade that follows from them."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from vla.embodiment import Channel
from vla.experience import Episode

Severity = Literal["error", "warning", "note"]
"""``error``: training on it goes wrong; ``warning``: look at it; ``note``: good to know, nothing to mend."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
KEPT = 20
"""Findings of one kind that are kept with their place; of the others only the number is."""

FEW = 0.1
"""Share of the episodes up to which errors or warnings count as few."""


@dataclass(frozen=True)
class Finding:
    """One thing a check found.

    Attributes:
        check: name of the check, e.g. ``"range"``.
        severity: how bad it is.
        expected: what should be there.
        found: what is there.
        episode: number of the episode; None for the whole set.
        steps: the first step and the one past the last; None for the whole episode.
        channel: of the state or the action, or a camera; empty if it is about none.
        source: where the episode came from.
        look: (camera, step) of pictures worth a look.
    """

    check: str
    severity: Severity
    expected: str
    found: str
    episode: int | None = None
    steps: tuple[int, int] | None = None
    channel: str = ""
    source: str = ""
    look: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Its fields as a JSON value."""
        return asdict(self)

    @property
    def place(self) -> str:
        """Where it is, for people: ``episode 3, step 7``."""
        parts = [] if self.episode is None else [f"episode {self.episode}"]
        if self.steps is not None:
            first, end = self.steps
            parts.append(f"step {first}" if end - first == 1 else f"steps {first} to {end - 1}")
        return ", ".join(parts) or "whole set"


def in_episode(
    check: str,
    severity: Severity,
    place: int,
    episode: Episode,
    steps: Int64[np.ndarray, "n"] | None,
    channel: Channel | str | None,
    expected: str,
    found: str,
    look: tuple[tuple[str, int], ...] = (),
) -> Finding:
    """A finding in an episode, from the first of ``steps`` to the last."""
    run = (int(steps[0]), int(steps[-1]) + 1) if steps is not None and len(steps) else None
    name = channel.name if isinstance(channel, Channel) else channel or ""
    return Finding(check, severity, expected, found, place, run, name, episode.source, look)


@dataclass
class Group:
    """All findings of one check, severity and channel.

    Attributes:
        check: name of the check.
        severity: of all of them.
        channel: of all of them.
        count: how many there are.
        episodes: in how many episodes; 0 if they are about the whole set.
        kept: the first of them.
    """

    check: str
    severity: Severity
    channel: str
    count: int = 0
    episodes: int = 0
    kept: list[Finding] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Its fields as a JSON value."""
        return asdict(self)


class Findings:
    """Findings by check, severity and channel; of each kind the first :data:`KEPT` stay, the rest is counted.

    Memory: one byte for each episode and severity besides those kept.

    Args:
        episodes: number of episodes in the set.
    """

    def __init__(self, episodes: int):
        self._groups: dict[tuple[Severity, str, str], Group] = {}
        self._last: dict[tuple[Severity, str, str], int] = {}
        self._touched = {severity: np.zeros(episodes, dtype=bool) for severity in SEVERITIES}

    def add(self, findings: Iterable[Finding]) -> None:
        """Take in more."""
        for finding in findings:
            key = (finding.severity, finding.check, finding.channel)
            group = self._groups.setdefault(key, Group(finding.check, finding.severity, finding.channel))
            group.count += 1
            if finding.episode is None:
                self._touched[finding.severity][:] = True
            else:
                self._touched[finding.severity][finding.episode] = True
                group.episodes += self._last.get(key) != finding.episode  # they come episode by episode
                self._last[key] = finding.episode
            if len(group.kept) < KEPT:
                group.kept.append(finding)

    def __iter__(self) -> Iterator[Group]:
        """The groups, the worst first, then those with most findings."""
        order = {severity: place for place, severity in enumerate(SEVERITIES)}
        return iter(sorted(self._groups.values(), key=lambda group: (order[group.severity], -group.count, group.check)))

    def count(self, severity: Severity) -> int:
        """How many there are."""
        return sum(group.count for group in self._groups.values() if group.severity == severity)

    def touched(self, severity: Severity) -> int:
        """In how many episodes; a finding about the whole set is in all of them."""
        return int(self._touched[severity].sum())

    @property
    def grade(self) -> str:
        """A: notes at most. B, C: warnings in up to 10 %, or more of the episodes. D, E: the same with errors."""
        grades: tuple[tuple[Severity, str, str], ...] = (("error", "D", "E"), ("warning", "B", "C"))
        for severity, few, many in grades:
            if self.count(severity):
                touched = self._touched[severity]
                return few if len(touched) and touched.mean() <= FEW else many
        return "A"
