"""AdamW, its learning rate over the run, and the averaged weights."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vla.model.checkpoint import trainable
from vla.model.vla_model import VlaModel
from vla.training.config import TrainConfig
from vla.training.ranks import own_part


def make_optimizer(model: VlaModel, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only, and a learning rate of its own for the backbone."""
    named = trainable(model)
    groups = []
    for scale, in_backbone in ((config.backbone_rate, True), (1.0, False)):
        part = [value for name, value in named.items() if name.startswith("backbone.") == in_backbone]
        groups.append({"params": [p for p in part if p.ndim >= 2], "weight_decay": config.weight_decay, "scale": scale})
        groups.append({"params": [p for p in part if p.ndim < 2], "weight_decay": 0.0, "scale": scale})
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.learning_rate, betas=config.betas, fused=True
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def learning_rate(config: TrainConfig, step: int, fraction: float) -> float:
    """Linear warm-up by steps times a cosine over the run's ``fraction``."""
    cosine = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup)) * cosine


@torch.no_grad()
def average(ema: Mapping[str, Tensor], parameters: Mapping[str, Tensor], decay: float, step: int) -> None:
    """Move the averaged weights towards the current ones; ``decay`` is reached gradually over the first steps."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in ema.items():
        own_part(value).lerp_(own_part(parameters[name]), weight)
