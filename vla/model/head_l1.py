"""Parallel decoding with an absolute error (OpenVLA-OFT, Kim et al. 2025): one pass gives the whole chunk.

The expert's action tokens carry nothing but their places, as OFT's empty action embeddings do. The answer is the
median of what was shown: where the demonstrations have two ways, it is neither.
"""

from jaxtyping import Float
from torch import Tensor, nn

from vla.model.action_network import ActionNetwork, Answer
from vla.model.backbone import Backbone, Inputs, Prefix
from vla.model.batch import Batch
from vla.model.config import VlaConfig
from vla.model.head import Chance
from vla.model.head_config import L1Config
from vla.model.masked import masked_mae


class L1Head(nn.Module):
    """See the module's docstring.

    Args:
        config: of the whole model.
        head: of this head.
        backbone: whose cache the expert attends to.
    """

    def __init__(self, config: VlaConfig, head: L1Config, backbone: Backbone):
        super().__init__()
        self.config, self.network = head, ActionNetwork(config, backbone.shape)

    def loss(self, backbone: Backbone, prefix: Prefix, batch: Batch, chance: Chance) -> Float[Tensor, ""]:
        """Absolute error; nothing is drawn."""
        actions = self._once(self.network.given(backbone, prefix, batch.inputs, batch.valid), batch.inputs)
        return masked_mae(actions, batch.actions, self.network.counts(batch.inputs, batch.valid))

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
        """The one answer there is, whatever the chance, the steps and the temperature."""
        return self._once(self.network.given(backbone, prefix, inputs), inputs)

    def _once(self, network: Answer, inputs: Inputs) -> Float[Tensor, "b h a"]:
        empty = self.network.blank(inputs)
        return network(empty, empty.new_zeros(len(empty)))
