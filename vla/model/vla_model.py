"""A backbone and a head as one policy network: a loss to train it, a sampler to run it.

::

    Inputs ─ backbone.prefix (once) ─▶ Prefix ─ head ─▶ loss, or a chunk of actions
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.errors import ConfigError
from vla.model.action_network import PerBody
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.batch import Batch
from vla.model.config import HfConfig, VlaConfig
from vla.model.head import Chance, Head
from vla.model.head_flow import FlowHead
from vla.model.nano_backbone import NanoBackbone
from vla.model.noise import Noise

__all__ = ["HEADS", "Batch", "VlaModel", "build"]

HEADS: dict[str, Callable[..., Any]] = {"flow": FlowHead}
"""By ``kind``; each is made of the model's config, its own and the backbone."""


class VlaModel(nn.Module):
    """See the module's docstring.

    Args:
        config: fitted to its embodiments.
        backbone: as the config says; see :func:`build`.
    """

    def __init__(self, config: VlaConfig, backbone: Backbone):
        super().__init__()
        if not config.bodies:
            raise ConfigError("fit the model's config to the embodiments first (vla.model.config.fit_to)")
        self.config, self.backbone = config, backbone
        prefixed = config.expert.state == "prefix"
        bodies, width = len(config.bodies), backbone.shape.width
        self.state_in = PerBody(bodies, config.state_size, width) if prefixed else None
        self.head: Head = HEADS[config.head.kind](config, config.head, backbone)

    def loss(
        self,
        batch: Batch,
        noise: Float[Tensor, "n h a"] | None = None,
        time: Float[Tensor, "n"] | None = None,
        generator: Noise = None,
    ) -> Float[Tensor, ""]:
        """The head's error over real channels of valid steps; the mean of what each example alone would give.

        Args:
            batch: b examples; some heads use each several times, n in all.
            noise: drawn from ``generator`` (on the CPU, so that devices agree) if None.
            time: likewise.
            generator: the global one if None.
        """
        return self.head.loss(self.backbone, self.prefix(batch.inputs), batch, Chance(generator, noise, time))

    @torch.inference_mode()
    def sample(
        self,
        inputs: Inputs,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "b h a"] | None = None,
        temperature: float | None = None,
    ) -> Float[Tensor, "b h a"]:
        """Chunks of normalised actions; the backbone runs once.

        Args:
            inputs: what is seen now.
            steps: of the head's solver; the head's own number if None.
            generator: of whatever the head draws; the global one if None.
            noise: to start from instead of drawing it.
            temperature: scale of what is drawn; the head's own if None.
        """
        chance = Chance(generator, noise)
        return self.head.sample(
            self.backbone, self.prefix(inputs), inputs, chance, steps=steps, temperature=temperature
        )

    def prefix(self, inputs: Inputs) -> Prefix:
        """What the head looks at, without gradients if the config insulates the backbone."""
        state = None
        if self.state_in is not None:
            state = self.state_in(inputs.state[:, None], inputs.embodiment)
        prefix = self.backbone.prefix(inputs, state)
        return prefix.detach() if self.config.insulate else prefix


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
