"""``vla data``: look at a data set, measure it, view an episode."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, subcommand

from vla.errors import ConfigError
from vla.protocols import EpisodeSource


@dataclass(frozen=True)
class Info:
    """What a data set holds: episodes, steps, instructions, cameras, channels and their meaning."""

    path: Positional[Path]
    """Folder of an RLDS/TFDS or a LeRobot data set."""
    split: str = "train"
    """Part of an RLDS data set."""
    fixes: bool = False
    """Apply the data set's known fixes (e.g. drop Bridge's no-op first step), as training does."""

    def run(self, console: Console) -> dict[str, Any]:
        """Print tables; return them as JSON."""
        from vla.describe import info

        facts = info(_open(self.path, self.split, fixes=self.fixes))
        action = facts["action"]
        console.print(f"[bold]{self.path}[/]: {facts['episodes']} episodes, {facts['steps']} steps")
        console.print(
            f"embodiment {facts['embodiment']} ({facts['fingerprint']}), {action['mode']} actions in the "
            f"{action['frame']} frame at {facts['rate']:g} Hz, gripper {action['gripper']}"
        )
        cameras = Table("camera", "size", "orientation", "role")
        for camera in facts["cameras"]:
            size = f"{camera['height']}x{camera['width']}"
            cameras.add_row(camera["name"], size, camera["orientation"], camera["role"])
        channels = Table("", "channel", "unit", "kind")
        for kind in ("state", "action"):
            for channel in facts[kind]["channels"]:
                form = f" ({facts[kind]['rotation']})" if channel["kind"] == "rotation" else ""
                channels.add_row(kind, channel["name"], channel["unit"], channel["kind"] + form)
        instructions = Table("episodes", "instruction")
        for instruction, count in facts["instructions"].items():
            instructions.add_row(str(count), instruction or "(none)")
        for table in (cameras, channels, instructions):
            console.print(table)
        return facts


@dataclass(frozen=True)
class Stats:
    """Statistics by channel name: mean, std, min, max, 1 % and 99 % quantiles."""

    path: Positional[Path]
    """Folder of an RLDS/TFDS or a LeRobot data set."""
    split: str = "train"
    """Part of an RLDS data set."""
    raw: bool = False
    """As stored, without the data set's known fixes."""
    out: Path | None = None
    """Also write them to this JSON file."""

    def run(self, console: Console) -> dict[str, Any]:
        """Print a table; return it as JSON."""
        from vla.describe import statistics
        from vla.files import write_text
        from vla.normalize import FIELDS

        measured = statistics(_open(self.path, self.split, fixes=not self.raw)).to_json()
        counts = sorted({numbers["count"] for numbers in measured.values()})
        table = Table("channel", *FIELDS, title=f"{', '.join(map(str, counts))} steps", padding=0)
        for name, numbers in measured.items():
            table.add_row(name, *(f"{numbers[key]:.4g}" for key in FIELDS))
        console.print(table)
        if self.out:
            write_text(self.out, json.dumps(measured, indent=1))
        return measured


@dataclass(frozen=True)
class View:
    """Write an episode as a Rerun recording: cameras, state, actions and the instruction on one timeline."""

    path: Positional[Path]
    """Folder of an RLDS/TFDS or a LeRobot data set."""
    episode: int = 0
    """Number of the episode."""
    split: str = "train"
    """Part of an RLDS data set."""
    fixes: bool = False
    """Apply the data set's known fixes."""
    out: Path = Path("episode.rrd")
    """File to write; open it with ``rerun FILE``."""

    def run(self, console: Console) -> dict[str, Any]:
        """Write the recording."""
        from vla.view import view_episode

        source = _open(self.path, self.split, fixes=self.fixes)
        if not 0 <= self.episode < len(source):
            raise ConfigError(f"episode {self.episode} is not there: {self.path} has {len(source)}, counted from 0")
        episode = source[self.episode]
        view_episode(episode, self.out)
        console.print(f"{self.out}: {len(episode)} steps of {episode.source}; open it with: rerun {self.out}")
        return {"file": str(self.out), "steps": len(episode), "source": episode.source}


@dataclass(frozen=True)
class Data:
    """Look at a data set, measure it, view an episode."""

    command: (
        Annotated[Info, subcommand("info")]
        | Annotated[Stats, subcommand("stats")]
        | Annotated[View, subcommand("view")]
    )

    def run(self, console: Console) -> dict[str, Any]:
        """Run the chosen one."""
        return self.command.run(console)


def _open(path: Path, split: str, *, fixes: bool) -> EpisodeSource:
    from vla.plugins import open_source

    return open_source(path, split=split, fixes=fixes)
