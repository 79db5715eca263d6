"""``vla quickstart``: the whole path once, from trajectories to a report, on a laptop without a GPU."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from vla.commands.demos import Demos
from vla.commands.evaluate import Evaluate
from vla.commands.train import Train
from vla.commands.train_options import DataOptions, StepOptions

TASKS = ("0",)
BRIDGE = Path("oxe_bridge_sample/bridge_dataset/1.0.0")


@dataclass(frozen=True)
class Quickstart:
    """Read real trajectories if they are at hand, make demonstrations, train ``nano``, evaluate it, write a report.

    What is finished is not done again: the same command goes on where it was stopped.
    """

    out: Path = Path("runs/quickstart")
    """Folder for everything it makes."""
    suite: str | None = None
    """All tasks of a LIBERO suite (about an hour) instead of one task of libero_spatial."""
    short: bool = False
    """Touch every part in a few minutes; too short to learn the task."""
    workers: int = 0
    """Processes; 0 for one a CPU core."""

    def run(self, console: Console) -> dict[str, Any]:
        """All steps in turn."""
        suite, tasks = self.suite or "libero_spatial", () if self.suite else TASKS
        episodes, minutes, inits = (30, 20.0, 10) if self.suite else (60, 8.5, 20)
        if self.short:
            episodes, minutes, inits = 4, 0.5, 2
        demos, run = self.out / "demos", self.out / "policy"
        seconds: dict[str, float] = {}

        def timed(name: str, what: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            console.rule(f"{name}: {what}")
            begin = time.monotonic()
            summary = work()
            seconds[name] = round(time.monotonic() - begin, 1)
            return summary

        summary: dict[str, Any] = {}
        summary["real data"] = timed("1 real data", "an Open X-Embodiment sample", lambda: _bridge(console))
        if not demos.exists():
            summary["demos"] = timed(
                "2 demonstrations",
                f"{episodes} a task, objects placed anew",
                lambda: Demos(
                    demos, suite=suite, tasks=tasks, per_task=episodes, widen=(1.0, 3.0), workers=self.workers
                ).run(console),
            )
        summary["train"] = timed(
            "3 training",
            f"nano for {minutes:g} minutes",
            lambda: Train(run, DataOptions((str(demos),)), step=StepOptions(minutes=minutes)).run(console),
        )
        summary["eval"] = timed(
            "4 evaluation",
            "LIBERO's own initial states, which no demonstration used",
            lambda: Evaluate(
                run,
                self.out / "eval",
                suite=suite,
                tasks=tasks,
                inits=inits,
                against=("untrained",),
                workers=self.workers,
            ).run(console),
        )
        console.rule("done")
        console.print(f"{sum(seconds.values()) / 60:.1f} minutes; open {self.out / 'eval' / 'report.html'}")
        return summary | {"seconds": seconds, "report": str(self.out / "eval" / "report.html")}


def _bridge(console: Console) -> dict[str, Any]:
    """Read the Bridge sample, if it is there."""
    from vla.describe import info
    from vla.plugins import open_source

    folder = Path(os.environ.get("VLA_SHARED_DATA", "../shared/data")) / BRIDGE
    if not folder.is_dir():
        console.print(f"skipped: {folder} is not there (set VLA_SHARED_DATA to a folder that has {BRIDGE})")
        return {"skipped": f"{folder} is not there"}
    source = open_source(folder)
    facts = info(source)
    picture = source[0].images[source.spec.camera_names[0]][0]
    console.print(
        f"{folder}: {facts['episodes']} episodes, {facts['steps']} steps after the no-op first ones, "
        f"{len(facts['instructions'])} instructions; first picture {picture.shape}"
    )
    return {key: facts[key] for key in ("episodes", "steps", "embodiment", "fingerprint")}
