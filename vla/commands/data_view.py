"""``vla data view``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from vla.commands.source import SourceOptions
from vla.errors import ConfigError


@dataclass(frozen=True)
class View:
    """Write an episode as a Rerun recording: cameras, state, actions and the instruction on one timeline."""

    source: SourceOptions
    episode: int = 0
    """Number of the episode."""
    out: Path = Path("episode.rrd")
    """File to write; open it with ``rerun FILE``."""

    def run(self, console: Console) -> dict[str, Any]:
        """Write the recording."""
        from vla.view import view_episode

        source = self.source.open()
        if not 0 <= self.episode < len(source):
            raise ConfigError(
                f"episode {self.episode} is not there: {self.source.path} has {len(source)}, counted from 0"
            )
        episode = source[self.episode]
        view_episode(episode, self.out)
        console.print(f"{self.out}: {len(episode)} steps of {episode.source}; open it with: rerun {self.out}")
        return {"file": str(self.out), "steps": len(episode), "source": episode.source}
