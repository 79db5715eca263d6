"""A backbone for two CPU cores: frozen ImageNet maps, keypoints chosen by the instruction, a small Llama trunk.

::

    picture ─ EfficientNet (frozen) ─ 1x1 ─ FiLM ─ 1x1 ─ FiLM ─ spatial softmax ─▶ tokens of this camera ─┐
    instruction ─ sentence encoder ─▶ FiLM of every camera, and one token ─────────────────────────────────┤
                                                                              LlamaModel, use_cache=True ◀─┘

Keypoints (Levine et al. 2016) are where a map's softmax has its mean: a position in the picture, which is what an arm
needs. FiLM (Perez et al. 2018) lets the words choose what to look for. The trunk is a stock ``transformers`` Llama,
so the action expert meets the same KV cache as with a large backbone.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from vla.model.backbone import Inputs, Prefix
from vla.model.config import NanoConfig
from vla.model.decoder import run_decoder
from vla.model.efficientnet import COARSE, FINE, EfficientNetFeatures
from vla.model.trunk_backbone import TrunkBackbone

_LLAMA_CONFIG: Any = LlamaConfig  # makes its fields at run time, where no type checker sees them


class NanoBackbone(TrunkBackbone):
    """See the module's docstring.

    Args:
        config: sizes.
        cameras: how many camera slots there are; each has its own keypoints.
        pretrained: ImageNet weights for the frozen part; False leaves them random, for weights loaded later.
        action_words: rows of the word table behind the tokenizer's, for heads that write actions as words.
    """

    def __init__(self, config: NanoConfig, cameras: int, *, pretrained: bool = True, action_words: int = 0):
        super().__init__()
        self.image_size = config.image_size
        self.vision = EfficientNetFeatures(pretrained=pretrained)
        self.trunk = LlamaModel(
            _LLAMA_CONFIG(
                vocab_size=config.vocabulary + action_words,
                hidden_size=config.width,
                intermediate_size=config.mlp,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                attn_implementation="sdpa",
                pad_token_id=0,
            )
        )
        self.sentence = _SentenceEncoder(config)
        self.cameras = nn.ModuleList(_Keypoints(config) for _ in range(cameras))
        self.kinds = nn.Parameter(0.02 * torch.randn(cameras * config.tokens + 1, config.width))

    def prefix(self, inputs: Inputs, state: Float[Tensor, "b n w"] | None = None) -> Prefix:
        """Camera tokens, the instruction's, then the state's through the trunk; the first two see each other."""
        table = self.trunk.embed_tokens
        sentence = self.sentence(inputs.tokens, inputs.token_mask, table)
        maps = self.maps(inputs)
        parts = [camera(maps[0][:, place], maps[1][:, place], sentence) for place, camera in enumerate(self.cameras)]
        embeddings = torch.cat([*parts, sentence[:, None]], 1) + self.kinds
        batch = len(sentence)
        tokens = embeddings.shape[1] - 1
        seen = inputs.image_mask[:, :, None].expand(-1, -1, tokens // max(1, len(self.cameras))).reshape(batch, tokens)
        mask = torch.cat([seen, torch.ones(batch, 1, dtype=torch.bool, device=seen.device)], 1)
        return run_decoder(self.trunk, embeddings, mask, "bidirectional", state)


class _SentenceEncoder(nn.Module):
    """An instruction as one vector; each distinct sentence of a batch is encoded once."""

    def __init__(self, config: NanoConfig):
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(config.text_length, config.width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width, 4, 2 * config.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.text_layers)
        )
        self.out = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
        )
        self.scale = config.width**0.5

    def forward(
        self, tokens: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"], table: nn.Embedding
    ) -> Float[Tensor, "b w"]:
        both, places = torch.unique(torch.cat([tokens, mask.long()], 1), dim=0, return_inverse=True)
        longest = len(self.places)  # what is padded beyond it only tells sentences apart
        tokens, real = (part[:, :longest] for part in both.chunk(2, 1))
        real = real.bool()
        # Llama's word table starts at 0.02 a number, too little for a sum with nothing else in it
        x = table(tokens) * self.scale + self.places[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~real)
        pooled = (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return F.embedding(places, self.out(pooled))  # a gather whose gradient is summed in a fixed order


class _Keypoints(nn.Module):
    """One camera's maps as a few trunk tokens."""

    grid: Tensor

    def __init__(self, config: NanoConfig):
        super().__init__()
        channels = config.channels
        self.tokens, self.side = config.tokens, config.image_size // 8
        self.fine, self.coarse = nn.Linear(FINE, channels), nn.Linear(COARSE, channels, bias=False)
        self.mix = nn.Linear(channels, channels)
        self.film = nn.Linear(config.width, 4 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        self.points = nn.Linear(channels, config.keypoints, bias=False)
        self.sharpness = nn.Parameter(torch.ones(1))  # FSDP wants no scalars
        self.values = nn.Linear(channels, config.values)
        self.out = nn.Linear(config.keypoints * (2 + config.values), config.tokens * config.width)
        line = torch.linspace(-2, 2, self.side)
        grid = torch.stack([line.repeat(self.side), line.repeat_interleave(self.side)], -1)
        self.register_buffer("grid", grid, persistent=False)

    def forward(
        self, fine: Float[Tensor, "b p 40"], coarse: Float[Tensor, "b q 112"], sentence: Float[Tensor, "b w"]
    ) -> Float[Tensor, "b t w"]:
        half, dtype = self.side // 2, sentence.dtype
        gain_1, shift_1, gain_2, shift_2 = self.film(sentence)[:, None, :].chunk(4, -1)
        # gains go into each example's weights: multiplying the maps would move ten times as much memory
        low = torch.bmm(coarse.to(dtype), self.coarse.weight.t() * (1 + gain_1))
        high = torch.baddbmm(self.fine.bias + shift_1, fine.to(dtype), self.fine.weight.t() * (1 + gain_1))
        # each coarse place is added to the four fine ones it covers
        h = high.unflatten(1, (half, 2, half, 2)) + low.unflatten(1, (half, 1, half, 1))
        h = F.relu(h.flatten(1, 4), inplace=True)
        h = F.relu(torch.baddbmm(self.mix.bias + shift_2, h, self.mix.weight.t() * (1 + gain_2)), inplace=True)
        weights = self.points.weight.expand(len(h), -1, -1)
        attention = torch.softmax(torch.bmm(weights, h.transpose(1, 2)) * self.sharpness.exp(), -1)
        where = attention @ self.grid
        what = attention @ self.values(h)
        return self.out(torch.cat([where.flatten(1), what.flatten(1)], 1)).unflatten(1, (self.tokens, -1))
