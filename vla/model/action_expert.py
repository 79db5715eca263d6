"""The action expert: own weights for each backbone layer, attention over the cached prefix and its own tokens.

::

    joint layer i:   Q ─ own tokens          own tokens: [state | action_1 ... action_h]
                     K, V ─ [prefix cache of backbone layer i ; own tokens]
    cross layer i:   Q ─ own tokens
                     K, V ─ own projections of [prefix cache of backbone layer i]

Who looks at whom is in :mod:`vla.model.attention`. pi0 and pi0.5 have joint layers only; SmolVLA has every second one
cross. The flow's time enters through adaptive RMSNorm (pi0.5), which scales, shifts and gates each part, or through an
MLP into the action tokens (pi0).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.errors import ConfigError
from vla.model.attention import actions_behind
from vla.model.backbone import Backbone, CacheShape, Prefix
from vla.model.config import ExpertConfig

TIME_PERIODS = (4e-3, 4.0)  # shortest and longest period of the time embedding, as in pi0

Rotary = tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]


@dataclass(frozen=True)
class Plan:
    """What an expert makes of a prefix once, for all the steps of a flow that look at it.

    Attributes:
        keys: of each layer: the prefix's, or in a cross layer their projection.
        values: likewise.
        rotary: of own tokens in joint layers, where they continue the prefix's positions.
        cross_rotary: of own tokens in cross layers, where they count from 0.
        allowed: who may look at whom in joint layers: own tokens at the prefix, then at own tokens.
        cross_allowed: likewise in cross layers, at the prefix only.
    """

    keys: tuple[Float[Tensor, "b k p d"], ...]
    values: tuple[Float[Tensor, "b k p d"], ...]
    rotary: Rotary
    cross_rotary: Rotary
    allowed: Bool[Tensor, "b 1 n m"]
    cross_allowed: Bool[Tensor, "b 1 1 p"]


class ActionExpert(nn.Module):
    """Predicts the flow's velocity for embedded action tokens.

    Args:
        config: sizes and pattern.
        shape: of the backbone's cache.

    Raises:
        ConfigError: the query heads are not a multiple of the cache's heads.
    """

    def __init__(self, config: ExpertConfig, shape: CacheShape):
        super().__init__()
        heads = config.heads or shape.heads
        if heads % shape.kv_heads:
            raise ConfigError(f"expert: {heads} query heads are no multiple of the {shape.kv_heads} cached ones")
        self.config, width = config, config.width
        if config.norm == "adaptive":
            self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        else:
            self.time = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(
            _Layer(config, heads, shape, cross=place % config.joint_every != 0) for place in range(shape.layers)
        )
        self.final = _norm(config, gated=False)

    @property
    def state_tokens(self) -> int:
        """Own tokens before the first action."""
        return int(self.config.state == "token")

    def forward(self, tokens: Float[Tensor, "b n w"], time: Float[Tensor, "b"], plan: Plan) -> Float[Tensor, "b n w"]:
        """Own tokens (the state's, if it is one, then the actions') after all layers."""
        tokens, condition = self._enter(tokens, time)
        for layer, keys, values in zip(self.layers, plan.keys, plan.values, strict=True):
            tokens = layer(tokens, condition, keys, values, plan)
        return self.final(tokens, condition)[0]

    def plan(self, backbone: Backbone, prefix: Prefix, valid: Bool[Tensor, "b h"]) -> Plan:
        """See :class:`Plan`; ``valid`` is False past the episode's end."""
        order = torch.arange(self.state_tokens + valid.shape[1], device=valid.device)
        layers: Any = self.layers  # of type _Layer
        cached = [layer.read(*pair) for layer, *pair in zip(layers, prefix.keys, prefix.values, strict=True)]
        keys, values = zip(*cached, strict=True)
        return Plan(
            keys,
            values,
            backbone.rotary(prefix.lengths[:, None] + order),
            backbone.rotary(order[None]),
            actions_behind(prefix.mask, valid, self.state_tokens, causal=self.config.causal)[:, None],
            prefix.mask[:, None, None, :],
        )

    def _enter(self, tokens: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        embedded = time_embedding(time, self.config.width).to(tokens.dtype)
        if self.config.norm == "adaptive":
            return tokens, self.time(embedded)
        state, actions = tokens[:, : self.state_tokens], tokens[:, self.state_tokens :]
        fused = self.time(torch.cat([actions, embedded[:, None].expand_as(actions)], -1))
        return torch.cat([state, fused], 1), None


class _Layer(nn.Module):
    def __init__(self, config: ExpertConfig, heads: int, shape: CacheShape, *, cross: bool):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.cross = heads, shape.kv_heads, shape.head_dim, cross
        self.activation = _ACTIVATIONS[config.activation]
        cached = shape.kv_heads * shape.head_dim
        self.before_attention = _norm(config)
        if cross:
            self.q = nn.Linear(config.width, heads * shape.head_dim, bias=False)
            self.k, self.v = nn.Linear(cached, cached, bias=False), nn.Linear(cached, cached, bias=False)
        else:
            self.qkv = nn.Linear(config.width, heads * shape.head_dim + 2 * cached, bias=False)
        self.out = nn.Linear(heads * shape.head_dim, config.width, bias=False)
        self.before_mlp = _norm(config)
        self.gate_up = nn.Linear(config.width, 2 * config.mlp, bias=False)
        self.down = nn.Linear(config.mlp, config.width, bias=False)

    def read(
        self, keys: Float[Tensor, "b k p d"], values: Float[Tensor, "b k p d"]
    ) -> tuple[Float[Tensor, "b k p d"], Float[Tensor, "b k p d"]]:
        """The cache as this layer attends to it."""
        keys, values = keys.to(self.out.weight.dtype), values.to(self.out.weight.dtype)
        return (_mixed(keys, self.k), _mixed(values, self.v)) if self.cross else (keys, values)

    def forward(self, x: Tensor, condition: Tensor | None, keys: Tensor, values: Tensor, plan: Plan) -> Tensor:
        h, gate = self.before_attention(x, condition)
        x = _gated(x, self._attend(h, keys, values, plan), gate)
        h, gate = self.before_mlp(x, condition)
        first, second = self.gate_up(h).chunk(2, -1)
        return _gated(x, self.down(self.activation(first) * second), gate)

    def _attend(self, h: Tensor, keys: Tensor, values: Tensor, plan: Plan) -> Tensor:
        batch, own, _ = h.shape
        if self.cross:
            q = self.q(h).view(batch, own, -1, self.head_dim).transpose(1, 2)
            q, k, v, allowed = rotate(q, *plan.cross_rotary), keys, values, plan.cross_allowed
        else:
            sizes = [self.heads, self.kv_heads, self.kv_heads]
            q, k, v = self.qkv(h).view(batch, own, -1, self.head_dim).transpose(1, 2).split(sizes, 1)
            q, k = rotate(q, *plan.rotary), rotate(k, *plan.rotary)
            k, v, allowed = torch.cat([keys, k], 2), torch.cat([values, v], 2), plan.allowed
        if self.heads != self.kv_heads:
            k, v = (item.repeat_interleave(self.heads // self.kv_heads, 1) for item in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.out(mixed.transpose(1, 2).reshape(batch, own, -1))


class _AdaptiveNorm(nn.Module):
    """RMSNorm whose scale, shift and gate follow from a condition; a plain RMSNorm with gate 1 before training."""

    def __init__(self, config: ExpertConfig, *, gated: bool):
        super().__init__()
        width = config.width
        self.gated, self.epsilon = gated, config.epsilon
        self.modulation = nn.Linear(width, (3 if gated else 2) * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():
            self.modulation.bias[2 * width :] = 1.0

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        scale, shift, *gate = self.modulation(condition)[:, None, :].chunk(3 if self.gated else 2, -1)
        normed = F.rms_norm(x, x.shape[-1:], eps=self.epsilon)
        return normed * (1 + scale) + shift, gate[0] if gate else None


class _PlainNorm(nn.Module):
    """RMSNorm with the gain that Gemma (1 + w) or Llama (w) stores; no gate, no condition."""

    def __init__(self, config: ExpertConfig):
        super().__init__()
        self.epsilon, self.offset = config.epsilon, float(config.norm == "gemma")
        self.weight = nn.Parameter(torch.full((config.width,), 1.0 - self.offset))

    def forward(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, None]:
        return F.rms_norm(x, x.shape[-1:], self.weight + self.offset, self.epsilon), None


def _norm(config: ExpertConfig, *, gated: bool = True) -> nn.Module:
    return _AdaptiveNorm(config, gated=gated) if config.norm == "adaptive" else _PlainNorm(config)


def _gated(x: Tensor, change: Tensor, gate: Tensor | None) -> Tensor:
    return x + change if gate is None else x + gate * change


def _mixed(cached: Float[Tensor, "b k p d"], projection: nn.Linear) -> Float[Tensor, "b k p d"]:
    """A projection across all cached heads of a place."""
    return projection(cached.transpose(1, 2).flatten(2)).unflatten(2, cached.shape[1::2]).transpose(1, 2)


def gelu(x: Tensor) -> Tensor:
    """In its tanh form."""
    return F.gelu(x, approximate="tanh")


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": gelu, "silu": F.silu}


def time_embedding(time: Float[Tensor, "b"], width: int) -> Float[Tensor, "b w"]:
    """Sines and cosines of the time at periods spaced evenly in their logarithm (pi0's).

    In double precision: at the shortest period the angle reaches 1,600 rad, where a float's step is 1e-4.
    """
    shortest, longest = TIME_PERIODS
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=time.device)
    period = shortest * (longest / shortest) ** fraction
    angle = 2 * math.pi * time.double()[:, None] / period
    return torch.cat([angle.sin(), angle.cos()], -1).float()


def rotate(x: Float[Tensor, "b k n d"], cos: Float[Tensor, "b n d"], sin: Float[Tensor, "b n d"]) -> Tensor:
    """Rotary position embedding in the half-split layout that Llama and Gemma use."""
    first, second = x.chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    return x * cos[:, None].to(x.dtype) + turned * sin[:, None].to(x.dtype)
