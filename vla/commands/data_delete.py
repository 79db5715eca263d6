"""``vla data delete``."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from vla.commands.source import SourceOptions
from vla.commands.target import TargetOptions
from vla.errors import ConfigError


@dataclass(frozen=True)
class Delete:
    """Write a data set anew without some episodes; the given one stays as it is."""

    source: SourceOptions
    target: TargetOptions
    episodes: tuple[str, ...]
    """Numbers and ranges such as 0:10 of those to leave out."""

    def run(self, console: Console) -> dict[str, Any]:
        """Write the others."""
        from vla.commands.episode_choice import chosen_episodes
        from vla.datasets.views import Chosen

        source = self.source.open()
        gone = set(chosen_episodes(self.episodes, len(source)))
        kept = tuple(number for number in range(len(source)) if number not in gone)
        if not gone or not kept:
            raise ConfigError(f"{len(gone)} of {len(source)} episodes were named: some must go and some must stay")
        facts = self.target.write({"train": Chosen(source, kept)}, (self.source.path,), console)
        return facts | {"left_out": sorted(gone)}
