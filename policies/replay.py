"""A recorded episode as a policy: its actions, one after the other, whatever is seen."""

from dataclasses import dataclass

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import ActionChunk, Episode, Observation
from vla.protocols import EpisodeSource


class ReplayPolicy:
    """Each chunk goes on where the last one was left off, so a runner must execute whole chunks.

    Past the end the last action is repeated.

    Args:
        episode: to replay.
        horizon: rows of each chunk; 1 suits every runner.

    Raises:
        ConfigError: the episode is empty, or the horizon is below 1.
    """

    def __init__(self, episode: Episode, *, horizon: int = 1):
        if not len(episode) or horizon < 1:
            raise ConfigError("a replay needs an episode with steps and a horizon from 1 on")
        self.episode, self.horizon, self._next = episode, horizon, 0

    @property
    def spec(self) -> EmbodimentSpec:
        """The episode's."""
        return self.episode.spec

    def reset(self, instruction: str, *, seed: int) -> None:
        """Start over."""
        self._next = 0

    def act(self, observation: Observation) -> ActionChunk:
        """The recorded actions from here on."""
        window = self.episode.window(min(self._next, len(self.episode) - 1), self.horizon, images=False)
        self._next += self.horizon
        return ActionChunk(window.actions, observation.time, 1 / self.spec.action.rate)


@dataclass(frozen=True)
class Config:
    """Replays an episode of a source.

    Attributes:
        source: of the episodes.
        episode: its number in the source.
        horizon: rows of each chunk.
    """

    source: EpisodeSource
    episode: int = 0
    horizon: int = 1

    def make(self) -> ReplayPolicy:
        """The policy."""
        return ReplayPolicy(self.source[self.episode], horizon=self.horizon)
