"""Batches by number: a number gives the same batch whatever came before, so resuming is starting at a number.

What is random about an example follows from its place in the order: it is the same in any batch, on any rank.

Where features are cached, batches are made of what is in memory and need no help. Otherwise grain makes them ahead;
:mod:`vla.training.read_ahead` says why grain and not torch's loader.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vla.model.backbone import Inputs
from vla.model.batch import Batch
from vla.model.encode import Encoder
from vla.model.noise import ExampleNoise, integers, normal
from vla.protocols import WindowSource
from vla.training.chance import number as chance_number
from vla.training.config import TrainConfig
from vla.training.examples import ExampleReader
from vla.training.features import FeatureStore
from vla.training.read_ahead import read_ahead
from vla.training.shard import Shard
from vla.training.windows import Windows


class Loader(Protocol):
    """Where batches come from."""

    def batches(self, start: int) -> Iterator[Batch]:
        """Batches ``start``, ``start + 1`` and so on of this process's shard, without end."""
        ...


class CachedLoader:
    """Batches of windows whose frozen features are in a store, in the source's own order.

    Args:
        source: tells which place each index leads to.
        windows: read from the source.
        store: holds their features.
        encoder: of the model.
        config: seed and augmentation.
        shard: which examples each batch holds.
    """

    def __init__(
        self,
        source: WindowSource,
        windows: Windows,
        store: FeatureStore,
        encoder: Encoder,
        config: TrainConfig,
        shard: Shard,
    ):
        self.source, self.windows, self.store, self.config, self.shard = source, windows, store, config, shard
        self.body = np.array([encoder.index(name) for name in windows.embodiment])
        pairs = list(zip(self.body.tolist(), windows.state, windows.actions, strict=True))
        self.state = np.stack([encoder.state(place, state) for place, state, _ in pairs])
        self.actions = np.stack([encoder.actions(place, actions) for place, _, actions in pairs])
        self.tokens, self.token_mask = encoder.text.encode(windows.sentences)
        self.state_mask = _state_mask(encoder)

    def batches(self, start: int) -> Iterator[Batch]:
        """See :class:`Loader`."""
        return map(self.batch, _count(start))

    def batch(self, number: int) -> Batch:
        """The batch of one number."""
        indices = self.shard.places(number)
        chosen = np.array([self.windows.number[self.source.place(index)] for index in indices])
        rows = self.windows.rows[chosen]
        present = rows >= 0
        chance = ExampleNoise(chance_number(self.config.seed, "augment"), indices)
        version = integers(self.store.versions + 1, rows.shape, chance).numpy()
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
            _noisy(state, self.state_mask[body], self.config, indices),
            body,
        )
        actions, valid = torch.from_numpy(self.actions[chosen]), torch.from_numpy(self.windows.valid[chosen])
        return Batch(inputs, actions, valid)


class LiveLoader:
    """Batches decoded from the source as they are needed, in its own order; pictures are shifted anew each time.

    Args:
        source: of the windows.
        encoder: of the model.
        config: seed and augmentation.
        shard: which examples each batch holds.
        workers: processes that decode; 0 for threads of this one.
    """

    def __init__(self, source: WindowSource, encoder: Encoder, config: TrainConfig, shard: Shard, workers: int = 0):
        self.examples = ExampleReader(source, encoder.without_words(), config, shard)
        self.encoder, self.config, self.shard, self.workers = encoder, config, shard, workers
        self.state_mask = _state_mask(encoder)

    def batches(self, start: int) -> Iterator[Batch]:
        """See :class:`Loader`."""
        examples = read_ahead(self.examples, start, workers=self.workers)
        for number, made in zip(_count(start), examples, strict=False):
            tokens, mask = self.encoder.words(made.sentences, made.body.tolist(), made.state)
            arrays = (made.images, made.present, made.state, made.actions, made.valid, made.body)
            images, present, state, actions, valid, body = (torch.from_numpy(array) for array in arrays)
            state = _noisy(state, self.state_mask[body], self.config, self.shard.places(number))
            yield Batch(Inputs(images, None, present, tokens, mask, state, body), actions, valid)


def _count(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1


def _state_mask(encoder: Encoder) -> Tensor:
    mask = torch.zeros(len(encoder.config.bodies), encoder.config.state_size)
    for place, body in enumerate(encoder.config.bodies):
        mask[place, : body.state] = 1.0
    return mask


def _noisy(state: Tensor, mask: Tensor, config: TrainConfig, indices: range) -> Tensor:
    """A little noise keeps a policy from reading its place in the episode off the state's last digits."""
    noise = normal(state.shape, ExampleNoise(chance_number(config.seed, "state"), indices))
    return state + config.state_noise * noise * mask
