"""A Hugging Face decoder run for its cache: over a prefix, or over more places behind one.

It is run as it ships, with ``use_cache=True``; who looks at whom comes from :mod:`vla.model.attention`.
"""

from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import DynamicCache

from vla.model.attention import PrefixAttention, additive, within_prefix, words_behind
from vla.model.backbone import Prefix
from vla.model.recompute import PrefixCache, recomputes


def run_decoder(
    decoder: nn.Module,
    embeddings: Float[Tensor, "b p w"],
    mask: Bool[Tensor, "b p"],
    attention: PrefixAttention,
    state: Float[Tensor, "b n w"] | None = None,
    positions: Int64[Tensor, "axes b p"] | None = None,
) -> Prefix:
    """Run a Hugging Face decoder over a prefix and take its cache.

    Positions count real places only, so padding moves nothing.

    Args:
        decoder: the Hugging Face module.
        embeddings: of pictures and words.
        mask: False on padding.
        attention: within the prefix.
        state: tokens that come last.
        positions: of the embeddings along several axes, for decoders that turn by more than one.
    """
    after = None
    if positions is not None:
        last = positions.amax(0).masked_fill(~mask, -1).amax(1)
        more = torch.arange(0 if state is None else state.shape[1], device=mask.device)
        following = (last[:, None] + 1 + more).expand(len(positions), -1, -1)
        positions, after = torch.cat([positions, following], 2), last + 1 + len(more)
    if state is not None:
        embeddings = torch.cat([embeddings, state.to(embeddings.dtype)], 1)
        mask = torch.cat([mask, torch.ones(state.shape[:2], dtype=torch.bool, device=mask.device)], 1)
    allowed = within_prefix(mask, 0 if state is None else state.shape[1], attention)
    cache = _KeysOnly(decoder.config) if _may_stop(decoder) else PrefixCache(decoder.config)
    with suppress(_Enough):
        decoder(
            inputs_embeds=embeddings,
            attention_mask=additive(allowed, embeddings.dtype)[:, None],
            position_ids=(mask.cumsum(1) - 1).clamp(min=0) if positions is None else positions,
            past_key_values=cache,
            use_cache=True,
        )
    return _cached(cache, mask, after)


class _Enough(Exception):
    """All keys and values are there."""


class _KeysOnly(PrefixCache):
    """Leaves the decoder at the last layer's keys and values: what follows them there, nobody looks at."""

    def __init__(self, config: Any):
        super().__init__(config)
        self._last = config.num_hidden_layers - 1

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """As its parent, but the last layer's do not return."""
        cached = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if layer_idx == self._last:
            raise _Enough
        return cached


def _may_stop(decoder: Any) -> bool:
    """Whether the decoder can be left halfway.

    In training not where the model is sharded or computed twice: both need every module to return.
    """
    if not torch.is_grad_enabled():
        return True
    return not recomputes(decoder.layers[-1]) and not any(isinstance(part, FSDPModule) for part in decoder.modules())


def continue_decoder(
    decoder: nn.Module, prefix: Prefix, embeddings: Float[Tensor, "b n w"], mask: Bool[Tensor, "b n"]
) -> tuple[Float[Tensor, "b n w"], Prefix]:
    """Run a Hugging Face decoder over more places, each of which sees the prefix, itself and those before it.

    Returns:
        its last hidden states (after its final norm) and the longer prefix.
    """
    allowed = words_behind(prefix.mask, mask)
    cache = PrefixCache(decoder.config, zip(prefix.keys, prefix.values, strict=True))
    hidden = decoder(
        inputs_embeds=embeddings,
        attention_mask=additive(allowed, embeddings.dtype)[:, None],
        position_ids=prefix.lengths[:, None] + (mask.cumsum(1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    after = None if prefix.after is None else prefix.after + mask.sum(1)
    return hidden, _cached(cache, torch.cat([prefix.mask, mask], 1), after)


def _cached(cache: DynamicCache, mask: Bool[Tensor, "b p"], after: Int64[Tensor, "b"] | None) -> Prefix:
    layers: list[Any] = cache.layers
    keys, values = zip(*((layer.keys, layer.values) for layer in layers), strict=True)
    return Prefix(keys, values, mask, after)
