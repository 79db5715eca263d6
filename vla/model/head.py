"""What a head is: it turns the backbone's prefix into a chunk of actions, and says how wrong a chunk would be.

::

    Inputs ─ backbone.prefix ─▶ Prefix ─ head.loss(batch) ──▶ a number to train on
                                       └ head.sample(inputs) ▶ chunks of normalised actions
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.batch import Batch
from vla.model.config import VlaConfig
from vla.model.noise import Noise, normal


@dataclass(frozen=True)
class Chance:
    """What a head draws at random, or is given instead; heads that draw nothing ignore it.

    Attributes:
        generator: or the examples' own noise (:mod:`vla.model.noise`), on the CPU so that devices agree; the global
            generator if None.
        noise: in training ``samples`` for each example, n in all; in sampling one for each.
        time: in training, of the flow or the diffusion: 1 is noise.
    """

    generator: Noise = None
    noise: Float[Tensor, "n h a"] | None = None
    time: Float[Tensor, "n"] | None = None

    def begin(self, like: Float[Tensor, "n h a"], scale: float = 1.0) -> Float[Tensor, "n h a"]:
        """The noise that was given; else normal noise times ``scale``, of the shape and on the device of ``like``."""
        return scale * normal(like.shape, self.generator).to(like.device) if self.noise is None else self.noise


class Head(Protocol):
    """A ``torch.nn.Module`` that makes actions; its weights are its own, the backbone's are handed in.

    A batch's loss is the mean of its examples' losses, and an example's loss does not depend on the others: ranks and
    accumulation rest on it.
    """

    def loss(self, backbone: Backbone, prefix: Prefix, batch: Batch, chance: Chance) -> Float[Tensor, ""]:
        """How wrong the head is about real channels of valid steps."""
        ...

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
        """Chunks of normalised actions.

        Args:
            backbone: that made the prefix.
            prefix: of the inputs.
            inputs: what is seen now.
            chance: to draw from.
            steps: of a solver; the head's own number if None; heads without a solver ignore it.
            temperature: how far to stray from the likeliest answer; the head's own if None.
        """
        ...


def real_channels(config: VlaConfig) -> Bool[Tensor, "bodies a"]:
    """True for each embodiment's own action channels, False for padding."""
    sizes = torch.tensor([body.action for body in config.bodies])
    return torch.arange(config.action_size) < sizes[:, None]
