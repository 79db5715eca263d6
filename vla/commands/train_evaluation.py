"""Success in LIBERO while a policy is trained: what the training's evaluations ask, answered by ``vla eval``'s rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla.commands.evaluate import Evaluate
from vla.commands.train_options import WatchOptions
from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.errors import SpecMismatch
from vla.results import summarise
from vla.rows import EVALUATION_SEEDS
from vla.transforms import connect

SELECTION_SEED = EVALUATION_SEEDS - 100_000
"""Of the first sampled scene: a checkpoint is not chosen by scenes that it is measured on afterwards."""


@dataclass(frozen=True)
class LiberoExaminer:
    """A checkpoint's success rate in LIBERO (a :class:`vla.training.evaluations.Examiner`).

    Attributes:
        options: suite, tasks, rows and processes.
        embodiment: which of the checkpoint's embodiments to be.
    """

    options: WatchOptions
    embodiment: str

    @property
    def every(self) -> int:
        """Steps between evaluations."""
        return self.options.eval_every or 1

    def __call__(self, checkpoint: Path, folder: Path) -> Mapping[str, float]:
        """Run the rows, or those that an earlier call has left; the score is the success rate."""
        evaluation = self.evaluation(checkpoint, folder)
        total = summarise(evaluation.run_variant("trained", evaluation.make_rows()))["total"]
        scored = int(total["n"])
        score = total["successes"] / scored if scored else 0.0
        return {"score": score, "successes": total["successes"], "rows": scored, "errors": total["errors"]}

    def evaluation(self, checkpoint: Path, folder: Path) -> Evaluate:
        """The command that measures."""
        options = self.options
        by_inits = options.eval_inits is not None
        return Evaluate(
            checkpoint,
            folder,
            embodiment=self.embodiment,
            suite=options.eval_suite,
            tasks=options.eval_tasks,
            inits=options.eval_inits or 0,
            sampled=0 if by_inits else options.eval_sampled,
            seed=None if by_inits else SELECTION_SEED,
            workers=options.eval_workers,
            videos=0,
            recordings=0,
        )


def libero_examiner(options: WatchOptions, specs: Sequence[EmbodimentSpec], out: Path) -> LiberoExaminer | None:
    """The examiner that the options ask for, if any; what cannot be evaluated is said before the training begins.

    Raises:
        UnknownName: there is no such suite or task.
        ConfigError: no row comes out.
        SpecMismatch: none of the embodiments fits LIBERO's arm.
    """
    if options.eval_every is None:
        return None
    mismatch = None
    for spec in specs:
        try:
            connect(libero_panda(128), spec)
        except SpecMismatch as error:
            mismatch = mismatch or error
            continue
        examiner = LiberoExaminer(options, spec.name)
        examiner.evaluation(out, out).make_rows()
        return examiner
    assert mismatch is not None  # a training has at least one embodiment
    raise mismatch
