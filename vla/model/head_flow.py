"""Flow matching (Lipman et al. 2023) as pi0 does it: the expert predicts the velocity between an action and noise.

The equations are in :mod:`vla.model.flow`.
"""

import itertools

from jaxtyping import Float
from torch import Tensor, nn

from vla.model.action_network import ActionNetwork
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.batch import Batch
from vla.model.config import VlaConfig
from vla.model.flow import integrate, interpolate, sample_time, solver_times
from vla.model.head import Chance
from vla.model.head_config import FlowConfig
from vla.model.masked import masked_mse


class FlowHead(nn.Module):
    """See the module's docstring.

    Args:
        config: of the whole model.
        head: of this head.
        backbone: whose cache the expert attends to.
    """

    def __init__(self, config: VlaConfig, head: FlowConfig, backbone: Backbone):
        super().__init__()
        self.config, self.network = head, ActionNetwork(config, backbone.shape)

    def loss(self, backbone: Backbone, prefix: Prefix, batch: Batch, chance: Chance) -> Float[Tensor, ""]:
        """Squared error of the velocity, each example with ``samples`` noises and times."""
        times, device = self.config.samples, batch.actions.device
        actions = batch.actions.repeat_interleave(times, 0)
        noise = chance.begin(actions)
        time = chance.time if chance.time is not None else sample_time(len(actions), chance.generator).to(device)
        velocity = self.network.given(backbone, prefix, batch.inputs, batch.valid, times=times)
        mask = self.network.counts(batch.inputs, batch.valid, times)
        return masked_mse(velocity(interpolate(actions, noise, time), time), noise - actions, mask)

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
        """From noise to actions along the velocity, the backbone's prefix being computed once."""
        noise = chance.begin(
            self.network.blank(inputs), self.config.temperature if temperature is None else temperature
        )
        steps = self.config.steps if steps is None else steps
        ahead = self.network.ahead(backbone, prefix, inputs, solver_times(steps, self.config.solver))
        place = itertools.count()
        return integrate(lambda x, time: ahead(x, next(place)), noise, steps, self.config.solver)
