"""Diffusion: the expert predicts the noise in an action (Ho et al. 2020), as in Octo, Diffusion Policy and RDT.

The equations are in :mod:`vla.model.diffusion`. The time that the expert is told is the level's share of all levels,
so that 1 is noise, as for the flow.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.model.action_network import ActionNetwork
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.batch import Batch
from vla.model.config import VlaConfig
from vla.model.diffusion import add_noise, denoise, squared_cosine
from vla.model.head import Chance
from vla.model.head_config import DiffusionConfig
from vla.model.masked import masked_mse
from vla.model.noise import integers


class DiffusionHead(nn.Module):
    """See the module's docstring.

    Args:
        config: of the whole model.
        head: of this head.
        backbone: whose cache the expert attends to.
    """

    def __init__(self, config: VlaConfig, head: DiffusionConfig, backbone: Backbone):
        super().__init__()
        self.config, self.network = head, ActionNetwork(config, backbone.shape)
        self.kept = squared_cosine(head.levels)

    def loss(self, backbone: Backbone, prefix: Prefix, batch: Batch, chance: Chance) -> Float[Tensor, ""]:
        """Squared error of the noise, each example with ``samples`` noises and levels."""
        times, levels, device = self.config.samples, self.config.levels, batch.actions.device
        actions = batch.actions.repeat_interleave(times, 0)
        noise, time = chance.begin(actions), chance.time
        if time is None:
            time = (1 + integers(levels, (len(actions),), chance.generator)) / levels
        level = (time * levels).round().long().cpu() - 1
        x = add_noise(actions, noise, self.kept[level].to(device))
        answer = self.network.given(backbone, prefix, batch.inputs, batch.valid, times=times)
        mask = self.network.counts(batch.inputs, batch.valid, times)
        return masked_mse(answer(x, time.to(device)), noise, mask)

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
        """From noise to actions over evenly spaced levels, the noisiest first; the last step ends without noise."""
        noise = chance.begin(
            self.network.blank(inputs), self.config.temperature if temperature is None else temperature
        )
        levels = self.config.levels
        count = min(levels, self.config.steps if steps is None else steps)
        times = torch.linspace(levels, 0, count + 1).round().long()
        grid = torch.cat([self.kept[times[:-1] - 1], torch.ones(1)])
        ahead = self.network.ahead(backbone, prefix, inputs, (times[:-1] / levels).tolist())
        return denoise(ahead, noise, grid, self.config.solver, self.config.clip)
