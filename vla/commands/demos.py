"""``vla demos``: demonstrations of LIBERO tasks by the scripted expert, written as a LeRobot v3.0 data set."""

import contextlib
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from vla.errors import ConfigError


@dataclass(frozen=True)
class Demos:
    """Make demonstrations in LIBERO; objects are placed anew, so none starts from a benchmark's own initial state."""

    out: Path
    """Folder to write, a LeRobot v3.0 data set."""
    suite: str = "libero_spatial"
    """LIBERO suite."""
    tasks: tuple[str, ...] = ()
    """Tasks by number or name; all if none is given."""
    per_task: int = 30
    """Episodes a task."""
    first: int = 0
    """Number of the first episode; another set that begins where this one ends has no episode of it."""
    widen: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest factor for the regions that objects are placed in."""
    camera_size: int = 128
    """Height and width of the pictures [pixels]."""
    workers: int = 0
    """Processes; 0 for one a CPU core."""
    allow_simulator_drift: bool = False
    """Simulate with a MuJoCo that LIBERO's numbers do not hold for; the episodes' source says it."""

    def run(self, console: Console) -> dict[str, Any]:
        """Generate and write."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        from vla.commands.choices import task_names
        from vla.datasets.lerobot_v3 import Writer
        from vla.embodiments.libero_panda import libero_panda
        from vla.sim.expert.generate import GenerateConfig, Progress, generate

        config = GenerateConfig(
            suite=self.suite,
            tasks=tuple(task_names(self.suite, self.tasks)),
            episodes=self.per_task,
            first=self.first,
            widen=self.widen,
            camera_size=self.camera_size,
            workers=self.workers,
            allow_simulator_drift=self.allow_simulator_drift,
        )
        if self.out.exists():
            raise ConfigError(f"{self.out} exists already; choose another folder or remove it")
        begin, steps, state = time.monotonic(), 0, Progress(0, 0, len(config.tasks) * self.per_task, 0)
        columns = (TextColumn("demonstrations"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            shown = bar.add_task("", total=state.total, note="")

            def told(progress: Progress) -> None:
                nonlocal state
                state = progress
                bar.update(shown, completed=progress.done + progress.lost, note=f"{progress.failed} tries failed")

            episodes = generate(config, told)
            # begun before the writer is made: that imports lerobot for seconds, while the simulators work on
            begun = itertools.chain([next(episodes)], episodes)
            with contextlib.closing(episodes), Writer(self.out, libero_panda(self.camera_size)) as writer:
                for episode in begun:
                    writer.add(episode)
                    steps += len(episode)
        seconds = time.monotonic() - begin
        console.print(
            f"{self.out}: {state.done} episodes, {steps} steps in {seconds:.0f} s; {state.failed} tries failed"
        )
        return {
            "path": str(self.out),
            "episodes": state.done,
            "steps": steps,
            "failed_tries": state.failed,
            "lost": state.lost,
            "seconds": round(seconds, 1),
        }
