"""Check of the gripper's meaning: do the fingers do what the declared numbers say?

Fingers measured in metres tell: the opening grows when an open hand is commanded. A gripper state without a unit has a
meaning that nobody declared (1 is open in Bridge, closed in DROID), so it is judged by two habits of demonstrations,
and only if neither speaks against the other: episodes begin with an open hand, and an open hand always opens equally
far, while a closed one stops at whatever it holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from vla.embodiment import EmbodimentSpec, Gripper
from vla.experience import Episode
from vla.quality_findings import Finding

Verdict = Literal["agrees", "flipped", "probably flipped", "cannot tell"]

CLEAR = 0.3
"""Correlation from which on fingers follow the commands."""
SETTLED_S = 0.6
"""Time after which fingers have arrived."""
SPREAD = 3.0
"""Ratio of the two ends' spreads from which on one is told from the other."""
MIN_SWITCHES = 2
"""Episodes in which the command changes, at least."""


@dataclass
class _Hand:
    """Running sums of one gripper action channel and the fingers that belong to it."""

    name: str
    column: int
    fingers: tuple[int, ...]
    metric: bool
    switches: int = 0
    starts_open: int = 0
    episodes: int = 0
    products: np.ndarray = field(default_factory=lambda: np.zeros(6))  # n, x, y, xx, yy, xy
    ends: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))  # closed, open: n, y, yy


class GripperMeaning:
    """The declared meaning of each gripper channel against what the fingers do."""

    def __init__(self, spec: EmbodimentSpec):
        self._spec = spec
        self._hands = _hands(spec)

    def episode(self, place: int, episode: Episode) -> Iterator[Finding]:
        """Take in one episode."""
        gripper = self._spec.action.gripper
        if gripper is not None and len(episode) > 1:
            for hand in self._hands:
                self._take(hand, gripper, episode)
        yield from ()

    def finish(self) -> Iterator[Finding]:
        """Grippers whose meaning is not as declared, or cannot be told."""
        gripper = self._spec.action.gripper
        for name, facts in self.facts().items():
            declared = f"{gripper.opened:g} open, {gripper.closed:g} closed" if gripper else ""
            if facts["verdict"] == "flipped":
                yield Finding("gripper", "error", declared, facts["why"], channel=name)
            elif facts["verdict"] == "probably flipped":
                yield Finding("gripper", "warning", declared, facts["why"], channel=name)
            elif facts["verdict"] == "cannot tell":
                yield Finding("gripper", "note", declared, f"cannot tell: {facts['why']}", channel=name)

    def facts(self) -> dict[str, dict[str, Any]]:
        """Verdict and reason for each gripper channel; a JSON value."""
        found = {}
        for hand in self._hands:
            verdict, why = _verdict(hand)
            found[hand.name] = {"verdict": verdict, "why": why}
        return found

    def _take(self, hand: _Hand, gripper: Gripper, episode: Episode) -> None:
        command = (episode.action[:, hand.column].astype(np.float64) - gripper.closed) / (
            gripper.opened - gripper.closed
        )
        if not np.isfinite(command).all():
            return
        command = np.clip(command, 0, 1)
        hand.episodes += 1
        hand.starts_open += bool(command[0] > 0.5)
        hand.switches += bool(np.ptp(command) > 0.5)
        if not hand.fingers:
            return
        fingers = episode.state[:, hand.fingers].astype(np.float64)
        if not np.isfinite(fingers).all():
            return
        opening = np.abs(fingers).sum(1) if hand.metric else fingers.mean(1)
        wait = min(max(1, round(SETTLED_S * self._spec.action.rate)), len(command) - 1)
        x, y = command[:-wait], opening[wait:]
        hand.products += [len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]
        for end, reached in enumerate((command < 0.1, command > 0.9)):
            settled = _held(reached, wait)
            hand.ends[end] += [settled.sum(), opening[settled].sum(), (opening[settled] ** 2).sum()]


def _hands(spec: EmbodimentSpec) -> list[_Hand]:
    commands = [column for column, channel in enumerate(spec.action.channels) if channel.kind == "gripper"]
    fingers = [column for column, channel in enumerate(spec.state) if channel.kind == "gripper"]
    share = len(fingers) // len(commands) if commands and len(fingers) % len(commands) == 0 else 0
    hands = []
    for place, column in enumerate(commands):
        own = tuple(fingers[place * share : (place + 1) * share])
        metric = bool(own) and all(spec.state[finger].unit == "m" for finger in own)
        hands.append(_Hand(spec.action.channels[column].name, column, own, metric))
    return hands


def _held(reached: np.ndarray, steps: int) -> np.ndarray:
    """Steps before which it was reached for so many steps without a break."""
    counts = np.convolve(reached, np.ones(steps + 1), mode="full")[: len(reached)]
    return counts > steps + 0.5


def _verdict(hand: _Hand) -> tuple[Verdict, str]:
    if not hand.fingers:
        return "cannot tell", "the state has no gripper of its own"
    if hand.switches < MIN_SWITCHES:
        return "cannot tell", f"the command changes in {hand.switches} of {hand.episodes} episodes"
    correlation = _correlation(hand.products)
    if abs(correlation) < CLEAR:
        return "cannot tell", f"the fingers do not follow the commands (correlation {correlation:.2f})"
    if hand.metric:
        how = "opens" if correlation > 0 else "closes"
        why = f"the hand {how} when it is told to open (correlation {correlation:.2f})"
        return ("agrees" if correlation > 0 else "flipped"), why
    starts = hand.starts_open / hand.episodes
    closed, opened = (_spread(end) for end in hand.ends)
    votes = [int(starts > 0.9) - int(starts < 0.1)]
    votes.append(int(closed > SPREAD * opened) - int(opened > SPREAD * closed) if min(closed, opened) >= 0 else 0)
    why = (
        f"the state's numbers have no declared meaning; {100 * starts:.0f} % of the episodes begin with what "
        f"is declared open, and where the fingers stop varies by {max(closed, 0):.2g} at the declared closed end, "
        f"{max(opened, 0):.2g} at the open one"
    )
    if min(votes) >= 0 and max(votes) > 0:
        return "agrees", why
    if max(votes) <= 0 and sum(votes) == -2:
        return "probably flipped", why
    return "cannot tell", why


def _correlation(products: Float[np.ndarray, "6"]) -> float:
    n, x, y, xx, yy, xy = products
    varies = (xx / n - (x / n) ** 2) * (yy / n - (y / n) ** 2)
    return float((xy / n - x * y / n**2) / np.sqrt(varies)) if varies > 1e-20 else 0.0


def _spread(end: Float[np.ndarray, "3"]) -> float:
    """Standard deviation; -1 where too little was seen."""
    n, y, yy = end
    return float(np.sqrt(max(yy / n - (y / n) ** 2, 0.0))) if n >= 5 else -1.0
