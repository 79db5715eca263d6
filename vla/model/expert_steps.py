"""The action network while sampling: everything that does not change from step to step is made before the first.

A solver asks the same network at known times, looking at the same prefix. So these are computed once:

* the prefix's keys and values, in buffers with room behind them for the own tokens'; query heads that share a head of
  keys and values are asked as more queries of one head, so that nothing is copied for each;
* every norm's scale, shift and gate at every time, one product a layer instead of one a step;
* where the time enters through an MLP (pi0): its first layer's share of the time, and the way in of the actions
  multiplied into the rest of it.

A step then writes into buffers that are there already. The result is the plain path's, to rounding.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vla.model.action_expert import Plan, gelu, time_embedding
from vla.model.attention import additive
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.cpu_products import attention, fast, gated, product
from vla.model.fused_expert import FusedLayers

if TYPE_CHECKING:
    from vla.model.action_network import ActionNetwork


@dataclass(frozen=True)
class _Norm:
    """A norm at every time: ``x / rms * scale + shift``, and the gate of what follows; None where it has none."""

    epsilon: float
    scale: Float[Tensor, "m w"]
    shift: Float[Tensor, "m w"] | None
    gate: Float[Tensor, "m w"] | None


class ExpertSteps:
    """Answers for ``x`` at the place-th of the given times.

    Args:
        network: whose weights are used as they are now.
        backbone: that made the prefix.
        prefix: of the inputs.
        inputs: what is seen.
        times: m of them.
    """

    def __init__(
        self, network: "ActionNetwork", backbone: Backbone, prefix: Prefix, inputs: Inputs, times: Float[Tensor, "m"]
    ):
        expert, batch = network.expert, len(inputs.state)
        self.network, self.body = network, inputs.embodiment
        self.first = expert.state_tokens
        valid = torch.ones(batch, network.horizon, dtype=torch.bool, device=inputs.state.device)
        self.real = network.real[inputs.embodiment][:, None, :]
        plan = expert.plan(backbone, prefix, valid)
        embedded = time_embedding(times, expert.config.width).to(plan.keys[0].dtype)
        adaptive = expert.config.norm == "adaptive"
        condition = expert.time(embedded) if adaptive else None
        own, width = self.first + network.horizon, expert.config.width
        self.x = plan.keys[0].new_empty(batch, own, width)
        state = inputs.state[:, None].to(self.x.dtype)
        self.state = None if network.state_in is None else network.state_in(state, self.body)
        self.time = None if adaptive else _FusedTime(network, embedded, self.body)
        layers = FusedLayers if self.x.is_cuda else _LayersInPlace
        self.layers = layers(expert, plan, condition, own, len(times))

    def __call__(self, x: Float[Tensor, "b h a"], place: int) -> Float[Tensor, "b h a"]:
        """What the plain network answers for ``x`` and ``times[place]``."""
        network, dtype = self.network, x.dtype
        x = x.to(self.x.dtype)
        if not network.noisy_padding:
            x = torch.where(self.real, x, 0.0)
        if self.state is not None:
            self.x[:, : self.first] = self.state
        actions = self.x[:, self.first :]
        if self.time is not None:
            self.time.enter(x, place, actions)
        else:
            actions.copy_(network.action_in(x, self.body))
            if network.places is not None:
                actions.add_(network.places)
        return network.action_out(self.layers(self.x, place)[:, self.first :], self.body).to(dtype)


class _FusedTime:
    """The MLP that takes the time in, for action tokens (pi0): its first layer and the way in are one product."""

    def __init__(self, network: Any, embedded: Float[Tensor, "m w"], body: Tensor):
        first, _, self.last = network.expert.time
        width = embedded.shape[1]
        of_actions, of_time = first.weight[:, :width].t(), first.weight[:, width:].t()
        weight, bias = network.action_in.of(body)
        self.weight = weight @ of_actions
        places = bias if network.places is None else bias + network.places
        self.offsets = (embedded @ of_time + first.bias)[:, None, None] + (places @ of_actions)[None]

    def enter(self, x: Float[Tensor, "b h a"], place: int, out: Float[Tensor, "b h w"]) -> None:
        hidden = F.silu(torch.matmul(x, self.weight).add_(self.offsets[place]), inplace=True)
        out.copy_(self.last(hidden))


class _LayersInPlace:
    """All layers and the last norm, each step into buffers that are there already."""

    def __init__(self, expert: Any, plan: Plan, condition: Tensor | None, own: int, times: int):
        self.layers = [
            _LayerSteps(layer, plan, place, condition, own, times) for place, layer in enumerate(expert.layers)
        ]
        self.final = _norm(expert.final, condition, times)
        self.h = plan.keys[0].new_empty(len(plan.keys[0]), own, expert.config.width)

    def __call__(self, x: Float[Tensor, "b n w"], place: int) -> Float[Tensor, "b n w"]:
        """Changes ``x`` in place."""
        for layer in self.layers:
            layer(x, self.h, place)
        return _normed(x, self.final, place, self.h)


class _LayerSteps:
    """One layer of the expert with room for its own keys and values behind the prefix's."""

    def __init__(self, layer: Any, plan: Plan, place: int, condition: Tensor | None, own: int, times: int):
        self.layer, self.heads, self.kv_heads = layer, layer.heads, layer.kv_heads
        keys, values = plan.keys[place], plan.values[place]
        self.group, self.prefix = layer.heads // layer.kv_heads, keys.shape[2]
        self.keys, self.values = (_room(cached, 0 if layer.cross else own) for cached in (keys, values))
        cos, sin = plan.cross_rotary if layer.cross else plan.rotary
        self.cos, self.sin = (item[:, :, None].to(keys.dtype) for item in (cos, sin))
        allowed = plan.cross_allowed if layer.cross else plan.allowed
        seen = additive(allowed, keys.dtype)
        self.allowed = None if bool(allowed.all()) else seen.repeat(1, 1, self.group if seen.shape[2] > 1 else 1, 1)
        self.before_attention = _norm(layer.before_attention, condition, times)
        self.before_mlp = _norm(layer.before_mlp, condition, times)
        size, dtype, device = len(keys) * own, keys.dtype, keys.device
        rotated = layer.heads if layer.cross else layer.heads + layer.kv_heads
        projection = layer.q if layer.cross else layer.qkv
        self.projected = torch.empty(size, projection.weight.shape[0], dtype=dtype, device=device)
        self.turned = torch.empty(len(keys), own, rotated, layer.head_dim, dtype=dtype, device=device)
        self.change = torch.empty(size, layer.out.weight.shape[0], dtype=dtype, device=device)
        self.opened = torch.empty(size, layer.gate_up.weight.shape[0], dtype=dtype, device=device)
        self.projection = projection.weight

    def __call__(self, x: Float[Tensor, "b n w"], h: Float[Tensor, "b n w"], place: int) -> None:
        """Changes ``x`` in place; ``h`` is room for something of the same shape."""
        layer = self.layer
        _normed(x, self.before_attention, place, h)
        mixed = self._attend(h)
        change = product(mixed.flatten(0, 1), layer.out.weight, self.change)
        _add(x, change.view_as(x), self.before_attention.gate, place)
        _normed(x, self.before_mlp, place, h)
        if fast(h) and layer.activation is gelu:
            opened = gated(h.flatten(0, 1), *layer.gate_up.weight.chunk(2))
        else:
            first, second = product(h.flatten(0, 1), layer.gate_up.weight, self.opened).chunk(2, -1)
            opened = layer.activation(first).mul_(second)
        change = product(opened, layer.down.weight, self.change)
        _add(x, change.view_as(x), self.before_mlp.gate, place)

    def _attend(self, h: Float[Tensor, "b n w"]) -> Float[Tensor, "b n hd"]:
        batch, own, _ = h.shape
        split = product(h.flatten(0, 1), self.projection, self.projected).view(batch, own, -1, self.layer.head_dim)
        rotated = self.turned.shape[2]
        _rotate(split[:, :, :rotated], self.cos, self.sin, self.turned)
        if not self.layer.cross:
            for room, written in ((self.keys, self.turned[:, :, self.heads :]), (self.values, split[:, :, rotated:])):
                room[:, :, self.prefix :] = written.transpose(1, 2)
        q = self.turned[:, :, : self.heads].transpose(1, 2).unflatten(1, (self.kv_heads, self.group)).flatten(2, 3)
        mixed = attention(q, self.keys, self.values, self.allowed)
        return mixed.unflatten(2, (self.group, own)).flatten(1, 2).transpose(1, 2).flatten(2)


def _room(cached: Float[Tensor, "b k p d"], own: int) -> Float[Tensor, "b k q d"]:
    """The cache with ``own`` places behind it."""
    batch, heads, places, size = cached.shape
    room = cached.new_empty(batch, heads, places + own, size)
    room[:, :, :places] = cached
    return room


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """As :func:`vla.model.action_expert.rotate`, with places before heads, into a buffer."""
    half = x.shape[-1] // 2
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])


def _norm(norm: Any, condition: Float[Tensor, "m w"] | None, times: int) -> _Norm:
    if condition is None:
        return _Norm(norm.epsilon, (norm.weight + norm.offset).expand(times, -1), None, None)
    scale, shift, *gate = norm.modulation(condition).chunk(3 if norm.gated else 2, -1)
    return _Norm(norm.epsilon, 1 + scale, shift, gate[0] if gate else None)


def _normed(x: Float[Tensor, "b n w"], norm: _Norm, place: int, out: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
    inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(norm.epsilon).rsqrt_()
    torch.mul(x, inverse, out=out).mul_(norm.scale[place])
    return out if norm.shift is None else out.add_(norm.shift[place])


def _add(x: Tensor, change: Tensor, gate: Float[Tensor, "m w"] | None, place: int) -> None:
    x.add_(change) if gate is None else x.addcmul_(change, gate[place])
