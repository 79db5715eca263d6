"""A backbone and a head as one policy network: a loss to train it, a sampler to run it.

::

    Inputs ─ backbone.prefix (once) ─▶ Prefix ─┬─ head ─▶ loss, or a chunk of actions
                                               └─ backbone_loss (in training, if there is one) ─▶ its loss

What the papers are about is in one file each: the flow's equation, its times in training and its solvers in
:mod:`~vla.model.flow`; who looks at whom in :mod:`~vla.model.attention`; the expert in :mod:`~vla.model.action_expert`;
the diffusion's equations in :mod:`~vla.model.diffusion`; FAST in :mod:`~vla.model.fast`; published sizes in
:mod:`~vla.model.presets`.

With knowledge insulation (Driess et al. 2025) the head's gradient stops at the prefix, and the backbone learns from
actions as words instead.
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
from vla.model.config import HfConfig, OfflineConfig, VlaConfig
from vla.model.cpu_products import fast_products
from vla.model.head import Chance, Head
from vla.model.head_diffusion import DiffusionHead
from vla.model.head_fast import FastHead
from vla.model.head_flow import FlowHead
from vla.model.head_l1 import L1Head
from vla.model.head_tokens import TokensHead
from vla.model.nano_backbone import NanoBackbone
from vla.model.noise import Noise
from vla.model.recompute import recompute

HEADS: dict[str, Callable[..., Any]] = {
    "flow": FlowHead,
    "l1": L1Head,
    "diffusion": DiffusionHead,
    "tokens": TokensHead,
    "fast": FastHead,
}
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
        if config.recompute:
            recompute(backbone.layers)
        words = config.backbone_loss
        self.backbone_loss: Head | None = None if words is None else HEADS[words.kind](config, words, backbone)

    @property
    def fast(self) -> FastHead | None:
        """The part whose words are fitted to the data, if there is one."""
        return next((part for part in (self.head, self.backbone_loss) if isinstance(part, FastHead)), None)

    def spell_as(self, other: "VlaModel") -> None:
        """Take over another model's fitted words, if both write FAST tokens."""
        if self.fast is not None and other.fast is not None:
            self.fast.codec = other.fast.codec

    def loss(
        self,
        batch: Batch,
        noise: Float[Tensor, "n h a"] | None = None,
        time: Float[Tensor, "n"] | None = None,
        generator: Noise = None,
    ) -> Float[Tensor, ""]:
        """The head's error over real channels of valid steps, and the backbone's own loss if it has one.

        It is the mean of what each example alone would give.

        Args:
            batch: b examples; some heads use each several times, n in all.
            noise: drawn from ``generator`` (on the CPU, so that devices agree) if None.
            time: likewise.
            generator: the global one if None.
        """
        chance = Chance(generator, noise, time)
        with fast_products(batch.actions.device):
            prefix = self.prefix(batch.inputs)
            seen = prefix.detach() if self.config.insulate else prefix
            loss = self.head.loss(self.backbone, seen, batch, chance)
            if self.backbone_loss is not None:
                loss = loss + self.backbone_loss.loss(self.backbone, prefix, batch, chance)
            return loss

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
        prefix, chance = self.prefix(inputs), Chance(generator, noise)
        return self.head.sample(self.backbone, prefix, inputs, chance, steps=steps, temperature=temperature)

    def prefix(self, inputs: Inputs) -> Prefix:
        """What the head looks at; the state's token at its end, if that is where the state enters."""
        state = None
        if self.state_in is not None:
            state = self.state_in(inputs.state[:, None], inputs.embodiment)
        with fast_products(inputs.state.device):
            return self.backbone.prefix(inputs, state)


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
            from vla.model.hf_backbone import make_hf_backbone

            backbone = make_hf_backbone(config.backbone, pretrained=pretrained, architecture=architecture)
        elif isinstance(config.backbone, OfflineConfig):
            from vla.model.offline_backbone import OfflineBackbone

            cameras = len(config.cameras)
            backbone = OfflineBackbone(config.backbone, cameras, pretrained=pretrained, architecture=architecture)
        else:
            backbone = NanoBackbone(
                config.backbone, len(config.cameras), pretrained=pretrained, action_words=config.action_words
            )
        return VlaModel(config, backbone)
