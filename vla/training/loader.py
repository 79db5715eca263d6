"""Batches by step number: the same step gives the same batch in every process, so resuming is starting at a step.

Where features are cached, batches are made of what is in memory and need no help. Otherwise grain makes them ahead;
:mod:`vla.training.read_ahead` says why grain and not torch's loader.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vla.model.backbone import Inputs
from vla.model.encode import Encoder
from vla.model.vla_model import Batch
from vla.protocols import WindowSource
from vla.training.augment import shifted
from vla.training.chance import numpy_chance, torch_chance
from vla.training.config import TrainConfig
from vla.training.features import FeatureStore
from vla.training.read_ahead import read_ahead
from vla.training.windows import Windows, check_horizon


class Loader(Protocol):
    """Where batches come from."""

    def batches(self, start: int) -> Iterator[Batch]:
        """The batches of steps ``start``, ``start + 1`` and so on, without end."""
        ...


class CachedLoader:
    """Batches of windows whose frozen features are in a store, in the source's own order.

    Args:
        source: tells which place each index leads to.
        windows: read from the source.
        store: holds their features.
        encoder: of the model.
        config: batch size, seed and augmentation.
    """

    def __init__(
        self, source: WindowSource, windows: Windows, store: FeatureStore, encoder: Encoder, config: TrainConfig
    ):
        self.source, self.windows, self.store, self.config = source, windows, store, config
        self.body = np.array([encoder.index(name) for name in windows.embodiment])
        pairs = list(zip(self.body.tolist(), windows.state, windows.actions, strict=True))
        self.state = np.stack([encoder.state(place, state) for place, state, _ in pairs])
        self.actions = np.stack([encoder.actions(place, actions) for place, _, actions in pairs])
        self.tokens, self.token_mask = encoder.text.encode(windows.sentences)
        self.state_mask = _state_mask(encoder)

    def batches(self, start: int) -> Iterator[Batch]:
        """See :class:`Loader`."""
        step = start
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        size = self.config.batch_size
        places = (self.source.place(index) for index in range(step * size, (step + 1) * size))
        chosen = np.array([self.windows.number[place] for place in places])
        chance = numpy_chance(self.config.seed, step, "augment")
        rows = self.windows.rows[chosen]
        present = rows >= 0
        version = chance.integers(0, self.store.versions + 1, size=rows.shape)
        features = self.store.read(np.maximum(rows, 0), version)
        body = torch.from_numpy(self.body[chosen])
        state = torch.from_numpy(self.state[chosen])
        sentence = torch.from_numpy(self.windows.sentence[chosen])
        inputs = Inputs(
            None,
            features,
            torch.from_numpy(present),
            self.tokens[sentence],
            self.token_mask[sentence],
            _noisy(state, self.state_mask[body], self.config, step),
            body,
        )
        actions, valid = torch.from_numpy(self.actions[chosen]), torch.from_numpy(self.windows.valid[chosen])
        return Batch(inputs, actions, valid)


class LiveLoader:
    """Batches decoded from the source as they are needed, in its own order; pictures are shifted anew each time.

    Args:
        source: of the windows.
        encoder: of the model.
        config: batch size, seed, augmentation and workers.
    """

    def __init__(self, source: WindowSource, encoder: Encoder, config: TrainConfig):
        self.examples, self.encoder, self.config = _Examples(source, encoder, config), encoder, config
        self.state_mask = _state_mask(encoder)

    def batches(self, start: int) -> Iterator[Batch]:
        """See :class:`Loader`."""
        examples = read_ahead(self.examples, start, workers=self.config.workers)
        for step, (sentences, arrays) in zip(_count(start), examples, strict=False):
            tokens, mask = self.encoder.words(sentences, arrays[5].tolist(), arrays[2])
            images, present, state, actions, valid, body = (torch.from_numpy(np.asarray(array)) for array in arrays)
            state = _noisy(state, self.state_mask[body], self.config, step)
            yield Batch(Inputs(images, None, present, tokens, mask, state, body), actions, valid)


@dataclass(frozen=True)
class _Examples:
    """Windows of a step as arrays; called by many threads at once."""

    source: WindowSource
    encoder: Encoder
    config: TrainConfig

    def __call__(self, step: int) -> tuple[list[str], tuple[np.ndarray, ...]]:
        size = self.config.batch_size
        rows = [self._example(index) for index in range(step * size, (step + 1) * size)]
        sentences, arrays = zip(*rows, strict=True)
        return list(sentences), tuple(np.stack(column) for column in zip(*arrays, strict=True))

    def _example(self, index: int) -> tuple[str, tuple[np.ndarray, ...]]:
        window = self.source[index]
        check_horizon(window, self.encoder.config.horizon)
        body = self.encoder.index(window.spec.name)
        images, present = self.encoder.pictures(body, window.observation.images)
        images = shifted(images, self.config.shift, numpy_chance(self.config.seed, index, "shift"))
        state = self.encoder.state(body, window.observation.state)
        actions = self.encoder.actions(body, window.actions)
        return window.observation.instruction, (images, present, state, actions, window.valid, np.array(body))


def _count(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1


def _state_mask(encoder: Encoder) -> Tensor:
    mask = torch.zeros(len(encoder.config.bodies), encoder.config.state_size)
    for place, body in enumerate(encoder.config.bodies):
        mask[place, : body.state] = 1.0
    return mask


def _noisy(state: Tensor, mask: Tensor, config: TrainConfig, step: int) -> Tensor:
    """A little noise keeps a policy from reading its place in the episode off the state's last digits."""
    noise = torch.randn(state.shape, generator=torch_chance(config.seed, step, "state"))
    return state + config.state_noise * noise * mask
