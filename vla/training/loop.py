"""Training: windows in, a checkpoint out; a run killed at any time goes on as if nothing had happened.

::

    order of examples ─ shard of this rank ─▶ Batch ─▶ model.loss ─▶ backward ─┐  as often as parts are accumulated
    noise of each example, from the seed and its place in the order ──▶┘       │  over all ranks: DDP or FSDP2
                                                                               ▼
      examiner ◀─ checkpoint ◀─ every so many steps ◀─ averaged weights ◀─ AdamW ◀─ clipped gradient
      best ◀┘     last, keep

One step is one batch of ``config.batch_size`` examples, however many ranks and parts compute it. Everything random is a
function of the seed and of an example's place in the order, so there is no state of chance to save.
"""

import dataclasses
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from vla.errors import ConfigError
from vla.model.answers import Answers
from vla.model.batch import Batch
from vla.model.checkpoint import LAST, load, read_tensors, trainable
from vla.model.config import VlaConfig, distinct_specs, fit_to
from vla.model.encode import Encoder
from vla.model.noise import ExampleNoise
from vla.model.vla_model import VlaModel, build
from vla.normalize import Statistics
from vla.protocols import WindowSource
from vla.training.chance import number as chance_number
from vla.training.checkpoint import Progress, clean_up, restore, resumable, save_training
from vla.training.config import TrainConfig
from vla.training.dropout import drop
from vla.training.evaluations import Evaluations, Examiner
from vla.training.fit_words import fit_words
from vla.training.initial import start_from
from vla.training.interrupt import Interrupt
from vla.training.journal import Journal
from vla.training.malloc import keep_freed_memory
from vla.training.optimizer import average, learning_rate, make_optimizer, set_rate
from vla.training.pairs import Pairs
from vla.training.prepare import make_answers, make_encoder, make_loader
from vla.training.ranks import Ranks, joined, laid_out_as
from vla.training.shard import Shard, shard_of
from vla.training.spread import autocast, spread, without_exchange
from vla.training.trackers import make_trackers

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
    pairs: Pairs | None = None,
    init: Path | None = None,
    examiner: Examiner | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Result:
    """Train a policy, or go on with a run; the processes that ``torchrun`` started do it together.

    Ctrl-C saves a checkpoint and returns. With ``config.steps``, a run that was killed and resumed gives the same
    losses and weights as one that was not, bit for bit on a CPU with the same number of threads, ranks and parts.

    Args:
        config: of the training.
        model_config: a preset or another config; embodiments and cameras are filled in from the source.
        source: of windows with ``model_config.horizon`` actions.
        statistics: by embodiment name.
        out: the run's folder: ``checkpoints/``, ``last`` (a link to the newest), ``metrics.jsonl``, ``tensorboard/``.
        cache: folder for frozen features; ``out / "features"`` if None.
        pairs: of pictures and words, mixed in by ``config.pairs_share``.
        init: a checkpoint or run to start from; what fits of its weights and what does not is written to ``init.json``.
        examiner: evaluates checkpoints on the way; see :mod:`vla.training.evaluations`.
        resume: go on from the last checkpoint in ``out``, or start if there is none.
        quiet: no progress bar.

    Raises:
        ConfigError: ``out`` holds a run already and ``resume`` is False, settings do not fit the run, or the loss is no
            number any more.
        StatisticsMissing: of an embodiment or of a channel.
        DataError: the checkpoint to resume from is damaged.
        DependencyMissing: the backbone or a tracker needs an extra that is not installed.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    with joined(config.device) as ranks:
        begun = (out / LAST).exists()
        if begun and not resume:
            raise ConfigError(f"{out} holds a run already; resume it, or choose another folder")
        shard = shard_of(config.batch_size, config.accumulate, ranks.rank, ranks.size)
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
        if ranks.first:
            clean_up(out)
        trackers = make_trackers(config.track if ranks.first else (), out, progress.step, dataclasses.asdict(config))
        with Journal(out, progress.step, trackers, writes=ranks.first, quiet=quiet) as journal:
            note = "fitting words for actions"
            fit_words(model, encoder, source, lambda n, total: journal.show(note, n / total, f"{n} chunks"))
            model.to(ranks.device)  # before the frozen vision looks at all pictures
            loader = make_loader(
                model, encoder, source, config, cache or out / "features", journal, ranks, shard, resumed=begun
            )
            answers = make_answers(model, encoder, pairs, config, ranks)
            if init is not None and checkpoint is None:
                journal.say(start_from(init, model, encoder, out if ranks.first else None).summary())
            loss = spread(model.train(), ranks, config.parallel)
            optimizer = make_optimizer(model, config)
            parameters = trainable(model)
            ema = {name: value.detach().clone() for name, value in parameters.items()}
            if checkpoint is not None:
                restore(checkpoint, optimizer)
                averaged = read_tensors(checkpoint.path / "ema.safetensors")
                ema = {name: laid_out_as(averaged[name], value) for name, value in ema.items()}
            evaluations = Evaluations(out, progress.step, examiner, keeps=ranks.first)
            run = _Run(
                config, ranks, shard, model, parameters, loss, encoder, optimizer, ema, out, journal, evaluations
            )
            number = progress.step * config.accumulate
            return run.go(progress, zip(loader.batches(number), answers(number), strict=False))


@dataclass
class _Run:
    """What every step touches."""

    config: TrainConfig
    ranks: Ranks
    shard: Shard
    model: VlaModel
    parameters: dict[str, Tensor]
    loss: nn.Module
    encoder: Encoder
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor]
    out: Path
    journal: Journal
    evaluations: Evaluations
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def go(self, progress: Progress, batches: Iterator[tuple[Batch, Answers | None]]) -> Result:
        """Steps until the budget is used up or somebody asks to stop."""
        config, step, first = self.config, progress.step, progress.step
        clock, saved_at = _Clock(progress.minutes), progress.minutes
        with Interrupt() as interrupt:
            self._examine(progress, interrupt, clock)  # a kill may have come between a checkpoint and its evaluation
            while not (over := _fraction(config, progress) >= 1) and not self.ranks.largest([interrupt.asked])[0]:
                rate = learning_rate(config, step, _fraction(config, progress))
                set_rate(self.optimizer, rate)
                losses = self._step(step, batches)
                step += 1
                minutes = self.ranks.largest([clock.minutes if self.ranks.first else 0.0])[0]  # one clock for all
                progress = Progress(step, minutes)
                if step % config.log_every == 0:
                    speed = (step - first) * config.batch_size / clock.seconds
                    self._log(progress, {name: self.ranks.mean(one) for name, one in losses.items()}, rate, speed)
                due = step % config.save_every == 0 if config.save_every else minutes - saved_at > SAVE_MINUTES
                if due:
                    self._save(progress)
                    saved_at = minutes
                self._examine(progress, interrupt, clock)
            path = self._save(progress)
            self._examine(progress, interrupt, clock, over=over)
        mean = sum(self.recent) / len(self.recent) if self.recent else math.nan
        return Result(path, step, progress.minutes, mean, (step - first) * config.batch_size / clock.seconds, over)

    def _step(self, step: int, batches: Iterator[tuple[Batch, Answers | None]]) -> dict[str, Tensor]:
        """One optimizer step; returns this rank's losses."""
        config = self.config
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for part in range(config.accumulate):
            places = self.shard.places(step * config.accumulate + part)
            batch, answers = next(batches)
            batch = drop(batch, config, ExampleNoise(chance_number(config.seed, "drop"), places)).to(self.ranks.device)
            answers = answers and answers.to(self.ranks.device)
            last = part == config.accumulate - 1
            with nullcontext() if last else without_exchange(self.loss):
                with autocast(self.ranks.device, config.precision):
                    found = self.loss(batch, ExampleNoise(chance_number(config.seed, "flow"), places), answers)
                (found["loss"] / config.accumulate).backward()
            losses.append({name: value.detach() for name, value in found.items()})
        nn.utils.clip_grad_norm_(self.parameters.values(), config.clip)
        self.optimizer.step()
        average(self.ema, self.parameters, config.ema, step)
        return {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}

    def _log(self, progress: Progress, losses: dict[str, float], rate: float, speed: float) -> None:
        loss = losses["loss"]
        if not math.isfinite(loss):
            raise ConfigError(f"the loss became {loss} in step {progress.step}; a lower learning_rate may help")
        self.recent.append(loss)
        numbers = {**losses, "lr": rate, "samples_per_s": speed, "minutes": progress.minutes}
        self.journal.log({"step": progress.step, **numbers})
        note = f"loss {sum(self.recent) / len(self.recent):.3f}  {speed:.0f} samples/s  step {progress.step}"
        self.journal.show("training", _fraction(self.config, progress), note)

    def _save(self, progress: Progress) -> Path:
        parts = (self.model, self.encoder, self.ema, self.optimizer, self.config, progress)
        return save_training(self.out, self.ranks, *parts)

    def _examine(self, progress: Progress, interrupt: Interrupt, clock: "_Clock", *, over: bool = False) -> None:
        """Evaluate the current weights if it is time to; the first rank does it, its time does not count."""
        if self.ranks.largest([self.evaluations.due(progress.step, over=over)])[0]:
            path = self._save(progress)
            with clock.stopped(), interrupt.usual():
                if self.ranks.first:
                    self.journal.track("evaluation", self.evaluations.examine(progress.step, path))
                self.ranks.wait()


class _Clock:
    """Time spent on training."""

    def __init__(self, earlier: float):
        self._earlier, self._begin = earlier, time.monotonic()

    @property
    def seconds(self) -> float:
        """Of this part of the run."""
        return max(time.monotonic() - self._begin, 1e-9)

    @property
    def minutes(self) -> float:
        """Of the whole run."""
        return self._earlier + self.seconds / 60

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What the block takes does not count."""
        begin = time.monotonic()
        yield
        self._begin += time.monotonic() - begin


def _fraction(config: TrainConfig, progress: Progress) -> float:
    """Of the run's budget."""
    return progress.step / config.steps if config.steps is not None else progress.minutes / (config.minutes or math.inf)
