"""Tool centre points and base frames are part of an embodiment: stated, kept, and compared."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.embodiment import EmbodimentSpec
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, SpecMismatch
from vla.frames import Offset
from vla.mounting import offset_matrix, offset_of
from vla.transforms import connect

HAND = Offset((0.0, 0.0, 0.1034), (0.0, 0.0, -math.pi / 4))


def test_what_states_no_offset_keeps_the_fingerprint_it_had_before_there_were_any():
    assert libero_panda().fingerprint == "904a9620e3df7ec2"
    assert bridge_widowx().fingerprint == "f86c7d3c28a88b49"
    assert not {"tool", "base"} & libero_panda().to_json().keys()


def test_a_stated_offset_changes_the_fingerprint_and_comes_back_from_json():
    plain = libero_panda()
    spec = dataclasses.replace(plain, tool=HAND, base=Offset((0.0, 0.0, 0.912)))
    assert EmbodimentSpec.from_json(spec.to_json()) == spec
    assert len({each.fingerprint for each in (plain, spec, dataclasses.replace(spec, base=None))}) == 3


def test_a_policy_for_one_tool_is_refused_on_another_and_told_how_they_differ():
    policy = dataclasses.replace(libero_panda(), tool=HAND)
    longer = dataclasses.replace(libero_panda(), tool=Offset((0.0, 0.0, 0.1534), HAND.rotation))
    with pytest.raises(SpecMismatch, match=r"tool centre point.*50\.0 mm and 0\.0 degrees apart") as caught:
        connect(longer, policy)
    assert len(caught.value.differences) == 1
    turned = dataclasses.replace(libero_panda(), tool=Offset(HAND.position))
    with pytest.raises(SpecMismatch, match=r"0\.0 mm and 45\.0 degrees apart"):
        connect(turned, policy)
    with pytest.raises(SpecMismatch, match="the body does not state its own"):
        connect(libero_panda(), policy)
    moved = dataclasses.replace(policy, base=Offset((0.1, 0.0, 0.0)))
    with pytest.raises(SpecMismatch, match=r"base frame.*100\.0 mm"):
        connect(dataclasses.replace(policy, base=Offset()), moved)


def test_the_same_tool_calibrated_twice_and_a_policy_that_states_none_are_let_through():
    policy = dataclasses.replace(libero_panda(), tool=HAND)
    again = dataclasses.replace(libero_panda(), tool=Offset((0.0004, 0.0, 0.1030), (0.0, 0.002, -math.pi / 4)))
    assert connect(again, policy).body is again
    assert connect(policy, libero_panda()).policy.tool is None


@given(arrays(np.float64, 6, elements=st.floats(-1.5, 1.5)))
def test_offsets_and_matrices_are_the_same(values):
    offset = Offset(tuple(values[:3]), tuple(values[3:]))
    again = offset_of(offset_matrix(offset))
    np.testing.assert_allclose(again.position, values[:3], atol=6e-6)
    np.testing.assert_allclose(again.rotation, values[3:], atol=6e-5)


@pytest.mark.parametrize("position", [(1.0, 2.0), (math.nan, 0.0, 0.0)])
def test_half_an_offset_is_none(position):
    with pytest.raises(ConfigError, match="three finite numbers"):
        Offset(position)
