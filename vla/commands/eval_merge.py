"""``vla eval merge``: the parts of an evaluation that ran with ``--shard``, joined into one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from vla.errors import ConfigError, DataError
from vla.ledger import read_ledger


@dataclass(frozen=True)
class Merge:
    """Join the parts of an evaluation that ran with --shard; parts of different evaluations are refused, by name."""

    shards: Positional[tuple[Path, ...]]
    """The parts' folders (their --out)."""
    out: Path
    """Folder for the joined runs and their report."""
    allow_missing: bool = False
    """Join what is there although rows are missing; otherwise they are listed and nothing is written."""

    def run(self, console: Console) -> dict[str, Any]:
        """Check, join, write the report."""
        from vla.commands.evaluate import compare_all, print_summary
        from vla.report import NamedRun, write_report
        from vla.results import summarise
        from vla.shards import join

        if not self.shards:
            raise ConfigError("there is nothing to merge")
        kinds = [_runs(shard) for shard in self.shards]
        for shard, names in zip(self.shards, kinds, strict=True):
            if names.keys() != kinds[0].keys():
                listed, first = (", ".join(sorted(some)) for some in (names, kinds[0]))
                raise ConfigError(f"{shard} has the runs {listed}, {self.shards[0]} has {first}")
        parts = {
            name: join([names[name] for names in kinds], self.out / name, allow_missing=self.allow_missing)
            for name in kinds[0]
        }
        runs = {name: joined.write() for name, joined in parts.items()}  # all of them fit
        for name, results in runs.items():
            print_summary(console, name, results)
        comparisons = compare_all(console, runs)
        report = write_report(self.out, [NamedRun(name, self.out / name) for name in runs])
        console.print(f"report: {report}")
        return {
            "rows": len(next(iter(runs.values()))),
            "runs": {name: summarise(results)["total"] for name, results in runs.items()},
            "comparisons": comparisons,
            "report": str(report),
        }


def _runs(folder: Path) -> dict[str, Path]:
    """Runs by name: those in the folder, or the folder itself."""
    if (folder / "protocol.json").exists():
        return {str(read_ledger(folder)[0].get("name") or folder.name): folder}
    inside = sorted(path.parent for path in folder.glob("*/protocol.json"))
    if not inside:
        raise DataError(folder, "folder", expected="runs of vla eval", found="no protocol.json in it or one below")
    inside.sort(key=lambda path: path.name != "trained")  # what the others are compared with comes first
    return {path.name: path for path in inside}
