"""Transformer layers as functions of their weights, with few and large products: what sampling at full speed runs.

::

    x ─────────────┬──────────── + ─┬──────────────── + ──▶ x      the sums stay in float32
    h ─▶ Q K V ─▶ attention ─▶ out ─┘ └▶ norm ─▶ mlp ─┘ └▶ next norm ─▶ h

A layer takes the sum so far and its norm, and hands on both, so that each addition is fused with the norm behind it.
Without state of their own, the same function serves every layer of a stack: :func:`fused` compiles it once on a GPU.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vla.model.action_expert import gelu
from vla.model.cpu_products import fast, gated


class Norm(NamedTuple):
    """RMSNorm with whatever its scale, shift and the gate of what follows are now; all of float32."""

    epsilon: float
    scale: Float[Tensor, "*b w"]
    shift: Float[Tensor, "*b w"] | None = None
    gate: Float[Tensor, "*b w"] | None = None


class GatedLayer(NamedTuple):
    """Weights of a layer of Gemma's kind.

    Attributes:
        projection: queries, then keys and values of a joint layer, in one matrix.
        out: of the attention.
        gate_up: of the feed-forward part, both in one matrix.
        down: likewise.
        activation: between them.
    """

    projection: Float[Tensor, "q w"]
    out: Float[Tensor, "w hd"]
    gate_up: Float[Tensor, "2*f w"]
    down: Float[Tensor, "w f"]
    activation: Callable[[Tensor], Tensor]


class VisionLayer(NamedTuple):
    """Weights of a layer of SigLIP's kind, each with its bias; queries, keys and values in one matrix."""

    heads: int
    projection: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm: tuple[Tensor, Tensor, float]
    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    activation: Callable[[Tensor], Tensor]


def normed(x: Float[Tensor, "b n w"], norm: Norm, dtype: torch.dtype) -> Float[Tensor, "b n w"]:
    """The norm of a sum, in the products' type."""
    inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.epsilon)
    scaled = x * inverse * norm.scale
    return (scaled if norm.shift is None else scaled + norm.shift).to(dtype)


def prefix_layer(
    x: Float[Tensor, "b p w"],
    h: Float[Tensor, "b p w"],
    layer: GatedLayer,
    norm: Norm,
    following: Norm,
    cos: Float[Tensor, "b p 1 d"],
    sin: Float[Tensor, "b p 1 d"],
    allowed: Float[Tensor, "b 1 p p"],
    kv_heads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A layer of a decoder over its prefix.

    Returns:
        the sum behind it, its norm for the next layer, and the layer's keys and values (b k p d).
    """
    split = F.linear(h, layer.projection).unflatten(2, (-1, cos.shape[-1]))
    queries = split.shape[2] - 2 * kv_heads
    turned = turn(split[:, :, : queries + kv_heads], cos, sin)
    q, k, v = (
        part.transpose(1, 2) for part in (turned[:, :, :queries], turned[:, :, queries:], split[:, :, -kv_heads:])
    )
    seen = [shared(part, queries // kv_heads) for part in (k, v)]
    mixed = F.scaled_dot_product_attention(q, *seen, attn_mask=allowed)
    x = x + F.linear(mixed.transpose(1, 2).flatten(2), layer.out)
    x = x + _mlp(normed(x, norm, h.dtype), layer)
    return x, normed(x, following, h.dtype), k, v


def prefix_end(
    h: Float[Tensor, "b p w"], projection: Tensor, cos: Tensor, sin: Tensor, kv_heads: int
) -> tuple[Float[Tensor, "b k p d"], Float[Tensor, "b k p d"]]:
    """Keys and values of a decoder's last layer, which is all that anybody looks at there."""
    rows = 2 * kv_heads * cos.shape[-1]
    split = F.linear(h, projection[-rows:]).unflatten(2, (-1, cos.shape[-1]))
    return turn(split[:, :, :kv_heads], cos, sin).transpose(1, 2), split[:, :, kv_heads:].transpose(1, 2)


def expert_layer(
    x: Float[Tensor, "b n w"],
    h: Float[Tensor, "b n w"],
    layer: GatedLayer,
    gate: Float[Tensor, "w"] | None,
    norm: Norm,
    following: Norm,
    cos: Float[Tensor, "b n 1 d"],
    sin: Float[Tensor, "b n 1 d"],
    keys: Float[Tensor, "b k m d"],
    values: Float[Tensor, "b k m d"],
    allowed: Float[Tensor, "b 1 gn m"],
    heads: int,
    own: int | None,
    attention: str,
) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b n w"]]:
    """A layer of an action expert.

    Args:
        x: the sum so far.
        h: its norm.
        layer: weights.
        gate: of the attention's share.
        norm: before the feed-forward part, with its gate.
        following: of the next layer.
        cos: of own places.
        sin: likewise.
        keys: the prefix's, with room for own tokens; it is written to.
        values: likewise.
        allowed: additive; rows are a group's queries, one head after the other.
        heads: of queries.
        own: where own keys and values belong; None in a cross layer, which has none.
        attention: ``sdpa``, or ``matmul`` for two products with a softmax between.

    Returns:
        the sum behind it, and its norm for the next layer.
    """
    batch, count, _ = h.shape
    kv_heads, dim = keys.shape[1], keys.shape[3]
    split = F.linear(h, layer.projection).view(batch, count, -1, dim)
    if own is None:
        q = turn(split, cos, sin)
    else:
        turned = turn(split[:, :, : heads + kv_heads], cos, sin)
        q = turned[:, :, :heads]
        keys[:, :, own : own + count] = turned[:, :, heads:].transpose(1, 2)
        values[:, :, own : own + count] = split[:, :, heads + kv_heads :].transpose(1, 2)
    # heads that share keys and values ask as more queries of one head
    q = q.transpose(1, 2).reshape(batch, kv_heads, -1, dim)
    if attention == "sdpa":
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=allowed)
    else:
        scores = (q @ keys.transpose(2, 3)).float() * dim**-0.5 + allowed
        mixed = scores.softmax(-1).to(values.dtype) @ values
    mixed = mixed.reshape(batch, heads, count, dim).transpose(1, 2).flatten(2)
    x = x + _gated(F.linear(mixed, layer.out), gate)
    x = x + _gated(_mlp(normed(x, norm, h.dtype), layer), norm.gate)
    return x, normed(x, following, h.dtype)


def vision_layer(
    x: Float[Tensor, "n p w"], h: Float[Tensor, "n p w"], layer: VisionLayer, following: tuple[Tensor, Tensor, float]
) -> tuple[Float[Tensor, "n p w"], Float[Tensor, "n p w"]]:
    """A layer of a vision tower: the sum behind it, and its norm for the next layer."""
    split = F.linear(h, *layer.projection).unflatten(2, (3, layer.heads, -1))
    q, k, v = (part.transpose(1, 2) for part in split.unbind(2))
    mixed = F.scaled_dot_product_attention(q, k, v)
    x = x + F.linear(mixed.transpose(1, 2).flatten(2), *layer.out)
    inner = layer.activation(F.linear(layer_normed(x, layer.norm, h.dtype), *layer.first))
    x = x + F.linear(inner, *layer.second)
    return x, layer_normed(x, following, h.dtype)


def layer_normed(x: Float[Tensor, "n p w"], norm: tuple[Tensor, Tensor, float], dtype: torch.dtype) -> Tensor:
    """LayerNorm of a sum, in the products' type."""
    weight, bias, epsilon = norm
    return F.layer_norm(x, x.shape[-1:], weight, bias, epsilon).to(dtype)


def turn(x: Float[Tensor, "b n k d"], cos: Float[Tensor, "b n 1 d"], sin: Float[Tensor, "b n 1 d"]) -> Tensor:
    """As :func:`vla.model.action_expert.rotate`, with places before heads."""
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat([-second, first], -1) * sin).to(x.dtype)


def shared(cached: Float[Tensor, "b k p d"], times: int) -> Float[Tensor, "b h p d"]:
    """Each head for the heads of queries that share it; nothing is copied if there is one."""
    return cached[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)


@cache
def fused(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """The function, compiled where that pays: on a GPU, where each of its small steps would be a launch."""
    return torch.compile(function, dynamic=False) if device == "cuda" else function


def _mlp(h: Tensor, layer: GatedLayer) -> Tensor:
    if fast(h) and layer.activation is gelu:
        return F.linear(gated(h, *layer.gate_up.chunk(2)), layer.down)
    first, second = F.linear(h, layer.gate_up).chunk(2, -1)
    return F.linear(layer.activation(first) * second, layer.down)


def _gated(change: Tensor, gate: Tensor | None) -> Tensor:
    return change if gate is None else gate * change
