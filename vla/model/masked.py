"""Losses of padded batches; whatever the padding holds, NaN too, it moves nothing.

Each is the mean of its examples' losses, and an example's loss follows from that example alone: so the loss of a batch
is the mean of its halves' losses, which is what makes ranks and accumulation exact. Actions are divided by the chunk's
length, steps past the episode's end adding nothing: every action has the same weight, also in a chunk cut short.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def masked_mse(
    predicted: Float[Tensor, "b h a"], target: Float[Tensor, "b h a"], mask: Bool[Tensor, "b h a"]
) -> Float[Tensor, ""]:
    """Squared error, divided by the chunk's length and the example's channels."""
    # masked before it is squared, because a gradient of 0 times NaN is NaN
    return _mean(torch.where(mask, predicted.float() - target.float(), 0.0).square(), mask)


def masked_mae(
    predicted: Float[Tensor, "b h a"], target: Float[Tensor, "b h a"], mask: Bool[Tensor, "b h a"]
) -> Float[Tensor, ""]:
    """Absolute error, divided by the chunk's length and the example's channels."""
    return _mean(torch.where(mask, predicted.float() - target.float(), 0.0).abs(), mask)


def masked_cross_entropy(
    logits: Float[Tensor, "b n v"], target: Int64[Tensor, "b n"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Minus the logarithm of the probability that the logits give to the target words; an example's mean over its own.

    An example without a word has the loss 0.
    """
    ignored = target.masked_fill(~mask, -100)
    each = F.cross_entropy(logits.float().flatten(0, 1), ignored.flatten(), reduction="none").view(mask.shape)
    return (each.sum(1) / mask.sum(1).clamp(min=1)).mean()


def _mean(error: Float[Tensor, "b h a"], mask: Bool[Tensor, "b h a"]) -> Float[Tensor, ""]:
    channels = mask.any(1).sum(1).clamp(min=1)
    return (error.sum((1, 2)) / (mask.shape[1] * channels)).mean()
