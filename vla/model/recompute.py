"""Activations that are computed again in the backward pass instead of kept: less memory for a third more time.

Hugging Face's own switch turns the cache off, and the cache is what the expert looks at. So each layer of the decoder
(and of the expert) is recomputed by itself, and the cache knows that the second time it is asked it must answer as
the first time.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from vla.model.cpu_products import as_now


class PrefixCache(DynamicCache):
    """A cache that each layer adds to once; if the layer is computed again it gets the same answer.

    Args:
        config: of the decoder.
        given: keys and values that are there already, layer by layer.
    """

    def __init__(self, config: Any, given: Iterable[tuple[Tensor, Tensor]] = ()):
        super().__init__(config=config)
        self._given, self._added = list(given), set[int]()
        for layer, pair in enumerate(self._given):
            super().update(*pair, layer)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, those that were there already in front."""
        if layer_idx not in self._added:
            self._added.add(layer_idx)
            return super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if not self._given:
            return key_states, value_states
        keys, values = self._given[layer_idx]
        return torch.cat([keys, key_states], -2), torch.cat([values, value_states], -2)


def recompute(layers: Iterable[nn.Module]) -> None:
    """From now on these layers keep nothing but their inputs while training."""
    for layer in layers:
        layer.forward = _recomputed(layer, layer.forward)


def recomputes(layer: nn.Module) -> bool:
    """Whether the layer is one of those."""
    return getattr(layer.forward, "recomputes", False)


def _as_the_first_time() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Around a layer, and around it again in the backward pass, when the model's own contexts are left."""
    return nullcontext(), as_now()


def _recomputed(layer: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def again(*args: Any, **kwargs: Any) -> Any:
        if layer.training and torch.is_grad_enabled():
            return checkpoint(forward, *args, use_reentrant=False, context_fn=_as_the_first_time, **kwargs)
        return forward(*args, **kwargs)

    setattr(again, "recomputes", True)  # noqa: B010 - functions have no such field for a type checker
    return again
