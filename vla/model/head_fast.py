"""FAST tokens (pi0-FAST): the backbone writes the words of a chunk's cosine transform; see :mod:`vla.model.fast`.

A sequence ends where it has spelt as many coefficients as the embodiment's chunk has, so no word is needed that says
so. While sampling, words that would spell more are not to choose from; how often the likeliest word was one of those
is counted.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn

from vla.errors import ConfigError
from vla.model.action_words import ActionWords, choose
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.batch import Batch
from vla.model.config import VlaConfig
from vla.model.fast import FastCodec, check_vocabulary
from vla.model.head import Chance
from vla.model.head_config import FastConfig
from vla.model.masked import masked_cross_entropy


class FastHead(nn.Module):
    """See the module's docstring.

    Args:
        config: of the whole model.
        head: of this head.
        backbone: whose words are used.

    Attributes:
        codec: fitted to the data, or read from a checkpoint; None until then.
        overruns: chunks sampled so far in which the likeliest word once spelt more than there was room for.

    Raises:
        ConfigError: the vocabulary is too small for the horizon and the scale, or for the backbone.
    """

    def __init__(self, config: VlaConfig, head: FastConfig, backbone: Backbone):
        super().__init__()
        check_vocabulary(config.horizon, head.scale, head.vocabulary)
        self.config, self.horizon, self.action_size = head, config.horizon, config.action_size
        self.channels = [body.action for body in config.bodies]
        self.words = ActionWords(config, head.words, backbone)
        self.codec: FastCodec | None = None
        self.overruns = 0

    def loss(self, backbone: Backbone, prefix: Prefix, batch: Batch, chance: Chance) -> Float[Tensor, ""]:
        """Cross-entropy of the words; nothing is drawn."""
        words, mask = self._encode(batch)
        logits = self.words.logits(backbone, prefix, batch.inputs, words, mask)
        return masked_cross_entropy(logits, words, mask)

    def sample(
        self,
        backbone: Backbone,
        prefix: Prefix,
        inputs: Inputs,
        chance: Chance,
        *,
        steps: int | None = None,
        temperature: float | None = None,
    ) -> Float[Tensor, "b h a"]:
        """Word after word, the backbone once for each, until each chunk is spelt."""
        codec, device = self.fitted, inputs.state.device
        heat = self.config.temperature if temperature is None else temperature
        channels = [self.channels[body] for body in inputs.embodiment.tolist()]
        lengths = torch.zeros(self.words.count, dtype=torch.int64, device=device)
        lengths[: len(codec.lengths)] = torch.from_numpy(codec.lengths)  # words that the data did not fill have 0
        room = self.horizon * torch.tensor(channels, device=device)
        spelt = torch.zeros_like(room)
        overrun = torch.zeros_like(room, dtype=torch.bool)

        def pick(logits: Float[Tensor, "b v"]) -> Int64[Tensor, "b"] | None:
            nonlocal room, spelt, overrun
            writing = room > 0
            if not bool(writing.any()):
                return None
            logits = logits.masked_fill(lengths == 0, -torch.inf)
            overrun = overrun | (writing & (lengths[logits.argmax(-1)] > room))
            fits = (lengths <= room[:, None]) | ~writing[:, None]  # whoever is done writes what nobody reads
            word = choose(logits.masked_fill(~fits, -torch.inf), heat, chance.generator)
            room, spelt = room - torch.where(writing, lengths[word], 0), spelt + writing
            return word

        words = self.words.write(backbone, prefix, inputs, pick)
        self.overruns += int(overrun.sum())
        actions = torch.zeros(len(channels), self.horizon, self.action_size)
        for row, (word, count, own) in enumerate(zip(words.tolist(), spelt.tolist(), channels, strict=True)):
            actions[row, :, :own] = torch.from_numpy(codec.decode(word[:count], own))
        return actions.to(device, inputs.state.dtype)

    def _encode(self, batch: Batch) -> tuple[Int64[Tensor, "b n"], Bool[Tensor, "b n"]]:
        actions = batch.actions.float().cpu().numpy()
        valid = batch.valid.cpu().numpy()
        channels = [self.channels[body] for body in batch.inputs.embodiment.tolist()]
        chunks = [held(row[:, :own], real) for row, own, real in zip(actions, channels, valid, strict=True)]
        rows = self.fitted.encode(chunks)
        words = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        mask = torch.zeros(words.shape, dtype=torch.bool)
        for place, (row, real) in enumerate(zip(rows, valid, strict=True)):
            words[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = bool(real.any())
        return words.to(batch.actions.device), mask.to(batch.actions.device)

    @property
    def fitted(self) -> FastCodec:
        """The codec.

        Raises:
            ConfigError: there is none yet.
        """
        if self.codec is None:
            raise ConfigError("the FAST head's words are not fitted yet: train it, or read a checkpoint")
        return self.codec


def held(chunk: Float32[np.ndarray, "h a"], valid: Bool[np.ndarray, "h"]) -> Float32[np.ndarray, "h a"]:
    """The chunk with the last valid action before each step that is past the episode's end, or zeros if none is.

    A transform over time needs every step; holding still adds no frequency that the chunk does not have.
    """
    if valid.all():
        return chunk
    if not valid.any():
        return np.zeros_like(chunk)
    places = np.where(valid, np.arange(len(valid)), -1)
    last = np.maximum.accumulate(places)
    return chunk[np.where(last < 0, int(np.argmax(valid)), last)]
