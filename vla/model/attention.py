"""Who looks at whom; all of the attention pattern is here.

::

    looks at ▶              pictures, words         state   │  words, one by one    │  state   actions
    pictures, words         all, or those before      ·     │
    state                   all                     itself  │
    ────────────────────────────────────────────────────────┘
    words, one by one       all                      all       those before, itself
    state                   all                                                        itself      ·
    actions                 all                      all                                all       all, or those before

The upper block is the backbone's prefix, which never looks down: so it is computed once, and its keys and values are
kept. Below it go on, each without the others, actions written as words by the backbone itself, and the action expert's
own tokens. Where the state stands is the config's choice (``ExpertConfig.state``), and it is in one place only.

The pattern is that of joint layers; in an expert's cross layers its tokens look at the prefix alone.

Nobody looks at padding, which looks at itself, because a row without anything to attend to would be NaN.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PrefixAttention = Literal["causal", "bidirectional"]


def within_prefix(mask: Bool[Tensor, "b p"], state: int, attention: PrefixAttention) -> Bool[Tensor, "b p p"]:
    """Of a prefix's places, of which the last ``state`` are the state's; ``mask`` is False on padding."""
    order = torch.arange(mask.shape[1], device=mask.device)
    before = mask.shape[1] - state
    allowed = mask[:, None, :] & ((order[None, :] < before) | (order[:, None] >= before))
    if attention == "causal":
        allowed = allowed & _not_after(order)
    return allowed | _itself(order)


def words_behind(prefix: Bool[Tensor, "b p"], mask: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n m"]:
    """Of words that go on from a prefix, at the prefix and at one another; both masks are False on padding."""
    order = torch.arange(mask.shape[1], device=mask.device)
    return _behind(prefix, mask[:, None, :] & _not_after(order) | _itself(order))


def actions_behind(
    prefix: Bool[Tensor, "b p"], valid: Bool[Tensor, "b h"], state: int, *, causal: bool
) -> Bool[Tensor, "b n m"]:
    """Of an expert's own tokens, at the prefix and at one another.

    Args:
        prefix: False on padding.
        valid: False past an episode's end: such actions are seen by nobody but themselves.
        state: own tokens of the state, before the actions.
        causal: an action sees earlier actions only.
    """
    known = torch.cat([valid.new_ones(len(valid), state), valid], 1)
    order = torch.arange(known.shape[1], device=known.device)
    seen = known[:, None, :].expand(-1, len(order), -1)
    if causal:
        seen = seen & _not_after(order)
    seen = seen | _itself(order)
    seen[:, :state, state:] = False
    return _behind(prefix, seen)


def additive(allowed: Bool[Tensor, "*n"], dtype: torch.dtype) -> Float[Tensor, "*n"]:
    """As attention takes it fastest: 0 where one may look, the least number where not."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, torch.finfo(dtype).min)


def _behind(prefix: Bool[Tensor, "b p"], own: Bool[Tensor, "b n n"]) -> Bool[Tensor, "b n m"]:
    return torch.cat([prefix[:, None, :].expand(-1, own.shape[1], -1), own], 2)


def _not_after(order: Tensor) -> Bool[Tensor, "n n"]:
    return order[None, :] <= order[:, None]


def _itself(order: Tensor) -> Bool[Tensor, "n n"]:
    return order[None, :] == order[:, None]
