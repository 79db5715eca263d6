"""How a model is trained, as one frozen value."""

from dataclasses import dataclass
from typing import Literal

from vla.errors import ConfigError


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run. Exactly one of ``steps`` and ``minutes`` ends it.

    Attributes:
        steps: optimizer steps; with these a run can be repeated bit for bit.
        minutes: wall-clock budget of the training itself; the learning rate follows the clock.
        batch_size: observations for each step, all ranks and accumulated parts together.
        accumulate: parts that a step's batch is computed in, one after the other; the result is the same.
        learning_rate: highest, after warm-up.
        backbone_rate: the backbone's learning rate as a multiple of that.
        warmup: steps of linear warm-up.
        final_rate: fraction of the highest that the cosine ends at.
        weight_decay: of matrices; vectors and scalars have none.
        betas: of AdamW.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights, reached gradually.
        seed: everything random is a function of it and of the step.
        pairs_share: share of a step's examples that are image-text pairs; they come on top of ``batch_size``.
        pairs: names these pairs' files; a run goes on only with those that it began with.
        order: names the order of the source's windows; a run goes on only with the order that it began with.
        shift: pictures are shifted at random by up to this many pixels (of the model's size), edges repeated.
        versions: how many shifted versions of each picture frozen features are computed for, beside the original.
        state_noise: standard deviation of noise on the normalised state.
        image_dropout: probability that a camera of an example is hidden in training.
        language_dropout: probability that an example's instruction is.
        save_every: steps between checkpoints; None for one every five minutes.
        keep: newest checkpoints kept.
        log_every: steps between logged lines.
        workers: processes that decode pictures, where features are not cached; 0 for threads of this one; None for
            processes beside a GPU, and threads where the model is trained on the cores that would decode.
        threads: of torch; None for its own choice.
        device: ``auto`` takes a GPU if there is one.
        precision: of the forward pass; with ``bf16`` (autocast) weights, moments and averages stay float32.
        parallel: with several ranks: a copy of the model on each (``ddp``), or a part of each weight (``fsdp``).
        track: where numbers go beside ``metrics.jsonl``.

    Raises:
        ConfigError: a setting is out of its range.
    """

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 64
    accumulate: int = 1
    learning_rate: float = 7e-4
    backbone_rate: float = 1.0
    warmup: int = 100
    final_rate: float = 0.02
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    pairs_share: float = 0.0
    pairs: str | None = None
    order: str | None = None
    shift: int = 4
    versions: int = 1
    state_noise: float = 0.02
    image_dropout: float = 0.0
    language_dropout: float = 0.0
    save_every: int | None = None
    keep: int = 2
    log_every: int = 1
    workers: int | None = None
    threads: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    track: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)

    def __post_init__(self):
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("training needs either steps or minutes, and not both")
        if (self.steps is not None and self.steps < 1) or (self.minutes is not None and self.minutes <= 0):
            raise ConfigError("training needs a budget above 0")
        counts = (self.batch_size, self.accumulate, self.keep, self.log_every)
        if min(counts) < 1 or (self.save_every is not None and self.save_every < 1):
            raise ConfigError("batch_size, accumulate, keep, log_every and save_every start at 1")
        if self.shift < 0 or self.versions < 0 or self.warmup < 0 or (self.workers or 0) < 0 or self.state_noise < 0:
            raise ConfigError("shift, versions, warmup, workers and state_noise start at 0")
        if not (0 <= self.image_dropout <= 1 and 0 <= self.language_dropout <= 1):
            raise ConfigError("image_dropout and language_dropout are probabilities, 0 to 1")
        if not (0 <= self.ema < 1 and 0 <= self.final_rate <= 1 and self.learning_rate > 0 and self.clip > 0):
            raise ConfigError("training needs ema in [0, 1), final_rate in [0, 1], learning_rate and clip above 0")
        if not 0 <= self.pairs_share < 1:
            raise ConfigError("pairs_share is a part of a step's examples: from 0 to below 1")
        if self.backbone_rate <= 0:
            raise ConfigError("backbone_rate must be above 0; freeze the backbone in the model's config")
