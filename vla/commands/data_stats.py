"""``vla data stats``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vla.commands.source import SourceOptions


@dataclass(frozen=True)
class Stats:
    """Statistics by channel name: mean, std, min, max, 1 % and 99 % quantiles."""

    source: SourceOptions
    out: Path | None = None
    """Also write them to this JSON file."""

    def run(self, console: Console) -> dict[str, Any]:
        """Print a table; return it as JSON."""
        from vla.describe import statistics
        from vla.files import write_text
        from vla.normalize import FIELDS

        measured = statistics(self.source.open()).to_json()
        counts = sorted({numbers["count"] for numbers in measured.values()})
        table = Table("channel", *FIELDS, title=f"{', '.join(map(str, counts))} steps", padding=0)
        for name, numbers in measured.items():
            table.add_row(name, *(f"{numbers[key]:.4g}" for key in FIELDS))
        console.print(table)
        if self.out:
            write_text(self.out, json.dumps(measured, indent=1))
        return measured
