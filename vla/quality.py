"""Grades a set of episodes in one pass and constant memory, and names what to look at.

::

    source ─Episode─▶ checks of one episode      finite, range, units, rotation, wrap, time, instruction, shape
                    ├▶ checks of the whole set   stuck, jumps, alignment, gripper, no-ops, duplicates, cameras
                    └▶ Findings ─▶ Quality: grade, findings, measures ─▶ vla.quality_report, JSON
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vla import quality_content as content
from vla import quality_numbers as numbers
from vla.errors import DataError, StatisticsMissing
from vla.experience import Episode
from vla.protocols import EpisodeSource
from vla.quality_alignment import Alignment
from vla.quality_findings import SEVERITIES, Finding, Findings
from vla.quality_gripper import GripperMeaning
from vla.quality_jumps import Jumps
from vla.quality_pictures import Cameras, Sampling
from vla.quality_stuck import Stuck
from vla.quirks import EVERY

EpisodeCheck = Callable[[int, Episode], Iterable[Finding]]
"""Gets the episode's number and the episode."""


class SetCheck(Protocol):
    """Sees every episode once, then speaks about all of them."""

    def episode(self, place: int, episode: Episode) -> Iterable[Finding]:
        """What can be said at once."""
        ...

    def finish(self) -> Iterable[Finding]:
        """What can be said in the end."""
        ...


EPISODE_CHECKS: tuple[EpisodeCheck, ...] = (
    numbers.finite,
    numbers.in_range,
    numbers.units,
    numbers.rotation_form,
    numbers.wrapped,
    numbers.timing,
    content.instruction,
)


@dataclass(frozen=True)
class Quality:
    """What was found.

    Attributes:
        findings: by check, severity and channel.
        measures: facts behind them, such as the best lag, the gripper's verdict and the share of no-ops; a JSON value.
        episodes: numbers of the episodes that were checked.
    """

    findings: Findings
    measures: dict[str, Any]
    episodes: Sequence[int]

    @property
    def grade(self) -> str:
        """A to E; see :attr:`vla.quality_findings.Findings.grade`."""
        return self.findings.grade

    @property
    def sound(self) -> bool:
        """Whether there is no finding of severity error."""
        return not self.findings.count("error")

    def listed(self, limit: int = 12) -> list[int]:
        """Numbers of the episodes most worth a look: those with errors first, then by number of findings."""
        weight: dict[int, float] = {}
        for group in self.findings:
            if group.severity != "error" and 2 * group.episodes > len(self.episodes):
                continue  # what most episodes have is no reason to look at this one
            for finding in group.kept:
                if finding.episode is not None and finding.severity != "note":
                    rarity = 1 / max(1, group.episodes)
                    heavy = 10 if finding.severity == "error" else 1
                    weight[finding.episode] = weight.get(finding.episode, 0.0) + heavy * (0.1 + rarity)
        return sorted(weight, key=lambda place: (-weight[place], place))[:limit]

    def to_json(self) -> dict[str, Any]:
        """Grade, counts, measures and findings as a JSON value."""
        counts = {severity: self.findings.count(severity) for severity in SEVERITIES}
        touched = {severity: self.findings.touched(severity) for severity in SEVERITIES}
        return {
            "grade": self.grade,
            "counts": counts,
            "episodes_with": touched,
            "look_at": self.listed(),
            "measures": self.measures,
            "findings": [group.to_json() for group in self.findings],
        }


def check_source(
    source: EpisodeSource,
    *,
    episodes: Sequence[int] | None = None,
    sampling: Sampling | None = None,
    tolerate: Collection[str] = (EVERY,),
    told: Callable[[int], None] | None = None,
) -> Quality:
    """Check a source; an episode that cannot be read is a finding, not an end.

    Args:
        source: of any format.
        episodes: numbers of those to check; all if None.
        sampling: how many pictures are looked at.
        tolerate: kinds of quirks that are only warnings, or ``"all"``; others are errors.
        told: called after every episode with the number of episodes done.

    Raises:
        StatisticsMissing: there is no episode.
    """
    chosen = range(len(source)) if episodes is None else episodes
    wanted = chosen if isinstance(chosen, range) else frozenset(chosen)
    if not len(chosen):
        raise StatisticsMissing("the source has no episode")
    spec, total = source.spec, len(source)
    findings = Findings(total)
    alignment, gripper, noops = Alignment(spec), GripperMeaning(spec), content.Noops(spec)
    cameras = Cameras(total, sampling or Sampling())
    checks: list[SetCheck] = [
        Stuck(spec.state, spec.action.channels),
        Jumps(spec),
        alignment,
        gripper,
        noops,
        content.Duplicates(total),
        cameras,
    ]
    declared = np.asarray(source.lengths)
    findings.add(content.quirks(source.quirks, tolerate))
    findings.add(finding for finding in content.lengths(declared) if finding.episode in wanted)
    steps = 0
    for done, place in enumerate(chosen, start=1):
        for finding in _episode(source, place, int(declared[place]), checks):
            findings.add([finding])
        steps += int(declared[place])
        if told:
            told(done)
    for check in checks:
        findings.add(check.finish())
    measures = {
        "episodes": len(chosen),
        "steps": steps,
        "alignment": alignment.facts(),
        "gripper": gripper.facts(),
        "noop_share": round(noops.share(), 4),
        "pictures": {"episodes": cameras.looked_at, "decoded": cameras.decoded},
    }
    return Quality(findings, measures, chosen)


def _episode(source: EpisodeSource, place: int, declared: int, checks: Sequence[SetCheck]) -> Iterable[Finding]:
    try:
        episode = source[place]
    except DataError as error:
        yield Finding("read", "error", f"{error.field}: {error.expected}", error.found, place, source=error.file)
        return
    if len(episode) != declared:
        yield Finding(
            "length", "error", f"{declared} steps as declared", str(len(episode)), place, source=episode.source
        )
    broken = list(content.shape(place, episode))
    yield from broken
    if any(finding.check == "length" and finding.channel in ("state", "time") for finding in broken):
        return  # the other checks compare rows
    for check in EPISODE_CHECKS:
        yield from check(place, episode)
    for one in checks:
        yield from one.episode(place, episode)
