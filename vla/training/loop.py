"""Training: windows in, a checkpoint out; a run killed at any time goes on as if nothing had happened."""

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vla.errors import ConfigError
from vla.model.checkpoint import LAST, load, read_tensors, trainable
from vla.model.config import VlaConfig, distinct_specs, fit_to
from vla.model.encode import Encoder
from vla.model.vla_model import VlaModel, build
from vla.normalize import Statistics
from vla.protocols import WindowSource
from vla.training.chance import torch_chance
from vla.training.checkpoint import Progress, clean_up, restore, resumable, save_training
from vla.training.config import TrainConfig
from vla.training.dropout import drop
from vla.training.fit_words import fit_words
from vla.training.journal import Journal
from vla.training.loader import Loader
from vla.training.malloc import keep_freed_memory
from vla.training.prepare import make_encoder, make_loader

SAVE_MINUTES = 5.0
_RECENT = 50  # steps that the shown loss is averaged over


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        checkpoint: folder of its last checkpoint.
        steps: made in all, earlier parts of the run included.
        minutes: trained in all.
        loss: mean over the last steps; NaN if none was made.
        samples_per_second: of this part of the run.
        finished: False if it was interrupted.
    """

    checkpoint: Path
    steps: int
    minutes: float
    loss: float
    samples_per_second: float
    finished: bool


def train(
    config: TrainConfig,
    model_config: VlaConfig,
    source: WindowSource,
    statistics: Mapping[str, Statistics],
    out: Path,
    *,
    cache: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Result:
    """Train a policy, or go on with a run.

    Ctrl-C saves a checkpoint and returns. With ``config.steps``, a run that was killed and resumed gives the same
    losses and weights as one that was not, bit for bit on a CPU with the same number of threads.

    Args:
        config: of the training.
        model_config: a preset or another config; embodiments and cameras are filled in from the source.
        source: of windows with ``model_config.horizon`` actions.
        statistics: by embodiment name.
        out: the run's folder: ``checkpoints/``, ``last`` (a link to the newest), ``metrics.jsonl``, ``tensorboard/``.
        cache: folder for frozen features; ``out / "features"`` if None.
        resume: go on from the last checkpoint in ``out``, or start if there is none.
        quiet: no progress bar.

    Raises:
        ConfigError: ``out`` holds a run already and ``resume`` is False, or settings do not fit the run.
        StatisticsMissing: of an embodiment or of a channel.
        DataError: the checkpoint to resume from is damaged.
    """
    begun = (out / LAST).exists()
    if begun and not resume:
        raise ConfigError(f"{out} holds a run already; resume it, or choose another folder")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    device = _device(config)
    fitted = fit_to(model_config, source.specs)
    checkpoint = load(out, "model") if begun else None
    same = checkpoint is None or (
        checkpoint.model.config == fitted and checkpoint.encoder.specs == distinct_specs(source.specs)
    )
    if not same:
        raise ConfigError(f"{out}: the run to resume has another model config or other embodiments than the data")
    model = checkpoint.model if checkpoint else build(fitted, seed=config.seed)
    encoder = make_encoder(model, source, statistics, checkpoint)
    progress = resumable(checkpoint, config) if checkpoint else Progress()
    out.mkdir(parents=True, exist_ok=True)
    clean_up(out)
    with Journal(out, progress.step, quiet=quiet) as journal:
        folder = cache or out / "features"
        note = "fitting words for actions"
        fit_words(model, encoder, source, lambda count, total: journal.show(note, count / total, f"{count} chunks"))
        loader = make_loader(model, encoder, source, config, folder, journal, resumed=checkpoint is not None)
        model.to(device).train()
        optimizer = make_optimizer(model, config)
        ema = {name: value.detach().clone() for name, value in trainable(model).items()}
        if checkpoint is not None:
            restore(checkpoint, optimizer)
            averaged = read_tensors(checkpoint.path / "ema.safetensors")
            ema = {name: averaged[name].to(device) for name in ema}
        return _loop(config, model, encoder, loader, optimizer, ema, progress, out, journal)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate(config: TrainConfig, step: int, fraction: float) -> float:
    """Linear warm-up by steps times a cosine over the run's ``fraction``."""
    cosine = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup)) * cosine


def _loop(
    config: TrainConfig,
    model: VlaModel,
    encoder: Encoder,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    ema: dict[str, Tensor],
    progress: Progress,
    out: Path,
    journal: Journal,
) -> Result:
    parameters = trainable(model)
    device = next(iter(parameters.values())).device
    step, first, earlier = progress.step, progress.step, progress.minutes
    begin = saved_at = time.monotonic()
    minutes, recent = earlier, deque[float](maxlen=_RECENT)
    batches = loader.batches(step)
    with _interruptible() as interrupted:
        while not (over := _over(config, step, minutes)) and not interrupted.is_set():
            rate = learning_rate(config, step, _fraction(config, step, minutes))
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = drop(next(batches), config, torch_chance(config.seed, step, "drop")).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                loss = model.loss(batch, generator=torch_chance(config.seed, step, "flow"))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters.values(), config.clip)
            optimizer.step()
            decay = min(config.ema, (1 + step) / (10 + step))
            average(ema, parameters, 1 - decay)
            step += 1
            now = time.monotonic()
            minutes = earlier + (now - begin) / 60
            if step % config.log_every == 0:
                value = loss.item()
                if not math.isfinite(value):
                    raise ConfigError(f"the loss became {value} in step {step}; a lower learning_rate may help")
                recent.append(value)
                speed = (step - first) * config.batch_size / (now - begin)
                journal.log({"step": step, "loss": value, "lr": rate, "samples_per_s": speed, "minutes": minutes})
                note = f"loss {sum(recent) / len(recent):.3f}  {speed:.0f} samples/s  step {step}"
                journal.show("training", _fraction(config, step, minutes), note)
            due = step % config.save_every == 0 if config.save_every else now - saved_at > 60 * SAVE_MINUTES
            if due:
                save_training(out, model, encoder, ema, optimizer, config, Progress(step, minutes))
                saved_at = now
    path = save_training(out, model, encoder, ema, optimizer, config, Progress(step, minutes))
    seconds = max(time.monotonic() - begin, 1e-9)
    mean = sum(recent) / len(recent) if recent else math.nan
    return Result(path, step, minutes, mean, (step - first) * config.batch_size / seconds, over)


@torch.no_grad()
def average(ema: Mapping[str, Tensor], parameters: Mapping[str, Tensor], weight: float) -> None:
    """Move the averaged weights towards the current ones."""
    for name, value in ema.items():
        value.lerp_(parameters[name], weight)


def _over(config: TrainConfig, step: int, minutes: float) -> bool:
    return _fraction(config, step, minutes) >= 1


def _fraction(config: TrainConfig, step: int, minutes: float) -> float:
    return step / config.steps if config.steps is not None else minutes / (config.minutes or math.inf)


def _device(config: TrainConfig) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for; torch finds none")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C (or SIGTERM) into a request to stop; the second is the usual one."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore_handlers() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: object) -> None:
        asked.set()
        restore_handlers()

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        restore_handlers()
