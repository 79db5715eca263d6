"""``vla data check``."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vla.commands.source import SourceOptions
from vla.errors import ChecksFailed
from vla.quality import Quality


@dataclass(frozen=True)
class Check:
    """Grade a data set and list episodes to look at; the exit code is 1 if there are errors.

    Numbers are checked in every step: finite, in their declared range, rotation form and rate; stuck or jumping;
    actions against states (best lag, axes, sign, scale); the gripper's meaning; no-ops; duplicates. Of the pictures
    some are looked at, all with --thorough. Quirks that are not named by --tolerate are errors here.
    """

    source: SourceOptions
    out: Path | None = None
    """Folder for report.html (one file, opens from disk) and check.json."""
    episodes: tuple[str, ...] = ()
    """Numbers or ranges of the episodes to check, e.g. 0 3 5 or 0:10; all if none is given."""
    frames: int = 6
    """Pictures to look at for each camera and episode."""
    picture_episodes: int = 200
    """Episodes whose pictures are looked at, spread evenly; 0 for none."""
    thorough: bool = False
    """Look at every picture of every episode."""

    def run(self, console: Console) -> dict[str, Any]:
        """Check, print a table, write the report.

        Raises:
            ChecksFailed: there are findings of severity error.
        """
        from vla.commands.episode_choice import chosen_episodes
        from vla.commands.progress import counted
        from vla.files import write_text
        from vla.quality import check_source
        from vla.quality_pictures import Sampling
        from vla.quality_report import write_quality_report
        from vla.quirks import EVERY

        source = dataclasses.replace(self.source, tolerate=(EVERY,)).open()  # quirks are findings here
        chosen = chosen_episodes(self.episodes, len(source)) if self.episodes else range(len(source))
        sampling = Sampling(self.frames, self.picture_episodes, self.thorough)
        with counted(console, "checking", "episodes") as told:
            quality = check_source(
                source,
                episodes=chosen,
                sampling=sampling,
                tolerate=self.source.tolerate,
                told=lambda done: told(done, len(chosen)),
            )
        summary = {"source": self.source.path, "split": self.source.split} | quality.to_json()
        console.print(_findings(quality))
        _say(console, self.source.path, quality)
        if self.out:
            write_text(self.out / "check.json", json.dumps(summary, indent=1, allow_nan=False))
            report = write_quality_report(self.out, source, quality, name=self.source.path)
            console.print(f"report: {report}")
        if not quality.sound:
            episodes, errors = quality.findings.touched("error"), quality.findings.count("error")
            raise ChecksFailed(f"{errors} findings of severity error, in {episodes} of {len(chosen)} episodes", summary)
        return summary


def _findings(quality: Quality) -> Table:
    table = Table("severity", "check", "channel", "places", "the first of them")
    for column in table.columns[:4]:
        column.no_wrap = True
    colours = {"error": "[bold red]", "warning": "[yellow]", "note": "[dim]"}
    for group in quality.findings:
        first = group.kept[0]
        colour = colours[group.severity]
        where = first.source if first.episode is None and first.source else first.place
        said = f"{where}: {first.found} (expected {first.expected})"
        cells = (group.check, group.channel, str(group.count), said)
        table.add_row(f"{colour}{group.severity}[/]", *map(escape, cells))
    return table


def _say(console: Console, path: str, quality: Quality) -> None:
    measures = quality.measures
    alignment = measures["alignment"]
    lag = alignment["why"] or f"best lag {alignment['lag']} (correlation {alignment['correlation']:.2f})"
    console.print(
        f"[bold]{escape(path)}: grade {quality.grade}[/] ({measures['episodes']} episodes, {measures['steps']} steps, "
        f"{measures['pictures']['decoded']} pictures looked at)"
    )
    console.print(f"state against action: {lag}; no-ops: {100 * measures['noop_share']:.1f} % of the actions")
    for name, one in measures["gripper"].items():
        console.print(f"{name}: {one['verdict']}; {one['why']}", markup=False)
    if listed := quality.listed():
        console.print(f"look at episodes {' '.join(map(str, listed))}")
