"""``vla eval``: a policy in LIBERO over rows fixed beforehand, alone or against variants of itself on the same rows."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from vla.commands.train import DATA_FILE
from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, UnknownName
from vla.results import Result, compare, summarise
from vla.rows import Row
from vla.transforms import connect

Variant = Literal["untrained", "blank"]


@dataclass(frozen=True)
class Evaluate:
    """Measure a policy in LIBERO. Rows are fixed before the run; the same command goes on where one was stopped."""

    checkpoint: Positional[Path]
    """A training run's folder, or one of its checkpoints."""
    out: Path
    """Folder for results, report, videos and Rerun recordings."""
    embodiment: str | None = None
    """Which of the checkpoint's embodiments to be, if it has several."""
    suite: str = "libero_spatial"
    """LIBERO suite."""
    tasks: tuple[str, ...] = ()
    """Tasks by number or name; all if none is given."""
    inits: int = 10
    """The first n of each task's own 50 initial states."""
    sampled: int = 0
    """Instead: n scenes a task with the objects placed anew."""
    widen: float = 1.0
    """Factor for the regions of sampled scenes. They are 2 cm wide, which an arm can solve blind; 3 needs eyes."""
    seed: int = 0
    """Of the first row; the others count up."""
    against: tuple[Variant, ...] = ()
    """Also run on the same rows: the untrained network, or the policy with its pictures blanked."""
    execute: int = 8
    """Actions of each chunk that are executed before the policy looks again."""
    ode_steps: int = 10
    """Euler steps of the flow."""
    workers: int = 0
    """Processes; 0 for one a CPU core."""
    videos: int = 4
    """Rows to film afterwards, failures first."""
    recordings: int = 1
    """Rows to record for Rerun afterwards."""
    render: Literal["decimated", "exact"] = "decimated"
    """Meshes to draw: thinned out, or LIBERO's own."""

    def run(self, console: Console) -> dict[str, Any]:
        """Run the rows, compare, write the report."""
        from vla.commands.choices import make_rows, task_names
        from vla.report import NamedRun, write_report

        tasks = task_names(self.suite, self.tasks)
        rows = make_rows(self.suite, tasks, inits=self.inits, sampled=self.sampled, widen=self.widen, seed=self.seed)
        names = ["trained", *dict.fromkeys(self.against)]
        runs = {name: self.run_variant(name, rows) for name in names}
        for name, results in runs.items():
            print_summary(console, name, results)
        comparisons = compare_all(console, runs)
        described = self.checkpoint / DATA_FILE
        report = write_report(
            self.out,
            [NamedRun(name, self.out / name) for name in names],
            training=self.checkpoint if (self.checkpoint / "metrics.jsonl").exists() else None,
            data=json.loads(described.read_text()) if described.exists() else None,
        )
        console.print(f"report: {report}")
        return {
            "rows": len(rows),
            "runs": {name: summarise(results)["total"] for name, results in runs.items()},
            "comparisons": comparisons,
            "report": str(report),
        }

    def run_variant(self, name: str, rows: Sequence[Row]) -> list[Result]:
        """Run the rows with the policy (``trained``) or one of its variants."""
        from vla.evaluate import run_rows
        from vla.policies import vla_policy
        from vla.sim import libero

        spec = self._spec()
        size = max((max(camera.height, camera.width) for camera in spec.cameras), default=128)
        connect(libero_panda(size), spec)  # what does not fit is said before a scene is compiled
        policy = vla_policy.Config(self.checkpoint.resolve(), embodiment=spec.name, ode_steps=self.ode_steps, threads=1)
        changes = {"trained": {}, "untrained": {"untrained": True}, "blank": {"blank_images": True}}
        policy = replace(policy, **changes[name])
        workers = self.workers or os.cpu_count() or 1
        return run_rows(
            rows,
            # a picture costs the same at any size: rendered as the policy wants it, none is resized
            libero.Config(camera_size=size, render=self.render),
            policy,
            self.out / name,
            workers=min(workers, len(rows)),
            execute=self.execute,
            name=name,
            videos=self.videos,
            recordings=self.recordings,
        )

    def _spec(self) -> EmbodimentSpec:
        """Of the policy, as the checkpoint has it."""
        from vla.model.checkpoint import embodiments

        specs = {spec.name: spec for spec in embodiments(self.checkpoint)}
        if self.embodiment is None and len(specs) > 1:
            raise ConfigError(f"{self.checkpoint} knows {', '.join(specs)}: choose one with --embodiment")
        name = self.embodiment or next(iter(specs))
        if name not in specs:
            raise UnknownName("embodiment of the checkpoint", name, specs)
        return specs[name]


def print_summary(console: Console, name: str, results: Sequence[Result]) -> None:
    """A table of success by task."""
    summary = summarise(results)
    table = Table("task", "success", "95 % interval", "errors", "mean steps", title=name)
    for cell in [*summary["tasks"], summary["total"] | {"task": "all"}]:
        interval = f"{100 * cell['low']:.0f} to {100 * cell['high']:.0f} %" if cell["n"] else ""
        steps = "" if cell["mean_steps"] is None else f"{cell['mean_steps']:.0f}"
        table.add_row(cell["task"], f"{cell['successes']}/{cell['n']}", interval, str(cell["errors"]), steps)
    console.print(table)


def compare_all(console: Console, runs: dict[str, list[Result]]) -> dict[str, Any]:
    """The first run against each other one, row by row."""
    (first, ours), *others = runs.items()
    found = {}
    for name, results in others:
        result = compare(ours, results)
        console.print(
            f"{first} minus {name}: {100 * result.difference:+.0f} points "
            f"({100 * result.low:+.0f} to {100 * result.high:+.0f}), exact McNemar p = {result.p_value:.2g}, "
            f"{result.n} rows"
        )
        found[f"{first} vs {name}"] = result.to_json()
    return found
