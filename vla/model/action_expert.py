"""The action expert: own weights for each backbone layer, joint attention over the cached prefix and its own tokens.

::

    layer i:   Q ─ own tokens          own tokens: [state | action_1 ... action_h]
               K, V ─ [prefix cache of backbone layer i ; own tokens]

The state sees the prefix and itself, the actions see everything (pi0's blocks). The flow's time enters through adaptive
RMSNorm (pi0.5's way): it scales, shifts and gates each sublayer.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.errors import ConfigError
from vla.model.backbone import Backbone, CacheShape, Prefix
from vla.model.config import ExpertConfig

TIME_PERIODS = (4e-3, 4.0)  # shortest and longest period of the time embedding, as in pi0


class ActionExpert(nn.Module):
    """Predicts the flow's velocity for embedded action tokens.

    Args:
        config: sizes.
        shape: of the backbone's cache.

    Raises:
        ConfigError: the query heads are not a multiple of the cache's heads, or the width is odd.
    """

    def __init__(self, config: ExpertConfig, shape: CacheShape):
        super().__init__()
        heads = config.heads or shape.heads
        if heads % shape.kv_heads or config.width % 2:
            raise ConfigError(f"expert: {heads} query heads for {shape.kv_heads} cached ones, width {config.width}")
        self.width = config.width
        self.time = nn.Sequential(
            nn.Linear(config.width, config.width), nn.SiLU(), nn.Linear(config.width, config.width), nn.SiLU()
        )
        self.layers = nn.ModuleList(_Layer(config, heads, shape) for _ in range(shape.layers))
        self.final = _AdaptiveNorm(config.width, gated=False)

    def forward(
        self,
        tokens: Float[Tensor, "b n w"],
        time: Float[Tensor, "b"],
        prefix: Prefix,
        rotary: tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]],
        allowed: Bool[Tensor, "b 1 n m"],
    ) -> Float[Tensor, "b n w"]:
        """Own tokens after all layers; ``allowed`` and ``rotary`` come from :meth:`attention_plan`."""
        condition = self.time(time_embedding(time, self.width).to(tokens.dtype))
        for layer, keys, values in zip(self.layers, prefix.keys, prefix.values, strict=True):
            tokens = layer(tokens, condition, keys, values, rotary, allowed)
        return self.final(tokens, condition)[0]

    @staticmethod
    def attention_plan(
        backbone: Backbone, prefix: Prefix, valid: Bool[Tensor, "b h"]
    ) -> tuple[tuple[Tensor, Tensor], Bool[Tensor, "b 1 n m"]]:
        """Rotations of the own tokens, which continue the prefix's positions, and who may look at whom.

        Actions that are not valid (the episode had ended) are looked at by nobody but themselves.
        """
        batch, steps = valid.shape
        own = steps + 1
        positions: Int64[Tensor, "b n"] = prefix.lengths[:, None] + torch.arange(own, device=valid.device)
        state = torch.ones(batch, 1, dtype=torch.bool, device=valid.device)
        seen = torch.cat([state, valid], 1)[:, None, :] | torch.eye(own, dtype=torch.bool, device=valid.device)
        seen[:, 0, 1:] = False
        allowed = torch.cat([prefix.mask[:, None, :].expand(-1, own, -1), seen], 2)
        return backbone.rotary(positions), allowed[:, None]


class _Layer(nn.Module):
    def __init__(self, config: ExpertConfig, heads: int, shape: CacheShape):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, shape.kv_heads, shape.head_dim
        self.before_attention = _AdaptiveNorm(config.width)
        self.qkv = nn.Linear(config.width, (heads + 2 * shape.kv_heads) * shape.head_dim, bias=False)
        self.out = nn.Linear(heads * shape.head_dim, config.width, bias=False)
        self.before_mlp = _AdaptiveNorm(config.width)
        self.gate_up = nn.Linear(config.width, 2 * config.mlp, bias=False)
        self.down = nn.Linear(config.mlp, config.width, bias=False)

    def forward(
        self, x: Tensor, condition: Tensor, keys: Tensor, values: Tensor, rotary: tuple[Tensor, Tensor], allowed: Tensor
    ) -> Tensor:
        h, gate = self.before_attention(x, condition)
        x = x + gate * self._attend(h, keys, values, rotary, allowed)
        h, gate = self.before_mlp(x, condition)
        first, second = self.gate_up(h).chunk(2, -1)
        return x + gate * self.down(F.gelu(first, approximate="tanh") * second)

    def _attend(
        self, h: Tensor, keys: Tensor, values: Tensor, rotary: tuple[Tensor, Tensor], allowed: Tensor
    ) -> Tensor:
        batch, own, _ = h.shape
        sizes = [self.heads, self.kv_heads, self.kv_heads]
        q, k, v = self.qkv(h).view(batch, own, -1, self.head_dim).transpose(1, 2).split(sizes, 1)
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        k, v = torch.cat([keys.to(k.dtype), k], 2), torch.cat([values.to(v.dtype), v], 2)
        if self.heads != self.kv_heads:
            k, v = (item.repeat_interleave(self.heads // self.kv_heads, 1) for item in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.out(mixed.transpose(1, 2).reshape(batch, own, -1))


class _AdaptiveNorm(nn.Module):
    """RMSNorm whose scale, shift and gate follow from a condition; a plain RMSNorm with gate 1 before training."""

    def __init__(self, width: int, *, gated: bool = True):
        super().__init__()
        self.gated = gated
        self.modulation = nn.Linear(width, (3 if gated else 2) * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():
            self.modulation.bias[2 * width :] = 1.0

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        scale, shift, *gate = self.modulation(condition)[:, None, :].chunk(3 if self.gated else 2, -1)
        normed = F.rms_norm(x, x.shape[-1:], eps=1e-6)
        return normed * (1 + scale) + shift, gate[0] if gate else None


def time_embedding(time: Float[Tensor, "b"], width: int) -> Float[Tensor, "b w"]:
    """Sines and cosines of the time at periods spaced evenly in their logarithm (pi0's)."""
    shortest, longest = TIME_PERIODS
    fraction = torch.linspace(0, 1, width // 2, device=time.device)
    period = shortest * (longest / shortest) ** fraction
    angle = 2 * math.pi * time.float()[:, None] / period
    return torch.cat([angle.sin(), angle.cos()], -1)


def rotate(x: Float[Tensor, "b k n d"], cos: Float[Tensor, "b n d"], sin: Float[Tensor, "b n d"]) -> Tensor:
    """Rotary position embedding in the half-split layout that Llama and Gemma use."""
    first, second = x.chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    return x * cos[:, None].to(x.dtype) + turned * sin[:, None].to(x.dtype)
