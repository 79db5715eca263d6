"""Actions written with the backbone's own words, one after the other, going on from its cache.

::

    prefix ─▶ [state] [word 1] [word 2] ...          each place sees the prefix and what is before it
                 │       │        │
                 ▼       ▼        ▼
              word 1   word 2   word 3               by the word table's rows, as in a language model with tied tables

Words count from the end of the vocabulary (RT-2, OpenVLA): word 0 is its last row.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.errors import ConfigError
from vla.model.action_network import PerBody
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.config import VlaConfig
from vla.model.noise import Noise, uniform

Pick = Callable[[Float[Tensor, "b v"]], Int64[Tensor, "b"] | None]
"""The next words from their logits; None when there is nothing more to write."""


class ActionWords(nn.Module):
    """See the module's docstring.

    Args:
        config: of the whole model.
        count: words.
        backbone: whose words they are.

    Raises:
        ConfigError: its vocabulary is smaller.
    """

    def __init__(self, config: VlaConfig, count: int, backbone: Backbone):
        super().__init__()
        have, width = backbone.words.weight.shape
        if have < count:
            raise ConfigError(f"{count} words are to stand for actions, but the vocabulary has {have} in all")
        self.count = count
        self.state_in = PerBody(len(config.bodies), config.state_size, width)

    def logits(
        self,
        backbone: Backbone,
        prefix: Prefix,
        inputs: Inputs,
        words: Int64[Tensor, "b n"],
        mask: Bool[Tensor, "b n"],
    ) -> Float[Tensor, "b n v"]:
        """Of each word, the ones before it being given; ``mask`` is False on padding behind a sequence's end."""
        before = torch.cat([self._begin(inputs), self._embed(backbone, words[:, :-1])], 1)
        real = torch.cat([torch.ones_like(mask[:, :1]), mask[:, :-1]], 1)
        hidden, _ = backbone.decode(prefix, before, real)
        return self._scores(backbone, hidden)

    def write(self, backbone: Backbone, prefix: Prefix, inputs: Inputs, pick: Pick) -> Int64[Tensor, "b n"]:
        """Words, each picked from the logits that follow from those before it, until ``pick`` has enough."""
        written: list[Tensor] = []
        embedding = self._begin(inputs)
        real = torch.ones(embedding.shape[:2], dtype=torch.bool, device=embedding.device)
        while True:
            hidden, prefix = backbone.decode(prefix, embedding, real)
            word = pick(self._scores(backbone, hidden)[:, -1])
            if word is None:
                return torch.stack(written, 1)
            written.append(word)
            embedding = self._embed(backbone, word[:, None])

    def _begin(self, inputs: Inputs) -> Float[Tensor, "b 1 w"]:
        return self.state_in(inputs.state[:, None], inputs.embodiment)

    def _embed(self, backbone: Backbone, words: Int64[Tensor, "b n"]) -> Float[Tensor, "b n w"]:
        return backbone.words(backbone.words.num_embeddings - 1 - words)

    def _scores(self, backbone: Backbone, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n v"]:
        return hidden @ backbone.words.weight[-self.count :].flip(0).t()


def choose(logits: Float[Tensor, "b v"], temperature: float, generator: Noise = None) -> Int64[Tensor, "b"]:
    """The likeliest word, or one drawn from the softmax of ``logits / temperature`` (by Gumbel's maximum)."""
    if temperature > 0:
        even = uniform(logits.shape, generator).to(logits.device)
        logits = logits.float() / temperature - (-even.clamp_min(1e-20).log()).log()
    return logits.argmax(-1)
