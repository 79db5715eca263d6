"""A trained vision-language-action model as a policy: raw units in, raw units out, three ways to be asked.

::

    act              Observation ─ encode ─▶ Inputs ─ model.sample ─ decode ─▶ ActionChunk
    act_continuing   the same, pulled to what is still planned (:mod:`vla.model.inpainting`; flows only)
    act_many         several episodes' observations as one batch, of a size and shape that do not depend on them

What is drawn at random follows from the episode's seed and the number of the chunk in it, in all three.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch.nn import functional

from vla.asynchronous import prefix_weights
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk, Observation
from vla.model.backbone import Inputs
from vla.model.checkpoint import Checkpoint, fingerprint, load
from vla.model.config import HfConfig, VlaConfig
from vla.model.flow_sampler import FlowSampler
from vla.model.fused_prefix import fusible
from vla.model.head_config import L1Config
from vla.model.inpainting import continue_chunk
from vla.model.noise import normal
from vla.protocols import Query

BLANK = 127  # grey, the mean that pictures are normalised with
Precision = Literal["fp32", "bf16"]
NOISE_FIRST = ("flow", "diffusion", "l1")
"""Heads that draw all their noise before they begin, if any, so that each row of a batch can be given its own."""


class VlaPolicy:
    """Samples chunks from a checkpoint's model; its noise follows from the seed and the number of chunks since reset.

    Args:
        checkpoint: the model and its border.
        embodiment: which of the checkpoint's embodiments to be; None if it has one only.
        ode_steps: of the flow's or the diffusion's solver; the model's own number if None.
        temperature: scale of what is drawn: the noise that a flow starts from, or how far tokens stray from the
            likeliest one; the model's own if None.
        blank_images: show grey instead of pictures, to measure whether they matter.
        device: of the model: ``cpu``, ``cuda``, or one of several GPUs by its number (``cuda:1``).
        precision: of its weights and products; None for ``bf16`` where a Hugging Face backbone runs on a GPU, else
            ``fp32``.

    Raises:
        ConfigError: the checkpoint has several embodiments and none was named, the model cannot run in bf16, or there
            is no such device.
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
        precision: Precision | None = None,
    ):
        names = [spec.name for spec in checkpoint.encoder.specs]
        if embodiment is None and len(names) > 1:
            raise ConfigError(f"the checkpoint knows {', '.join(names)}; name one of them as the embodiment")
        kind, self.encoder = _kind(device), checkpoint.encoder
        self.model = checkpoint.model.to(device).eval()
        self.body = self.encoder.index(embodiment or names[0])
        self.ode_steps, self.temperature, self.blank_images, self.device = ode_steps, temperature, blank_images, device
        dtype = _dtype(self.model.config, kind, precision)
        faster = kind == "cuda" or dtype == torch.bfloat16 or fusible(self.model.backbone)
        flow = self.model.config.head.kind == "flow"
        self._sampler = FlowSampler(self.model, device, dtype) if flow and faster else None
        self._autocast = torch.autocast(kind, dtype, enabled=dtype == torch.bfloat16)
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
        inputs, generator = self._next(observation)
        return self._chunk(self._sample(inputs, generator)[0], observation)

    @property
    def continues(self) -> bool:
        """Whether chunks can go on from a plan: if they come from a flow."""
        return self.model.config.head.kind == "flow"

    def act_continuing(self, observation: Observation, left: Float32[np.ndarray, "k a"], delay: int) -> ActionChunk:
        """A chunk that goes on from what is planned; see :class:`~vla.asynchronous.ContinuingPolicy`.

        Raises:
            PolicyFault: as :meth:`act`.
            ConfigError: the model's head is no flow.
        """
        inputs, generator = self._next(observation)
        config = self.model.config
        noise = self._noise(generator)
        count = min(len(left), config.horizon)
        planned = torch.zeros_like(noise)
        planned[0, :count] = torch.from_numpy(self.encoder.actions(self.body, left[:count]))
        weights = torch.from_numpy(prefix_weights(config.horizon, delay, count))
        with self._autocast:
            actions = continue_chunk(
                self.model,
                inputs.to(self.device),
                planned.to(self.device),
                weights.to(self.device),
                noise=noise.to(self.device),
                steps=self.ode_steps,
            )
        return self._chunk(actions[0].float().cpu().numpy(), observation)

    def act_many(self, queries: Sequence[Query], size: int) -> list[ActionChunk | PolicyFault]:
        """A chunk for each query, or what is wrong with it; see :class:`~vla.protocols.BatchPolicy`.

        Heads that draw while they go along (words with a temperature) are asked one after the other.

        Raises:
            ConfigError: there are more queries than ``size``, or an instruction is longer than the model can take.
        """
        if len(queries) > size:
            raise ConfigError(f"{len(queries)} observations do not fit into a batch of {size}")
        found: dict[int, ActionChunk | PolicyFault] = {}
        rows: dict[int, Inputs] = {}
        for place, query in enumerate(queries):
            try:
                rows[place] = self._inputs(query.observation)
            except PolicyFault as fault:
                found[place] = fault
        if self.model.config.head.kind in NOISE_FIRST:
            sampled = self._together([queries[place] for place in rows], list(rows.values()), size)
        else:
            sampled = [
                self._sample(inputs, _generator(queries[place].seed, queries[place].number))[0]
                for place, inputs in rows.items()
            ]
        for place, actions in zip(rows, sampled, strict=True):
            try:
                found[place] = self._chunk(actions, queries[place].observation)
            except PolicyFault as fault:
                found[place] = fault
        return [found[place] for place in range(len(queries))]

    def _together(self, queries: Sequence[Query], rows: Sequence[Inputs], size: int) -> list[np.ndarray]:
        """Normalised chunks of all rows from one batch, filled up to ``size`` with copies of the first."""
        if not rows:
            return []
        noise = torch.cat([self._noise(_generator(query.seed, query.number)) for query in queries])
        noise = functional.pad(noise, (0, 0, 0, 0, 0, size - len(rows)))
        inputs = self._stacked([*rows, *[rows[0]] * (size - len(rows))])
        return list(self._sample(inputs, noise=noise.to(self.device))[: len(rows)])

    def _stacked(self, rows: Sequence[Inputs]) -> Inputs:
        """One batch. Its shapes do not depend on what is asked, because a sum's rounding depends on shapes.

        So instructions are padded to one more than the model's full length, and the last place, which is masked,
        numbers the rows: a model that encodes equal instructions once always meets as many as there are rows.
        """
        width = self.encoder.text.length + 1
        tokens = torch.cat([functional.pad(row.tokens, (0, width - row.tokens.shape[1])) for row in rows])
        tokens[:, -1] = torch.arange(len(rows)) % self.encoder.text.size
        return Inputs(
            torch.cat([row.images for row in rows if row.images is not None]),
            None,
            torch.cat([row.image_mask for row in rows]),
            tokens,
            torch.cat([functional.pad(row.token_mask, (0, width - row.token_mask.shape[1])) for row in rows]),
            torch.cat([row.state for row in rows]),
            torch.cat([row.embodiment for row in rows]),
        )

    def _noise(self, generator: torch.Generator) -> Float[torch.Tensor, "1 h a"]:
        """What the head of ``NOISE_FIRST`` begins with."""
        config = self.model.config
        own = 0.0 if isinstance(config.head, L1Config) else config.head.temperature
        scale = own if self.temperature is None else self.temperature
        return scale * normal((1, config.horizon, config.action_size), generator)

    def _next(self, observation: Observation) -> tuple[Inputs, torch.Generator]:
        """The inputs of the episode's next chunk, and what it draws from."""
        inputs = self._inputs(replace(observation, instruction=observation.instruction or self._instruction))
        self._chunks += 1
        return inputs, _generator(self._seed, self._chunks - 1)

    def _inputs(self, observation: Observation) -> Inputs:
        self._check(observation)
        if self.blank_images:
            blank = {name: np.full_like(image, BLANK) for name, image in observation.images.items()}
            observation = replace(observation, images=blank)
        return self.encoder.inputs(self.body, observation)

    def _sample(
        self, inputs: Inputs, generator: torch.Generator | None = None, noise: torch.Tensor | None = None
    ) -> Float32[np.ndarray, "b h a"]:
        if self._sampler is not None:
            noise = self._noise(generator or torch.default_generator) if noise is None else noise
            actions = self._sampler(inputs, noise, self.ode_steps)
        else:
            actions = self.model.sample(
                inputs.to(self.device), self.ode_steps, generator, noise, temperature=self.temperature
            )
        return actions.float().cpu().numpy()

    def _chunk(self, actions: Float32[np.ndarray, "h a"], observation: Observation) -> ActionChunk:
        return ActionChunk(self.encoder.decode(self.body, actions), observation.time, 1 / self.spec.action.rate)

    def _check(self, observation: Observation) -> None:
        absent = [name for name in self.encoder.numbers[self.body].cameras if name and name not in observation.images]
        if absent:
            raise PolicyFault(f"the observation has no picture of {', '.join(absent)}")
        if observation.state.shape != (len(self.spec.state),):
            raise PolicyFault(f"the state has shape {observation.state.shape}; expected ({len(self.spec.state)},)")


def _kind(device: str) -> str:
    """``cpu`` or ``cuda``, whichever one of these it is."""
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or not (device == kind or number.isdecimal()):
        raise ConfigError(f"device {device!r}: expected cpu, cuda, or a GPU by its number (cuda:1)")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {device!r} was asked for; torch finds {torch.cuda.device_count()} GPUs")
    return kind


def _dtype(config: VlaConfig, kind: str, precision: Precision | None) -> torch.dtype:
    """Of the model's weights."""
    able = isinstance(config.backbone, HfConfig) and config.head.kind == "flow"
    if precision == "bf16" and not able:
        raise ConfigError("bf16 is for flows with a Hugging Face backbone; this model runs in fp32")
    half = precision == "bf16" or (precision is None and able and kind == "cuda")
    return torch.bfloat16 if half else torch.float32


def _generator(seed: int, number: int) -> torch.Generator:
    """Of whatever is drawn for the chunk ``number`` of an episode; on the CPU, so that devices agree."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))


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
        device: ``cpu``, ``cuda``, or a GPU by its number (``cuda:1``).
        precision: ``bf16`` or ``fp32``; if not given, bf16 for a flow with a Hugging Face backbone on a GPU, else fp32.
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
    precision: Precision | None = None

    def make(self) -> VlaPolicy:
        """Read the checkpoint.

        Raises:
            DataError: it is missing or damaged.
            StatisticsMissing: a channel has no statistics.
            ConfigError: a setting is out of its range, the embodiment has to be named, or there is no such device.
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
            precision=self.precision,
        )


def fresh(checkpoint: Checkpoint, seed: int = 0) -> Checkpoint:
    """The checkpoint's network before training: new weights, pretrained ones where its config asks for them."""
    from vla.model.vla_model import build

    architecture = checkpoint.model.backbone.architecture()
    model = build(checkpoint.model.config, architecture=architecture, seed=seed).eval()
    model.spell_as(checkpoint.model)  # the words are the data's, not the training's
    return replace(checkpoint, model=model)
