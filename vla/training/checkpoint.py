"""A model's checkpoint with what training needs to go on from it exactly.

Beside the model's files (:mod:`vla.model.checkpoint`): ``optimizer.safetensors`` (AdamW's moments by parameter name)
and ``training_state.json`` (step, minutes so far, config). There is no generator to save: all randomness is a
function of the seed and the step.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.errors import ConfigError, DataError
from vla.files import whole_folder
from vla.model.checkpoint import LAST, Checkpoint, read_json, read_tensors, trainable, write_into, write_tensors
from vla.model.encode import Encoder
from vla.model.vla_model import VlaModel
from vla.training.config import TrainConfig
from vla.training.ranks import Ranks, laid_out_as

FOLDER = "checkpoints"
BEST = "best"
_MAY_CHANGE = (
    "minutes",
    "save_every",
    "keep",
    "log_every",
    "workers",
    "threads",
    "device",
    "accumulate",
    "parallel",
    "track",
)


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int = 0
    minutes: float = 0.0


def save_training(
    out: Path,
    ranks: Ranks,
    model: VlaModel,
    encoder: Encoder,
    ema: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    progress: Progress,
) -> Path:
    """Write a checkpoint into a run's folder, point ``last`` to it, remove the oldest beyond ``config.keep``.

    The first rank writes whole tensors, whatever rank holds them; all ranks have to call it.

    Returns:
        the checkpoint's folder.
    """
    path = out / FOLDER / f"{progress.step:08d}"
    if ranks.largest([not path.exists()])[0]:
        weights, averaged, moments = (
            ranks.whole(part) for part in (model.state_dict(), ema, _moments(model, optimizer))
        )
        if ranks.first:
            with whole_folder(path) as folder:
                write_into(folder, model, encoder, averaged, weights)
                write_tensors(folder / "optimizer.safetensors", moments)
                state = {**dataclasses.asdict(progress), "config": dataclasses.asdict(config)}
                (folder / "training_state.json").write_text(json.dumps(state, indent=1))
    if ranks.first:
        point(out, LAST, path)
        best = (out / BEST).resolve()
        for old in saved(out)[: -config.keep]:
            if old.resolve() != best:
                shutil.rmtree(old)
    ranks.wait()
    return path


def point(out: Path, name: str, target: Path) -> None:
    """Make the link ``name`` in ``out`` point to a folder below it; it points to one or the other at any time."""
    link = out / f".{name}.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(target.relative_to(out))
    link.replace(out / name)


def saved(out: Path) -> list[Path]:
    """A run's whole checkpoints, oldest first."""
    return sorted(folder for folder in (out / FOLDER).glob("[0-9]*") if folder.is_dir())


def clean_up(out: Path) -> None:
    """Remove what a killed run left half-written."""
    for leftover in (out / FOLDER).glob(".*"):
        shutil.rmtree(leftover)


def resumable(checkpoint: Checkpoint, config: TrainConfig) -> Progress:
    """How far a checkpoint's run was.

    Raises:
        DataError: a file is missing or damaged.
        ConfigError: the run was started with settings that would make another run of it.
    """
    path = checkpoint.path / "training_state.json"
    state = read_json(path)
    if not isinstance(state, dict) or not {"step", "minutes", "config"} <= state.keys():
        raise DataError(path, "fields", expected="step, minutes and config", found=str(state)[:80])
    _check_config(path, state["config"], config)
    return Progress(int(state["step"]), float(state["minutes"]))


def restore(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer back its moments; the model's weights are the checkpoint's own.

    Raises:
        DataError: the file is missing, damaged, or does not fit the model.
    """
    moments = read_tensors(checkpoint.path / "optimizer.safetensors")
    for name, parameter in trainable(checkpoint.model).items():
        parts = {key: moments.pop(f"{key}.{name}", None) for key in ("step", "exp_avg", "exp_avg_sq")}
        found = {key: value.to(parameter.device) for key, value in parts.items() if value is not None}
        if not found:
            continue  # a parameter that has no gradient has no moments
        if len(found) != len(parts) or found["exp_avg"].shape != parameter.shape:
            file = checkpoint.path / "optimizer.safetensors"
            raise DataError(file, name, expected=f"moments of shape {tuple(parameter.shape)}", found=", ".join(found))
        # the step count is a number of the optimizer's, never spread over ranks
        optimizer.state[parameter] = {
            key: value if key == "step" else laid_out_as(value, parameter) for key, value in found.items()
        }
    if moments:
        file = checkpoint.path / "optimizer.safetensors"
        raise DataError(file, next(iter(moments)), expected="moments of the model's parameters", found="another name")


def _moments(model: VlaModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{key}.{name}": value
        for name, parameter in trainable(model).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _check_config(path: Path, before: Mapping[str, Any], config: TrainConfig) -> None:
    now = json.loads(json.dumps(dataclasses.asdict(config)))
    changed = [key for key in now if key not in _MAY_CHANGE and before.get(key) != now[key]]
    if changed:
        lines = ", ".join(f"{key}: {before.get(key)} then, {now[key]} now" for key in changed)
        raise ConfigError(f"{path}: this run cannot be resumed with other settings ({lines}); choose another folder")
