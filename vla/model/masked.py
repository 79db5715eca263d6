"""Means over the real numbers of a padded batch only; whatever the padding holds, NaN too, it moves nothing."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def masked_mse(
    predicted: Float[Tensor, "b h a"], target: Float[Tensor, "b h a"], mask: Bool[Tensor, "b h a"]
) -> Float[Tensor, ""]:
    """Mean squared error.

    Raises:
        ZeroDivisionError: nothing is real.
    """
    # masked before it is squared, because a gradient of 0 times NaN is NaN
    return torch.where(mask, predicted.float() - target.float(), 0.0).square().sum() / _count(mask)


def masked_mae(
    predicted: Float[Tensor, "b h a"], target: Float[Tensor, "b h a"], mask: Bool[Tensor, "b h a"]
) -> Float[Tensor, ""]:
    """Mean absolute error.

    Raises:
        ZeroDivisionError: nothing is real.
    """
    return torch.where(mask, predicted.float() - target.float(), 0.0).abs().sum() / _count(mask)


def masked_cross_entropy(
    logits: Float[Tensor, "b n v"], target: Int64[Tensor, "b n"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Mean of minus the logarithm of the probability that the logits give to the target words.

    Raises:
        ZeroDivisionError: nothing is real.
    """
    ignored = target.masked_fill(~mask, -100)
    total = F.cross_entropy(logits.float().flatten(0, 1), ignored.flatten(), reduction="sum")
    return total / _count(mask)


def _count(mask: Tensor) -> int:
    count = int(mask.sum())
    if not count:
        raise ZeroDivisionError("a batch without a single valid action has no loss")
    return count
