"""Where a run's numbers go beside its own ``metrics.jsonl``: TensorBoard, Weights & Biases."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vla.errors import DependencyMissing
from vla.files import write_text


class Tracker(Protocol):
    """Takes numbers by name."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of a step."""
        ...

    def close(self) -> None:
        """Hand over what is still waiting."""
        ...


def make_trackers(names: Sequence[str], out: Path, step: int, config: Mapping[str, Any]) -> list[Tracker]:
    """Trackers of a run that starts at ``step``.

    Raises:
        DependencyMissing: a tracker's library is not installed.
    """
    kinds = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
    return [kinds[name](out, step, config) for name in dict.fromkeys(names)]


class TensorBoard:
    """Event files in ``<run>/tensorboard``; what was logged after ``step`` is hidden."""

    def __init__(self, out: Path, step: int, config: Mapping[str, Any]):
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See :class:`Tracker`."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """See :class:`Tracker`."""
        self._board.close()


class WeightsAndBiases:
    """Through accelerate's tracker. Project, entity and mode (``WANDB_MODE=offline``) come from wandb's own variables.

    The run's id is kept in ``<run>/wandb.id``, so that a resumed run is the same one there.
    """

    def __init__(self, out: Path, step: int, config: Mapping[str, Any]):
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise DependencyMissing("tracking with wandb needs the extra: pip install 'vla-stack[wandb]'") from error
        from accelerate import PartialState
        from accelerate.tracking import WandBTracker

        note = out / "wandb.id"
        if not note.exists():
            write_text(note, secrets.token_hex(4))
        PartialState()  # accelerate's own log wants to know the ranks
        project = os.environ.get("WANDB_PROJECT", "vla")
        self._tracker = WandBTracker(project, dir=str(out), id=note.read_text(), resume="allow", name=out.name)
        self._tracker.start()
        self._tracker.store_init_configuration(dict(config))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See :class:`Tracker`."""
        self._tracker.log(dict(values), step=step)

    def close(self) -> None:
        """See :class:`Tracker`."""
        self._tracker.finish()
