"""What a run tells while it trains: a progress bar, ``metrics.jsonl`` and trackers; all from the first rank."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vla.errors import DataError
from vla.files import write_text
from vla.training.trackers import Tracker

METRICS = "metrics.jsonl"


class Journal:
    """Logs to a run's folder; on resuming, lines after the step that is resumed from are dropped.

    Args:
        out: the run's folder.
        step: that the run starts at.
        trackers: are told every number too, and closed at the end.
        writes: False on other ranks than the first, which tell nothing.
        quiet: no progress bar.
    """

    def __init__(
        self, out: Path, step: int, trackers: Sequence[Tracker] = (), *, writes: bool = True, quiet: bool = False
    ):
        self.path, self.writes, self._trackers = out / METRICS, writes, tuple(trackers)
        if writes:
            rows = [row for row in read_metrics(self.path) if row["step"] <= step] if self.path.exists() else []
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr, quiet=quiet or not writes),
            disable=quiet or not writes,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "Journal":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        for tracker in self._trackers:
            tracker.close()

    def say(self, text: str) -> None:
        """Something for people, above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, what: str, fraction: float | None, note: str = "") -> None:
        """Move a bar to a fraction of its length; None where the length is not known."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=None if fraction is None else 1.0, note="")
        self._bar.update(self._tasks[what], completed=fraction, note=note)

    def log(self, row: dict[str, float]) -> None:
        """One line of numbers; ``row`` has the step."""
        if self.writes:
            with self.path.open("a") as out:
                out.write(json.dumps(row) + "\n")
            self.track("train", row)

    def track(self, group: str, row: dict[str, float]) -> None:
        """Numbers for the trackers alone; ``row`` has the step."""
        values = {f"{group}/{name}": value for name, value in row.items() if name != "step"}
        for tracker in self._trackers:
            tracker.log(values, int(row["step"]))


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of ``metrics.jsonl``; a last line cut off by a kill is left out.

    Raises:
        DataError: another line is not JSON.
    """
    rows = []
    lines = path.read_text().splitlines()
    for place, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if place == len(lines) - 1:
                break
            raise DataError(path, f"line {place + 1}", expected="JSON", found=line[:80]) from error
    return rows
