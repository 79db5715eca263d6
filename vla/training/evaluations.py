"""Evaluation while a model is trained: every so many steps a checkpoint is examined, and the best one is kept.

::

    <run>/evaluations.jsonl      one line an evaluation: step, score, whatever else the examiner says
          evaluations/00000500/  the examiner's own files
          best                   link to the checkpoint with the highest score, the later one of two equal ones

Steps that are in the file are not evaluated again; a kill in the middle of an evaluation is made good on resuming,
before the next step.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from vla.errors import ConfigError
from vla.files import write_text
from vla.training.checkpoint import BEST, FOLDER, point
from vla.training.journal import read_metrics

EVALUATIONS = "evaluations"


class Examiner(Protocol):
    """Says how good a checkpoint is, e.g. by its success in simulation."""

    @property
    def every(self) -> int:
        """Steps between evaluations; the last step of a run is evaluated too."""
        ...

    def __call__(self, checkpoint: Path, folder: Path) -> Mapping[str, float]:
        """Numbers about a checkpoint, among them ``score`` (higher is better).

        Args:
            checkpoint: its folder.
            folder: for files; what an earlier, killed call left is still there.
        """
        ...


class Evaluations:
    """A run's evaluations so far; later than the step that the run goes on from there are none.

    Args:
        out: the run's folder.
        step: that the run starts at.
        examiner: None to evaluate nothing.
        keeps: False on other ranks than the first, which have no evaluations.

    Raises:
        ConfigError: they are less than a step apart.
    """

    def __init__(self, out: Path, step: int, examiner: Examiner | None, *, keeps: bool = True):
        if examiner is not None and examiner.every < 1:
            raise ConfigError("evaluations are at least one step apart")
        self.out, self.path = out, out / f"{EVALUATIONS}.jsonl"
        self.examiner, self.rows = examiner if keeps else None, []
        if not keeps:
            return
        before = read_metrics(self.path) if self.path.exists() else []
        self.rows = [row for row in before if row["step"] <= step]
        if len(self.rows) < len(before):
            self._write()
        for folder in (out / EVALUATIONS).glob("[0-9]*"):
            if int(folder.name) > step:
                shutil.rmtree(folder)
        self._point_to_best()

    def due(self, step: int, *, over: bool) -> bool:
        """Whether the weights after ``step`` steps are still to be examined."""
        if self.examiner is None or step == 0 or any(row["step"] == step for row in self.rows):
            return False
        return over or step % self.examiner.every == 0

    def examine(self, step: int, checkpoint: Path) -> dict[str, float]:
        """Examine a checkpoint, note the result, and point ``best`` to the best one.

        Raises:
            ConfigError: the examiner gave no ``score``.
        """
        assert self.examiner is not None  # due() said so
        result = {"step": step, **self.examiner(checkpoint, self.out / EVALUATIONS / checkpoint.name)}
        if "score" not in result:
            raise ConfigError(f"the examiner gave no score, but {', '.join(result)}")
        self.rows.append(result)
        self._write()
        self._point_to_best()
        return result

    def _write(self) -> None:
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def _point_to_best(self) -> None:
        ranked = sorted(self.rows, key=lambda row: (row["score"], row["step"]), reverse=True)
        for row in ranked:
            checkpoint = self.out / FOLDER / f"{int(row['step']):08d}"
            if checkpoint.is_dir():
                point(self.out, BEST, checkpoint)
                return
