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
        batch_size: observations for each step.
        learning_rate: highest, after warm-up.
        warmup: steps of linear warm-up.
        final_rate: fraction of the highest that the cosine ends at.
        weight_decay: of matrices; vectors and scalars have none.
        betas: of AdamW.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights, reached gradually.
        seed: everything random is a function of it and of the step.
        order: names the order of the source's windows; a run goes on only with the order that it began with.
        shift: pictures are shifted at random by up to this many pixels (of the model's size), edges repeated.
        versions: how many shifted versions of each picture frozen features are computed for, beside the original.
        state_noise: standard deviation of noise on the normalised state.
        image_dropout: probability that a camera of an example is hidden in training.
        language_dropout: probability that an example's instruction is.
        save_every: steps between checkpoints; None for one every five minutes.
        keep: newest checkpoints kept.
        log_every: steps between logged lines.
        workers: processes that decode pictures, where features are not cached; 0 for threads of this one.
        threads: of torch; None for its own choice.
        device: ``auto`` takes a GPU if there is one.
        precision: of the forward pass; ``bf16`` through autocast.
    """

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 64
    learning_rate: float = 7e-4
    warmup: int = 100
    final_rate: float = 0.02
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    order: str | None = None
    shift: int = 4
    versions: int = 1
    state_noise: float = 0.02
    image_dropout: float = 0.0
    language_dropout: float = 0.0
    save_every: int | None = None
    keep: int = 2
    log_every: int = 1
    workers: int = 0
    threads: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self):
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("training needs either steps or minutes, and not both")
        if (self.steps is not None and self.steps < 1) or (self.minutes is not None and self.minutes <= 0):
            raise ConfigError("training needs a budget above 0")
        if self.batch_size < 1 or self.keep < 1 or self.log_every < 1 or (self.save_every or 1) < 1:
            raise ConfigError("batch_size, keep, log_every and save_every start at 1")
        if self.shift < 0 or self.versions < 0 or self.warmup < 0 or self.workers < 0 or self.state_noise < 0:
            raise ConfigError("shift, versions, warmup, workers and state_noise start at 0")
        if not (0 <= self.image_dropout <= 1 and 0 <= self.language_dropout <= 1):
            raise ConfigError("image_dropout and language_dropout are probabilities, 0 to 1")
        if not (0 <= self.ema < 1 and 0 <= self.final_rate <= 1 and self.learning_rate > 0 and self.clip > 0):
            raise ConfigError("training needs ema in [0, 1), final_rate in [0, 1], learning_rate and clip above 0")
