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
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from vla.model.backbone import Backbone, CacheShape, Inputs, Prefix
from vla.model.config import NanoConfig
from vla.model.decoder import continue_decoder, run_decoder
from vla.model.efficientnet import COARSE, FINE, EfficientNetFeatures

_LLAMA_CONFIG: Any = LlamaConfig  # makes its fields at run time, where no type checker sees them


class NanoBackbone(Backbone):
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
        self.trunk: Any = LlamaModel(
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
        head_dim = config.width // config.heads
        self._shape = CacheShape(config.layers, config.heads, config.heads, head_dim, config.width)

    @property
    def shape(self) -> CacheShape:
        """What the expert must match."""
        return self._shape

    @property
    def layers(self) -> list[nn.Module]:
        """The trunk's."""
        return list(self.trunk.layers)

    @property
    def frozen_vision(self) -> nn.Module:
        """The ImageNet network."""
        return self.vision

    def features(self, images: UInt8[Tensor, "n h w 3"]) -> tuple[Float[Tensor, "n p 40"], Float[Tensor, "n q 112"]]:
        """Maps at strides 8 and 16, flattened row by row; never changes in training."""
        return self.vision(images)

    def prefix(self, inputs: Inputs, state: Float[Tensor, "b n w"] | None = None) -> Prefix:
        """Camera tokens, the instruction's, then the state's through the trunk; the first two see each other."""
        table = self.trunk.embed_tokens
        sentence = self.sentence(inputs.tokens, inputs.token_mask, table)
        maps = inputs.features if inputs.features is not None else self._maps(inputs)
        parts = [camera(maps[0][:, place], maps[1][:, place], sentence) for place, camera in enumerate(self.cameras)]
        embeddings = torch.cat([*parts, sentence[:, None]], 1) + self.kinds
        batch = len(sentence)
        tokens = embeddings.shape[1] - 1
        seen = inputs.image_mask[:, :, None].expand(-1, -1, tokens // max(1, len(self.cameras))).reshape(batch, tokens)
        mask = torch.cat([seen, torch.ones(batch, 1, dtype=torch.bool, device=seen.device)], 1)
        return run_decoder(self.trunk, embeddings, mask, "bidirectional", state)

    def rotary(self, positions: Int64[Tensor, "b n"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """The trunk's own rotations."""
        return self.trunk.rotary_emb(self.kinds, position_ids=positions)

    @property
    def words(self) -> nn.Embedding:
        """The trunk's word table: the tokenizer's words, then those kept for actions."""
        return self.trunk.embed_tokens

    def decode(
        self, prefix: Prefix, embeddings: Float[Tensor, "b n w"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n w"], Prefix]:
        """The trunk, going on from its cache."""
        return continue_decoder(self.trunk, prefix, embeddings, mask)

    def _maps(self, inputs: Inputs) -> tuple[Tensor, ...]:
        assert inputs.images is not None, "inputs need images or features"  # the encoder gives one of the two
        batch, cameras = inputs.images.shape[:2]
        return tuple(maps.unflatten(0, (batch, cameras)) for maps in self.vision(inputs.images.flatten(0, 1)))


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
