"""Action tokens: every number of every action is one word, the index of its bin (RT-2, OpenVLA).

An embodiment's chunk is written step by step, channel by channel, its own channels only. OpenVLA's bins: 256 edges
from -1 to 1, 255 centres; a number beyond is in the outermost bin.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.model.action_words import ActionWords, choose
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.batch import Batch
from vla.model.config import VlaConfig
from vla.model.head import Chance, real_channels
from vla.model.head_config import TokensConfig
from vla.model.masked import masked_cross_entropy


class TokensHead(nn.Module):
    """See the module's docstring.

    Args:
        config: of the whole model.
        head: of this head.
        backbone: whose words are used.
    """

    slot: Int64[Tensor, "bodies n"]
    place: Int64[Tensor, "bodies n"]
    real: Bool[Tensor, "bodies n"]

    def __init__(self, config: VlaConfig, head: TokensConfig, backbone: Backbone):
        super().__init__()
        self.config, self.horizon, self.action_size = head, config.horizon, config.action_size
        self.words = ActionWords(config, head.words, backbone)
        real = real_channels(config)[:, None].expand(-1, config.horizon, -1).flatten(1)
        # where a word's number is in the padded chunk, and where a number's word is in the sequence
        self.register_buffer("slot", torch.argsort(~real, dim=1, stable=True), persistent=False)
        self.register_buffer("place", torch.argsort(self.slot, 1), persistent=False)
        self.register_buffer("real", real, persistent=False)

    def loss(self, backbone: Backbone, prefix: Prefix, batch: Batch, chance: Chance) -> Float[Tensor, ""]:
        """Cross-entropy of the words; nothing is drawn."""
        body = batch.inputs.embodiment
        slot = self.slot[body]
        words = to_bins(batch.actions, self.config.edges).flatten(1).gather(1, slot)
        known = batch.valid[..., None].expand_as(batch.actions).flatten(1)
        real = self.real[body].gather(1, slot)
        logits = self.words.logits(backbone, prefix, batch.inputs, words, real)
        return masked_cross_entropy(logits, words, real & known.gather(1, slot))

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
        """Word after word, the backbone once for each."""
        heat = self.config.temperature if temperature is None else temperature
        body = inputs.embodiment
        left = int(self.real[body].sum(1).max())

        def pick(logits: Float[Tensor, "b v"]) -> Int64[Tensor, "b"] | None:
            nonlocal left
            left -= 1
            return choose(logits, heat, chance.generator) if left >= 0 else None

        words = self.words.write(backbone, prefix, inputs, pick)
        numbers = nn.functional.pad(from_bins(words, self.config.edges), (0, self.slot.shape[1] - words.shape[1]))
        numbers = torch.where(self.real[body], numbers.gather(1, self.place[body]), 0.0)
        return numbers.unflatten(1, (self.horizon, self.action_size)).to(inputs.state.dtype)


def to_bins(values: Float[Tensor, "*n"], edges: int) -> Int64[Tensor, "*n"]:
    """Index of the bin, 0 to ``edges - 2``, between evenly spaced edges from -1 to 1."""
    inner = torch.linspace(-1, 1, edges, dtype=torch.float64, device=values.device)[1:-1]
    return torch.bucketize(values.double().contiguous(), inner, right=True)


def from_bins(bins: Int64[Tensor, "*n"], edges: int) -> Float[Tensor, "*n"]:
    """Centre of each bin."""
    return (2 * bins + 1) / (edges - 1) - 1.0
