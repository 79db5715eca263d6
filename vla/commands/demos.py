"""``vla demos``: demonstrations of LIBERO tasks by the scripted expert, written as LeRobot v3.0 or RLDS."""

import contextlib
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from vla.errors import ConfigError


@dataclass(frozen=True)
class Demos:
    """Make demonstrations in LIBERO; objects are placed anew, so none starts from a benchmark's own initial state.

    Each episode's info has its scene, what was really sent, subtasks ([first step, label, object, target]), keyframes
    (the last step of each subtask) and what was done to it on purpose.
    """

    out: Path
    """Folder to write."""
    format: Literal["lerobot", "rlds"] = "lerobot"
    """LeRobot v3.0, or RLDS (TFDS)."""
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
    perturb: Literal["none", "noise", "recovery"] = "noise"
    """Nothing; noise on actions, waypoints and the first pose; or also slips of the gripper and bumps of the hand."""
    paraphrase: bool = False
    """Say the instruction in other words in most episodes; the original wording is in the episode's info."""
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
        from vla.datasets import lerobot_writer, rlds_writer
        from vla.embodiments.libero_panda import libero_panda
        from vla.sim.expert.generate import GenerateConfig, Progress, generate
        from vla.sim.expert.record import NONE, RECOVERIES, Disturbance

        config = GenerateConfig(
            suite=self.suite,
            tasks=tuple(task_names(self.suite, self.tasks)),
            episodes=self.per_task,
            first=self.first,
            widen=self.widen,
            camera_size=self.camera_size,
            disturbance={"none": NONE, "noise": Disturbance(), "recovery": RECOVERIES}[self.perturb],
            paraphrase=self.paraphrase,
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
            make = {"lerobot": lerobot_writer.Writer, "rlds": rlds_writer.Writer}[self.format]
            # begun before the writer is made, so that a set that cannot be begun leaves no folder
            begun = itertools.chain([next(episodes)], episodes)
            with contextlib.closing(episodes), make(self.out, libero_panda(self.camera_size)) as writer:
                try:
                    for episode in begun:
                        writer.add(episode)
                        steps += len(episode)
                except KeyboardInterrupt:
                    raise KeyboardInterrupt("stopped; nothing was written: a set is made in one go") from None
        seconds = time.monotonic() - begin
        console.print(
            f"{self.out}: {state.done} episodes, {steps} steps in {seconds:.0f} s; {state.failed} tries failed"
            + (f"; {state.lost} of {state.total} episodes given up, the last: {state.reason}" if state.lost else "")
        )
        return {
            "path": str(self.out),
            "format": self.format,
            "episodes": state.done,
            "steps": steps,
            "failed_tries": state.failed,
            "lost": state.lost,
            "seconds": round(seconds, 1),
        }
