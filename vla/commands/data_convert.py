"""``vla data convert``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from vla.commands.source import SourceOptions
from vla.commands.target import TargetOptions
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError


@dataclass(frozen=True)
class Convert:
    """Write a data set in another format; the same command goes on where an interrupted one ended."""

    source: SourceOptions
    target: TargetOptions
    episodes: tuple[str, ...] = ()
    """Only these: numbers and ranges such as 0:10; all if none is given."""
    human: bool = False
    """Only the steps that a person decided on, each stretch as an episode: the corrections of a rollout (DAgger)."""
    drop_noops: bool = False
    """Leave out steps in which nothing is done, as OpenVLA published LIBERO."""
    embodiment: Path | None = None
    """Convert channels, gripper, rotation and pictures to what this JSON file of an EmbodimentSpec says."""

    def run(self, console: Console) -> dict[str, Any]:
        """Convert."""
        from vla.commands.episode_choice import chosen_episodes
        from vla.datasets.human_steps import HumanSteps
        from vla.datasets.views import Chosen, Converted, WithoutNoops

        source = self.source.open()
        if self.episodes:
            source = Chosen(source, chosen_episodes(self.episodes, len(source)))
        if self.human:
            source = HumanSteps(source)
            if not len(source):
                raise ConfigError(f"{self.source.path}: no step is labelled as a person's, there is nothing to write")
        if self.drop_noops:
            source = WithoutNoops(source)
        if self.embodiment is not None:
            source = Converted(source, _read_embodiment(self.embodiment))
        return self.target.write({"train": source}, (self.source.path,), console)


def _read_embodiment(path: Path) -> EmbodimentSpec:
    try:
        value = json.loads(path.read_bytes())
        return EmbodimentSpec.from_json(value.get("embodiment", value))
    except OSError as error:
        raise DataError(path, "file", expected="a readable file", found=error.strerror or str(error)) from error
    except (ValueError, AttributeError, ConfigError) as error:
        raise DataError(path, "embodiment", expected="JSON of an EmbodimentSpec", found=str(error)) from error
