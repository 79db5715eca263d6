"""``vla eval rrd``: recordings of rows of a finished run, chosen afterwards."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from vla.errors import ConfigError, DataError


@dataclass(frozen=True)
class Rrd:
    """Record rows of a run for Rerun, and film them: each is run once more, exactly as it was measured."""

    run_folder: Positional[Path]
    """Folder of a run, e.g. runs/eval/trained; or of an evaluation, which stands for its first run."""
    rows: tuple[int, ...] = ()
    """Numbers of rows in the order of the evaluation, from 0."""
    failures: bool = False
    """All rows that failed."""
    limit: int = 20
    """Rows at most."""
    no_videos: bool = False
    """Leave out the videos."""
    workers: int = 0
    """Processes; 0 for one a CPU core."""

    def run(self, console: Console) -> dict[str, Any]:
        """Choose, run, list the files."""
        from vla.child_process import cores
        from vla.evaluate import record_rows
        from vla.ledger import read_ledger
        from vla.recordings import choose_rows
        from vla.rows import row_from_json

        if self.limit < 1:
            raise ConfigError(f"--limit {self.limit}: expected a number from 1 on")
        folder = _folder(self.run_folder)
        protocol, results = read_ledger(folder)
        everything = [row_from_json(row) for row in protocol["rows"]]
        if strange := [number for number in self.rows if not 0 <= number < len(everything)]:
            raise ConfigError(f"there is no row {strange[0]}: {folder} has rows 0 to {len(everything) - 1}")
        chosen = [everything[number] for number in self.rows]
        if self.failures:
            failed = [result for result in results if result.status == "failure"]
            chosen += choose_rows(failed, len(failed))
        if not chosen:
            raise ConfigError("say which rows: --rows 3 17 or --failures (of which there may be none)")
        chosen = list(dict.fromkeys(chosen))
        if len(chosen) > self.limit:
            console.print(f"{self.limit} of {len(chosen)} rows; --limit changes that")
        workers = self.workers or cores()
        jobs = record_rows(folder, chosen[: self.limit], videos=not self.no_videos, workers=workers)
        made = [str(file) for job in jobs for file in (job.rrd, job.video) if file and file.exists()]
        for file in made:
            console.print(file, markup=False, highlight=False)
        console.print("open them with: rerun FILE.rrd")
        return {"rows": len(jobs), "files": made}


def _folder(folder: Path) -> Path:
    inside = [folder, folder / "trained", *sorted(path.parent for path in folder.glob("*/protocol.json"))]
    for place in inside:
        if (place / "protocol.json").exists():
            return place
    raise DataError(folder, "folder", expected="a run of vla eval", found="no protocol.json in it or one below")
