"""A trained vision-language-action model as a policy."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk, Observation
from vla.model.checkpoint import Checkpoint, fingerprint, load

BLANK = 127  # grey, the mean that pictures are normalised with


class VlaPolicy:
    """Samples chunks from a checkpoint's model; its noise follows from the seed and the number of chunks since reset.

    Args:
        checkpoint: the model and its border.
        embodiment: which of the checkpoint's embodiments to be; None if it has one only.
        ode_steps: of the flow's or the diffusion's solver; the model's own number if None.
        temperature: scale of what is drawn: the noise that a flow starts from, or how far tokens stray from the
            likeliest one; the model's own if None.
        blank_images: show grey instead of pictures, to measure whether they matter.
        device: of the model.

    Raises:
        ConfigError: the checkpoint has several embodiments and none was named.
        UnknownName: it does not have that one.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        embodiment: str | None = None,
        *,
        ode_steps: int | None = None,
        temperature: float | None = None,
        blank_images: bool = False,
        device: str = "cpu",
    ):
        names = [spec.name for spec in checkpoint.encoder.specs]
        if embodiment is None and len(names) > 1:
            raise ConfigError(f"the checkpoint knows {', '.join(names)}; name one of them as the embodiment")
        self.encoder = checkpoint.encoder
        self.model = checkpoint.model.to(device).eval()
        self.body = self.encoder.index(embodiment or names[0])
        self.ode_steps, self.temperature, self.blank_images, self.device = ode_steps, temperature, blank_images, device
        self._fingerprint = fingerprint(checkpoint.path)
        self._instruction, self._seed, self._chunks = "", 0, 0

    @property
    def spec(self) -> EmbodimentSpec:
        """What it was trained on."""
        return self.encoder.specs[self.body]

    @property
    def fingerprint(self) -> str:
        """Of the checkpoint's files; results carry it, and are not mixed with those of other weights."""
        return self._fingerprint

    def reset(self, instruction: str, *, seed: int) -> None:
        """Begin an episode; the instruction holds until an observation brings another."""
        self._instruction, self._seed, self._chunks = instruction, seed, 0

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk of the model's whole horizon.

        Raises:
            PolicyFault: a camera is missing, the state has another size, or the model returned NaN.
        """
        self._check(observation)
        images = observation.images
        if self.blank_images:
            images = {name: np.full_like(image, BLANK) for name, image in images.items()}
        seen = replace(observation, images=images, instruction=observation.instruction or self._instruction)
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([self._seed, self._chunks]).generate_state(1)[0])
        )
        self._chunks += 1
        inputs = self.encoder.inputs(self.body, seen).to(self.device)
        sampled = self.model.sample(inputs, self.ode_steps, generator, temperature=self.temperature)
        actions = sampled[0].float().cpu().numpy()
        return ActionChunk(self.encoder.decode(self.body, actions), observation.time, 1 / self.spec.action.rate)

    def _check(self, observation: Observation) -> None:
        absent = [name for name in self.encoder.numbers[self.body].cameras if name and name not in observation.images]
        if absent:
            raise PolicyFault(f"the observation has no picture of {', '.join(absent)}")
        if observation.state.shape != (len(self.spec.state),):
            raise PolicyFault(f"the state has shape {observation.state.shape}; expected ({len(self.spec.state)},)")


@dataclass(frozen=True)
class Config:
    """A policy from a checkpoint.

    Attributes:
        checkpoint: its folder, or a run's, which stands for its newest.
        embodiment: which of its embodiments to be; may be left out if it has one.
        ode_steps: of the solver from noise to action; the model's own number if not given.
        temperature: scale of what is drawn; 1 samples what was learnt, 0 gives one answer only; the model's own if
            not given (1 for a flow or a diffusion, 0 for tokens).
        blank_images: show it grey pictures.
        untrained: the same network with fresh weights, to compare with.
        weights: averaged over training, or the last.
        threads: of torch for the whole process; None leaves them.
        device: ``cpu`` or ``cuda``.
    """

    checkpoint: Path
    embodiment: str | None = None
    ode_steps: int | None = None
    temperature: float | None = None
    blank_images: bool = False
    untrained: bool = False
    weights: str = "ema"
    threads: int | None = None
    device: str = "cpu"

    def make(self) -> VlaPolicy:
        """Read the checkpoint.

        Raises:
            DataError: it is missing or damaged.
            StatisticsMissing: a channel has no statistics.
            ConfigError: a setting is out of its range, or the embodiment has to be named.
        """
        steps = 1 if self.ode_steps is None else self.ode_steps
        if steps < 1 or (self.temperature or 0.0) < 0 or self.weights not in ("ema", "model"):
            raise ConfigError("ode_steps starts at 1, temperature at 0; weights are 'ema' or 'model'")
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        checkpoint = load(self.checkpoint, self.weights)  # pyright: ignore[reportArgumentType]
        if self.untrained:
            checkpoint = fresh(checkpoint)
        return VlaPolicy(
            checkpoint,
            self.embodiment,
            ode_steps=self.ode_steps,
            temperature=self.temperature,
            blank_images=self.blank_images,
            device=self.device,
        )


def fresh(checkpoint: Checkpoint, seed: int = 0) -> Checkpoint:
    """The checkpoint's network before training: new weights, pretrained ones where its config asks for them."""
    from vla.model.vla_model import build

    model = build(checkpoint.model.config, seed=seed).eval()
    if model.fast is not None and checkpoint.model.fast is not None:
        model.fast.codec = checkpoint.model.fast.codec  # the words are the data's, not the training's
    return replace(checkpoint, model=model)
