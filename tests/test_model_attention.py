"""The attention pattern, place by place, against the rules in words."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.model.attention import PrefixAttention, actions_behind, additive, within_prefix, words_behind

MASKS = st.lists(st.booleans(), min_size=1, max_size=5)


@given(MASKS, st.integers(0, 2), st.sampled_from(["causal", "bidirectional"]))
def test_a_prefix_looks_at_itself_and_its_state_at_all(mask: list[bool], state: int, attention: PrefixAttention):
    mask = [*mask, *[True] * state]
    found = within_prefix(torch.tensor([mask]), state, attention)[0].tolist()
    first = len(mask) - state
    for looks, row in enumerate(found):
        for seen, allowed in enumerate(row):
            hidden = not mask[seen] or (looks < first <= seen) or (attention == "causal" and seen > looks)
            assert allowed == (looks == seen or not hidden)


@given(MASKS, MASKS)
def test_words_look_at_the_prefix_and_back(prefix: list[bool], mask: list[bool]):
    found = words_behind(torch.tensor([prefix]), torch.tensor([mask]))[0].tolist()
    for looks, row in enumerate(found):
        assert row[: len(prefix)] == prefix
        assert row[len(prefix) :] == [seen == looks or (mask[seen] and seen < looks) for seen in range(len(mask))]


@given(MASKS, MASKS, st.integers(0, 1), st.booleans())
def test_actions_look_at_the_prefix_the_state_and_one_another(
    prefix: list[bool], valid: list[bool], state: int, causal: bool
):
    found = actions_behind(torch.tensor([prefix]), torch.tensor([valid]), state, causal=causal)[0].tolist()
    known = [True] * state + valid
    for looks, row in enumerate(found):
        assert row[: len(prefix)] == prefix
        for seen, allowed in enumerate(row[len(prefix) :]):
            hidden = not known[seen] or (looks < state <= seen) or (causal and seen > looks)
            assert allowed == (looks == seen or not hidden)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_hidden_gets_no_weight(dtype: torch.dtype):
    allowed = torch.tensor([[True, False, True], [False, True, False]])
    weights = (torch.randn(2, 3, dtype=dtype) + additive(allowed, dtype)).softmax(-1)
    assert torch.equal(weights > 0, allowed)
