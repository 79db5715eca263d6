"""The policy that stays where it is: the lowest rung of any comparison."""

from dataclasses import dataclass

import numpy as np

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import ActionChunk, Observation


class HoldPolicy:
    """Answers every observation with deltas of zero and a gripper at ``gripper`` (0 closed, 1 open).

    Args:
        spec: any embodiment whose actions are deltas.
        horizon: rows of each chunk.
        gripper: how far open.

    Raises:
        ConfigError: actions are absolute targets, of which zero is somewhere else; or a number is out of range.
    """

    def __init__(self, spec: EmbodimentSpec, *, horizon: int = 8, gripper: float = 1.0):
        if spec.action.mode != "delta":
            raise ConfigError(f"standing still is a delta of zero; actions of {spec.name!r} are {spec.action.mode}")
        if horizon < 1 or not 0 <= gripper <= 1:
            raise ConfigError("horizon starts at 1; the gripper is between 0 and 1")
        self._spec = spec
        self._actions = np.zeros((horizon, spec.action.size), dtype=np.float32)
        if (ends := spec.action.gripper) is not None:
            value = ends.closed + gripper * (ends.opened - ends.closed)
            columns = [place for place, channel in enumerate(spec.action.channels) if channel.kind == "gripper"]
            self._actions[:, columns] = value

    @property
    def spec(self) -> EmbodimentSpec:
        """The body's own."""
        return self._spec

    def reset(self, instruction: str, *, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation) -> ActionChunk:
        """Stay."""
        return ActionChunk(self._actions.copy(), observation.time, 1 / self._spec.action.rate)


@dataclass(frozen=True)
class Config:
    """Stays still.

    Attributes:
        embodiment: of the body to hold.
        horizon: rows of each chunk.
        gripper: how far open, 0 to 1.
    """

    embodiment: EmbodimentSpec
    horizon: int = 8
    gripper: float = 1.0

    def make(self) -> HoldPolicy:
        """The policy."""
        return HoldPolicy(self.embodiment, horizon=self.horizon, gripper=self.gripper)
