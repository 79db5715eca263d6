"""``vla data questions``."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vla.errors import ConfigError
from vla.rows import EVALUATION_SEEDS, Row

FIRST_SEED = 2 * EVALUATION_SEEDS
"""Of the scenes; evaluations use smaller ones, and so do the first 200,000 demonstrations of a task."""


@dataclass(frozen=True)
class Questions:
    """Pictures of LIBERO scenes with questions and true answers, as Parquet for vla train --pairs."""

    out: Path
    """File to write."""
    suite: str = "libero_spatial"
    """LIBERO suite."""
    tasks: tuple[str, ...] = ()
    """Tasks by number or name; all if none is given."""
    per_task: int = 20
    """Scenes a task, objects placed anew; one picture each."""
    per_picture: int = 4
    """Questions about each picture at most."""
    widen: float = 2.0
    """Factor for the regions that objects are placed in."""
    camera_size: int = 224
    """Height and width of the pictures [pixels]."""
    seed: int = 0
    """Of the choice of scenes and questions."""
    allow_simulator_drift: bool = False
    """Simulate with a MuJoCo that LIBERO's numbers do not hold for."""

    def run(self, console: Console) -> dict[str, Any]:
        """Sample scenes, ask, write."""
        import datasets
        import pyarrow as pa
        import pyarrow.parquet as pq

        from vla.commands.choices import task_names
        from vla.commands.progress import counted
        from vla.files import whole_file

        if self.out.exists():
            raise ConfigError(f"{self.out} exists already; choose another file or remove it")
        if self.per_task < 1 or self.per_picture < 1 or self.camera_size < 1 or self.seed < 0:
            raise ConfigError("per_task, per_picture and camera_size start at 1, seed at 0")
        names = task_names(self.suite, self.tasks)
        rows: list[dict[str, Any]] = []
        with counted(console, "asking", "scenes") as told:
            for place, task in enumerate(names):
                before, total = place * self.per_task, len(names) * self.per_task
                rows += self._scenes(task, lambda done, before=before, total=total: told(before + done, total))
        words = {name: datasets.Value("string") for name in ("question", "answer", "suite", "task")}
        features = datasets.Features({"image": datasets.Image(), **words, "seed": datasets.Value("int64")})
        with whole_file(self.out) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, features.arrow_schema), temporary)
        pictures = len(names) * self.per_task
        console.print(f"{self.out}: {len(rows)} questions about {pictures} pictures")
        return {"path": str(self.out), "questions": len(rows), "pictures": pictures}

    def _scenes(self, task: str, told: Any) -> list[dict[str, Any]]:
        """Questions about a task's scenes."""
        from PIL import Image

        from vla.sim import libero
        from vla.sim.questions import questions, things

        benchmark = libero.Config(camera_size=self.camera_size, allow_simulator_drift=self.allow_simulator_drift).make()
        rows = []
        try:
            for number in range(self.per_task):
                seed = FIRST_SEED + self.seed * self.per_task + number
                body, scene = benchmark.open(Row(self.suite, task, -1, seed, self.widen))
                scene.reset()
                encoded = io.BytesIO()
                Image.fromarray(body.observe().images["agentview"]).save(encoded, "PNG")
                asked = questions(things(body.world))
                chosen = np.random.default_rng([seed, len(asked)]).permutation(len(asked))[: self.per_picture]
                rows += [
                    {
                        "image": {"bytes": encoded.getvalue(), "path": None},
                        "question": asked[one][0],
                        "answer": asked[one][1],
                        "suite": self.suite,
                        "task": task,
                        "seed": seed,
                    }
                    for one in sorted(chosen)
                ]
                told(number + 1)
        finally:
            benchmark.close()
        return rows
