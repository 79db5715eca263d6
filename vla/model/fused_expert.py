"""The action expert's layers while sampling on a GPU; :mod:`vla.model.expert_steps` has those for a CPU.

Each layer is one function of its weights (:func:`vla.model.fused_layers.expert_layer`), compiled once for all of them.
"""

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from vla.model.action_expert import Plan
from vla.model.attention import additive
from vla.model.fused_layers import GatedLayer, Norm, expert_layer, fused, normed

Attention = Literal["sdpa", "matmul"]

ALIGNMENT = 16
"""Places are filled up to a multiple of this, masked: products and attention are fastest on whole tiles."""


class FusedLayers:
    """All layers of an expert and its last norm, for tokens at the place-th of the given times.

    Args:
        expert: whose weights are used as they are now.
        plan: of the prefix.
        condition: of an adaptive norm, at each time; None where norms are plain.
        own: tokens of the expert's own.
        times: m of them.
        attention: see :func:`~vla.model.fused_layers.expert_layer`.
    """

    def __init__(
        self,
        expert: Any,
        plan: Plan,
        condition: Float[Tensor, "m w"] | None,
        own: int,
        times: int,
        attention: Attention = "matmul",
    ):
        self.attention: Attention = attention
        seen = {cross: _spread(plan, own, expert.layers[0], cross=cross) for cross in {x.cross for x in expert.layers}}
        self.layers = [
            _Layer(layer, plan, place, condition, own, times, seen[layer.cross])
            for place, layer in enumerate(expert.layers)
        ]
        self.final = _norms(expert.final, condition, times)

    def __call__(self, x: Float[Tensor, "b n w"], place: int) -> Float[Tensor, "b n w"]:
        """The tokens behind all layers, normalised."""
        step, dtype = fused(expert_layer, x.device.type), x.dtype
        before = [*(layer.before_attention[place] for layer in self.layers), self.final[place]]
        x = x.float()
        h = normed(x, before[0], dtype)
        for at, layer in enumerate(self.layers):
            x, h = step(
                x,
                h,
                layer.weights,
                before[at].gate,
                layer.before_mlp[place],
                Norm(*before[at + 1][:3]),
                layer.cos,
                layer.sin,
                layer.keys,
                layer.values,
                layer.allowed,
                layer.heads,
                layer.own,
                self.attention,
            )
        return h


class _Layer:
    """A layer's weights, its norms at every time, and its keys and values with room for the own tokens'."""

    def __init__(
        self,
        layer: Any,
        plan: Plan,
        place: int,
        condition: Tensor | None,
        own: int,
        times: int,
        allowed: Float[Tensor, "b 1 gn m"],
    ):
        keys, values = plan.keys[place], plan.values[place]
        self.heads, self.own = layer.heads, None if layer.cross else keys.shape[2]
        cos, sin = plan.cross_rotary if layer.cross else plan.rotary
        self.cos, self.sin = (part.float()[:, :, None] for part in (cos, sin))
        more = 0 if layer.cross else own
        self.keys, self.values = (_room(part, more) for part in (keys, values))
        self.allowed = allowed
        projection = layer.q if layer.cross else layer.qkv
        q, out, gate_up, down = (part.weight.detach() for part in (projection, layer.out, layer.gate_up, layer.down))
        self.weights = GatedLayer(q, out, gate_up, down, layer.activation)
        self.before_attention = _norms(layer.before_attention, condition, times)
        self.before_mlp = _norms(layer.before_mlp, condition, times)


def _room(cached: Float[Tensor, "b k p d"], own: int) -> Float[Tensor, "b k m d"]:
    """The cache with ``own`` places behind it, and more up to a whole tile."""
    batch, heads, places, size = cached.shape
    room = cached.new_zeros(batch, heads, _filled(places + own), size)
    room[:, :, :places] = cached
    return room


def _spread(plan: Plan, own: int, layer: Any, *, cross: bool) -> Float[Tensor, "b 1 gn m"]:
    """The mask for a group's queries, one head after the other; nobody looks at what fills a tile up."""
    allowed = (plan.cross_allowed if cross else plan.allowed).expand(-1, -1, own, -1)
    batch, _, _, places = allowed.shape
    whole = allowed.new_zeros(batch, 1, own, _filled(places))
    whole[..., :places] = allowed
    return additive(whole, plan.keys[0].dtype).repeat(1, 1, layer.heads // layer.kv_heads, 1)


def _filled(places: int) -> int:
    return -(-places // ALIGNMENT) * ALIGNMENT


def _norms(norm: Any, condition: Float[Tensor, "m w"] | None, times: int) -> list[Norm]:
    """The norm at every time."""
    if condition is None:
        return [Norm(norm.epsilon, norm.weight.detach().float() + norm.offset)] * times
    scale, shift, *gate = norm.modulation(condition).float().chunk(3 if norm.gated else 2, -1)
    return [Norm(norm.epsilon, 1 + scale[at], shift[at], gate[0][at] if gate else None) for at in range(times)]
