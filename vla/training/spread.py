"""A model over several ranks: each with a whole copy (DDP), or each with a part of every weight (FSDP2)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from vla.model.answers import Answers, answer_loss
from vla.model.batch import Batch
from vla.model.noise import Noise
from vla.model.vla_model import VlaModel
from vla.training.ranks import Ranks

Parallel = Literal["ddp", "fsdp"]


class LossOf(nn.Module):
    """A model's loss as a ``forward``, which is what DDP and FSDP hook into.

    Args:
        model: to train.
    """

    def __init__(self, model: VlaModel):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, noise: Noise, answers: Answers | None = None) -> dict[str, Tensor]:
        """``loss``, the mean over all examples, and the mean over each kind of them if there are several."""
        actions = self.model.loss(batch, generator=noise)
        if answers is None:
            return {"loss": actions}
        words = answer_loss(self.model.backbone, answers)
        counts = len(batch.actions), len(answers)
        loss = (counts[0] * actions + counts[1] * words) / sum(counts)
        return {"loss": loss, "loss_actions": actions.detach(), "loss_answers": words.detach()}


def spread(model: VlaModel, ranks: Ranks, how: Parallel) -> nn.Module:
    """The model's loss as a module; its backward pass gives the mean of the ranks' gradients.

    With ``fsdp`` the model's own parameters become parts (``DTensor``) in place: build the optimizer afterwards.
    """
    module = LossOf(model)
    if ranks.size == 1:
        return module
    if how == "ddp":
        # the decoder's last layer gives its keys and values only: the rest of it never has a gradient
        return DistributedDataParallel(module, find_unused_parameters=True, broadcast_buffers=False)
    mesh = init_device_mesh(ranks.device.type, (ranks.size,))
    vision = model.backbone.frozen_vision  # never changes and mostly never runs: each rank keeps it whole
    whole = set() if vision is None else set(vision.parameters())
    for part in shardable(model):
        fully_shard(part, mesh=mesh, ignored_params=whole)
    fully_shard(module, mesh=mesh, ignored_params=whole)
    return module


def shardable(model: nn.Module) -> list[nn.Module]:
    """Layers that are gathered one at a time: all of every stack but its last.

    A decoder's last layer hands on its keys and values alone. FSDP waits for the gradient of a layer's output, which
    that one never gets, so it stays with the root, whose weights are whole until the backward pass is over.
    """
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return [layer for stack in stacks for layer in list(stack)[:-1] if any(True for _ in layer.parameters())]


def without_exchange(module: nn.Module) -> AbstractContextManager[Any]:
    """For all batches of a step but the last: gradients stay on their rank. FSDP has nowhere to keep whole ones."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The forward pass in bfloat16 if asked for; weights, gradients, moments and averages stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
