"""A backbone and an action expert as one policy network: a loss to train it, a sampler to run it.

::

    Inputs ─ backbone.prefix (once) ─▶ Prefix ─┐
    x_t, t, state ─ in ─▶ tokens ─ expert ◀────┴─▶ out ─▶ velocity

Several embodiments share everything but the projections of state and action, which each has of its own; numbers
beyond an embodiment's channels neither enter nor count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.errors import ConfigError
from vla.model.action_expert import ActionExpert
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.config import HfConfig, VlaConfig
from vla.model.flow import integrate, interpolate, masked_mse, sample_time
from vla.model.nano_backbone import NanoBackbone


@dataclass(frozen=True)
class Batch:
    """Training examples.

    Attributes:
        inputs: what was seen.
        actions: normalised and padded.
        valid: False past an episode's end.
    """

    inputs: Inputs
    actions: Float[Tensor, "b h a"]
    valid: Bool[Tensor, "b h"]

    def to(self, device: torch.device | str) -> "Batch":
        """The same on a device."""
        return replace(
            self, inputs=self.inputs.to(device), actions=self.actions.to(device), valid=self.valid.to(device)
        )


class VlaModel(nn.Module):
    """See the module's docstring.

    Args:
        config: fitted to its embodiments.
        backbone: as the config says; see :func:`build`.
    """

    real: Bool[Tensor, "bodies a"]

    def __init__(self, config: VlaConfig, backbone: Backbone):
        super().__init__()
        if not config.bodies:
            raise ConfigError("fit the model's config to the embodiments first (vla.model.config.fit_to)")
        self.config, self.backbone = config, backbone
        self.expert = ActionExpert(config.expert, backbone.shape)
        width, bodies = config.expert.width, len(config.bodies)
        self.state_in = _PerBody(bodies, config.state_size, width)
        self.action_in = _PerBody(bodies, config.action_size, width)
        self.action_out = _PerBody(bodies, width, config.action_size)
        self.places = nn.Parameter(0.02 * torch.randn(config.horizon, width))
        real = torch.zeros(bodies, config.action_size, dtype=torch.bool)
        for place, body in enumerate(config.bodies):
            real[place, : body.action] = True
        self.register_buffer("real", real, persistent=False)

    def loss(
        self,
        batch: Batch,
        noise: Float[Tensor, "n h a"] | None = None,
        time: Float[Tensor, "n"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Flow-matching error over real channels of valid steps.

        Args:
            batch: b examples; each is used with ``flow_samples`` noises, n in all.
            noise: drawn from ``generator`` (on the CPU, so that devices agree) if None.
            time: likewise.
            generator: the global one if None.
        """
        times, device = self.config.flow_samples, batch.actions.device
        count = len(batch.actions) * times
        actions = batch.actions.repeat_interleave(times, 0)
        if noise is None:
            noise = torch.randn(actions.shape, generator=generator).to(device)
        if time is None:
            time = sample_time(count, generator).to(device)
        prefix = self.prefix(batch.inputs).repeat(times)
        body = batch.inputs.embodiment.repeat_interleave(times, 0)
        state = batch.inputs.state.repeat_interleave(times, 0)
        valid = batch.valid.repeat_interleave(times, 0)
        plan = self.expert.attention_plan(self.backbone, prefix, valid)
        velocity = self._velocity(interpolate(actions, noise, time), time, prefix, state, body, plan)
        mask = valid[..., None] & self.real[body][:, None, :]
        return masked_mse(velocity, noise - actions, mask)

    @torch.inference_mode()
    def sample(
        self,
        inputs: Inputs,
        steps: int = 10,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "b h a"] | None = None,
    ) -> Float[Tensor, "b h a"]:
        """Chunks of normalised actions; the backbone runs once, the expert ``steps`` times.

        Args:
            inputs: what is seen now.
            steps: of Euler's method.
            generator: of the noise; the global one if None.
            noise: to start from instead of drawing it.
        """
        if noise is None:
            shape = (len(inputs.state), self.config.horizon, self.config.action_size)
            noise = torch.randn(shape, generator=generator).to(inputs.state.device)
        prefix = self.prefix(inputs)
        valid = torch.ones(noise.shape[:2], dtype=torch.bool, device=noise.device)
        plan = self.expert.attention_plan(self.backbone, prefix, valid)
        return integrate(
            lambda x, time: self._velocity(x, time, prefix, inputs.state, inputs.embodiment, plan), noise, steps
        )

    def prefix(self, inputs: Inputs) -> Prefix:
        """What the expert looks at, without gradients if the config insulates the backbone."""
        prefix = self.backbone.prefix(inputs)
        return prefix.detach() if self.config.insulate else prefix

    def _velocity(
        self, x: Tensor, time: Tensor, prefix: Prefix, state: Tensor, body: Tensor, plan: tuple[Any, Tensor]
    ) -> Float[Tensor, "b h a"]:
        x = torch.where(self.real[body][:, None, :], x, 0.0)  # padding enters as zero, whatever it holds
        tokens = torch.cat([self.state_in(state[:, None], body), self.action_in(x, body) + self.places], 1)
        tokens = self.expert(tokens, time, prefix, *plan)
        return self.action_out(tokens[:, 1:], body)


class _PerBody(nn.Module):
    """A linear map for each embodiment."""

    def __init__(self, bodies: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(bodies, inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(bodies, outputs))

    def forward(self, x: Float[Tensor, "b n i"], body: Int64[Tensor, "b"]) -> Float[Tensor, "b n o"]:
        if len(self.weight) == 1:
            return x @ self.weight[0] + self.bias[0]
        # selecting by a product sums its gradient in a fixed order, unlike indexing
        chosen = torch.nn.functional.one_hot(body, len(self.weight)).to(x.dtype)
        weight = (chosen @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        return torch.baddbmm((chosen @ self.bias)[:, None], x, weight)


def build(
    config: VlaConfig, *, pretrained: bool = True, architecture: Mapping[str, Any] | None = None, seed: int = 0
) -> VlaModel:
    """The network a config describes, its new parts initialised from ``seed`` alone.

    Args:
        config: fitted to its embodiments.
        pretrained: load the backbone's pretrained weights; False where a checkpoint's will follow.
        architecture: what :meth:`Backbone.architecture` gave, so that nothing is looked up by name.
        seed: of new weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(config.backbone, HfConfig):
            from vla.model.hf_backbone import HfBackbone

            backbone = HfBackbone(config.backbone, pretrained=pretrained, architecture=architecture)
        else:
            backbone = NanoBackbone(config.backbone, len(config.cameras), pretrained=pretrained)
        return VlaModel(config, backbone)
