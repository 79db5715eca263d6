"""The action expert with its ways in and out: from noisy actions, a time and the state to one answer an action.

::

    x, t, state ─ in ─▶ tokens ─ expert, looking at the prefix ─ out ─▶ velocity, noise or action: the head decides

Several embodiments share everything but the projections of state and action, which each has of its own. Numbers beyond
an embodiment's channels never count in a loss, and enter only where the model was made that way (``padded``: pi0).
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.model.action_expert import ActionExpert
from vla.model.backbone import Backbone, CacheShape, Inputs, Prefix
from vla.model.config import VlaConfig
from vla.model.expert_steps import ExpertSteps
from vla.model.head import real_channels
from vla.model.recompute import recompute

Answer = Callable[[Float[Tensor, "b h a"], Float[Tensor, "b"]], Float[Tensor, "b h a"]]
"""Of the network for (x, time), everything else being given."""


class ActionNetwork(nn.Module):
    """See the module's docstring.

    Args:
        config: fitted to its embodiments.
        shape: of the backbone's cache.
    """

    real: Bool[Tensor, "bodies a"]

    def __init__(self, config: VlaConfig, shape: CacheShape):
        super().__init__()
        self.horizon, self.action_size = config.horizon, config.action_size
        self.noisy_padding = config.padded is not None
        self.expert = ActionExpert(config.expert, shape)
        if config.recompute:
            recompute(self.expert.layers)
        width, bodies = config.expert.width, len(config.bodies)
        self.state_in = PerBody(bodies, config.state_size, width) if config.expert.state == "token" else None
        self.action_in = PerBody(bodies, config.action_size, width)
        self.action_out = PerBody(bodies, width, config.action_size)
        self.places = nn.Parameter(0.02 * torch.randn(config.horizon, width)) if config.expert.places else None
        self.register_buffer("real", real_channels(config), persistent=False)

    def given(
        self,
        backbone: Backbone,
        prefix: Prefix,
        inputs: Inputs,
        valid: Bool[Tensor, "b h"] | None = None,
        *,
        times: int = 1,
    ) -> Answer:
        """The network for one observation each, to be asked for any ``x`` and ``time``.

        Args:
            backbone: that made the prefix.
            prefix: of the inputs.
            inputs: b observations.
            valid: False past an episode's end; such actions are looked at by nobody. All are if None.
            times: each observation is used so many times, one after the other: x is (b * times, h, a).
        """
        body = inputs.embodiment.repeat_interleave(times, 0)
        state = inputs.state.repeat_interleave(times, 0)
        prefix = prefix.repeat(times)
        if valid is None:
            valid = torch.ones(len(inputs.state), self.horizon, dtype=torch.bool, device=inputs.state.device)
        plan = self.expert.plan(backbone, prefix, valid.repeat_interleave(times, 0))
        real = self.real[body][:, None, :]

        def answer(x: Float[Tensor, "n h a"], time: Float[Tensor, "n"]) -> Float[Tensor, "n h a"]:
            if not self.noisy_padding:
                x = torch.where(real, x, 0.0)  # padding enters as zero, whatever it holds
            tokens = self.action_in(x, body)
            if self.places is not None:
                tokens = tokens + self.places
            if self.state_in is not None:
                tokens = torch.cat([self.state_in(state[:, None], body), tokens], 1)
            tokens = self.expert(tokens, time, plan)
            return self.action_out(tokens[:, self.expert.state_tokens :], body)

        return answer

    def ahead(self, backbone: Backbone, prefix: Prefix, inputs: Inputs, times: Sequence[float]) -> ExpertSteps:
        """The same as :meth:`given` for sampling, where the times to be asked for are known; see there."""
        # filled on the device: a copy from the host cannot be part of a CUDA graph
        known = torch.stack([torch.full((), time, device=inputs.state.device) for time in times])
        return ExpertSteps(self, backbone, prefix, inputs, known)

    def blank(self, inputs: Inputs) -> Float[Tensor, "b h a"]:
        """Chunks of zeros, one for each observation."""
        return inputs.state.new_zeros(len(inputs.state), self.horizon, self.action_size)

    def counts(self, inputs: Inputs, valid: Bool[Tensor, "b h"], times: int = 1) -> Bool[Tensor, "n h a"]:
        """Which numbers count in a loss: real channels of valid steps."""
        mask = valid[..., None] & self.real[inputs.embodiment][:, None, :]
        return mask.repeat_interleave(times, 0)


class PerBody(nn.Module):
    """A linear map for each embodiment."""

    def __init__(self, bodies: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(bodies, inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(bodies, outputs))

    def forward(self, x: Float[Tensor, "b n i"], body: Int64[Tensor, "b"]) -> Float[Tensor, "b n o"]:
        """Each example through its embodiment's own map."""
        if len(self.weight) == 1:
            return x @ self.weight[0] + self.bias[0]
        weight, bias = self.of(body)
        return torch.baddbmm(bias, x, weight)

    def of(self, body: Int64[Tensor, "b"]) -> tuple[Float[Tensor, "b i o"], Float[Tensor, "b 1 o"]]:
        """Weight and bias of each example's embodiment."""
        # selecting by a product sums its gradient in a fixed order, unlike indexing
        chosen = torch.nn.functional.one_hot(body, len(self.weight)).to(self.weight.dtype)
        weight = (chosen @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        return weight, (chosen @ self.bias)[:, None]
