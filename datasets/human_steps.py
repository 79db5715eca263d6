"""Only what a person did: the corrections of a policy, without what the policy did to need them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from vla.embodiment import EmbodimentSpec
from vla.experience import Episode
from vla.protocols import EpisodeSource
from vla.quirks import Quirk
from vla.recorder import HUMAN, human_steps, label_of


@dataclass(frozen=True)
class HumanSteps:
    """Each stretch of steps that a person decided on, as an episode of its own, as HG-DAgger learns from (Kelly et al.,
    "HG-DAgger: Interactive Imitation Learning with Human Experts", 2019). A demonstration by hand stays whole.

    Times begin at 0 in each; whether a stretch succeeded is not known. The numbers of all episodes are looked at once.

    Attributes:
        source: of episodes as they were recorded, see :func:`~vla.recorder.human_steps`.
    """

    source: EpisodeSource

    @property
    def spec(self) -> EmbodimentSpec:
        """Of the source."""
        return self.source.spec

    @property
    def content(self) -> str:
        """Of the source."""
        return hashlib.sha256(f"human steps {self.source.content}".encode()).hexdigest()[:16]

    @property
    def quirks(self) -> tuple[Quirk, ...]:
        """Of the source."""
        return self.source.quirks

    @cached_property
    def _stretches(self) -> list[tuple[int, int, int]]:
        """Number of the episode, first step and the one past the last."""
        return [
            (number, first, stop)
            for number in range(len(self.source))
            for first, stop in label_of(human_steps(self.source[number]))
        ]

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each stretch."""
        return np.array([stop - first for _, first, stop in self._stretches], np.int64)

    def __len__(self) -> int:
        return len(self._stretches)

    def __getitem__(self, index: int) -> Episode:
        number, first, stop = self._stretches[range(len(self))[index]]
        episode = self.source[number]
        if (first, stop) == (0, len(episode)):
            return episode
        part = taken(episode, np.arange(first, stop))
        source = f"{episode.source}, steps {first} to {stop - 1}"
        return replace(part, time=part.time - part.time[0], success=None, source=source)


def taken(episode: Episode, steps: Int64[np.ndarray, "n"]) -> Episode:
    """The same episode with only these steps, in this order; the label of the person's steps goes with them."""
    part = episode.take(steps)
    if HUMAN not in episode.info:
        return part
    kept: Sequence[bool] = human_steps(episode)[steps].tolist()
    info = {name: value for name, value in episode.info.items() if name != HUMAN}
    return replace(part, info=info | {HUMAN: label_of(kept)} if any(kept) else info)
