"""``vla data view``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from vla.commands.source import SourceOptions
from vla.errors import ConfigError
from vla.protocols import EpisodeSource


@dataclass(frozen=True)
class View:
    """Show episodes in Rerun: cameras, state, actions, the hand's pose and the instruction on one timeline.

    Writes a file, or with --serve or --spawn shows them at once. Every episode is a recording of its own; the viewer
    lists them by their source.
    """

    source: SourceOptions
    episodes: tuple[str, ...] = ("0",)
    """Numbers or ranges of the episodes, e.g. 0 3 5 or 0:10."""
    out: Path | None = None
    """File to write, episode.rrd if nothing else is asked for; open it with: rerun FILE."""
    serve: bool = False
    """Serve a page with the viewer, on this machine only, until Ctrl-C."""
    spawn: bool = False
    """Open the viewer's window, until it is closed."""
    port: int = 9876
    """Port that recordings are streamed to, with --serve or --spawn."""
    web_port: int = 9090
    """Port of the page, with --serve."""

    def run(self, console: Console) -> dict[str, Any]:
        """Write or show the recordings."""
        from vla.commands.episode_choice import chosen_episodes

        if self.serve and self.spawn:
            raise ConfigError("either --serve or --spawn, not both")
        source = self.source.open()
        numbers = chosen_episodes(self.episodes, len(source))
        if not numbers:
            raise ConfigError(f"no episode was chosen; {self.source.path} has {len(source)}, counted from 0")
        summary: dict[str, Any] = {"episodes": list(numbers), "steps": int(sum(source.lengths[n] for n in numbers))}
        if self.out or not (self.serve or self.spawn):
            summary["file"] = str(_write(source, numbers, self.out or Path("episode.rrd"), console))
        if self.serve or self.spawn:
            self._show(source, numbers, "web" if self.serve else "native", console)
        return summary

    def _show(
        self, source: EpisodeSource, numbers: tuple[int, ...], kind: Literal["web", "native"], console: Console
    ) -> None:
        from vla.view import stream_episode
        from vla.view_server import ViewerProcess

        with ViewerProcess(kind, port=self.port, web_port=self.web_port) as viewer:
            try:
                if kind == "web":
                    console.print(f"open {viewer.page}", markup=False)
                for number in numbers:
                    episode = source[number]
                    stream_episode(episode, viewer.address)
                    console.print(f"episode {number}: {len(episode)} steps of {episode.source}", markup=False)
                console.print("Ctrl-C ends it")
                viewer.wait()
            except KeyboardInterrupt:
                console.print("ended")


def _write(source: EpisodeSource, numbers: tuple[int, ...], path: Path, console: Console) -> Path:
    from vla.view import view_episode, view_episodes

    if len(numbers) == 1:
        view_episode(source[numbers[0]], path)
    else:
        view_episodes((source[number] for number in numbers), path)
    said = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    console.print(f"{path}: episodes {said}; open with: rerun {path}", markup=False)
    return path
