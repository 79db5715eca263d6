"""What a run tells while it trains: a progress bar, ``metrics.jsonl`` and TensorBoard."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from vla.errors import DataError
from vla.files import write_text

METRICS = "metrics.jsonl"


class Journal:
    """Logs to a run's folder; on resuming, lines after the step that is resumed from are dropped.

    Args:
        out: the run's folder.
        step: that the run starts at.
        quiet: no progress bar.
    """

    def __init__(self, out: Path, step: int, *, quiet: bool = False):
        self.path = out / METRICS
        rows = [row for row in read_metrics(self.path) if row["step"] <= step] if self.path.exists() else []
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=quiet,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "Journal":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._board.close()

    def show(self, what: str, fraction: float | None, note: str = "") -> None:
        """Move a bar to a fraction of its length; None where the length is not known."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=None if fraction is None else 1.0, note="")
        self._bar.update(self._tasks[what], completed=fraction, note=note)

    def log(self, row: dict[str, float]) -> None:
        """One line of numbers; ``row`` has the step."""
        with self.path.open("a") as out:
            out.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(f"train/{name}", value, int(row["step"]))


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
