"""Training examples: what was seen, and what was done next."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla.model.backbone import Inputs


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
