"""Staying still."""

from dataclasses import replace

import numpy as np
import pytest

from vla.embodiment import Gripper
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError
from vla.experience import Observation
from vla.policies.hold import Config
from vla.protocols import Policy

SPEC = libero_panda()


def test_it_moves_nothing_and_keeps_the_gripper():
    policy = Config(SPEC, horizon=4).make()
    assert isinstance(policy, Policy)
    policy.reset("anything", seed=0)
    chunk = policy.act(Observation({}, np.zeros(8, np.float32), "", 1.0))
    assert chunk.actions.shape == (4, 7) and chunk.time == 1.0 and chunk.dt == pytest.approx(0.05)
    assert (chunk.actions[:, :6] == 0).all() and (chunk.actions[:, 6] == 1).all()


def test_a_gripper_of_other_numbers_is_open_too():
    spec = replace(SPEC, action=replace(SPEC.action, gripper=Gripper(closed=1.0, opened=-1.0)))
    policy = Config(spec, gripper=1.0).make()
    assert (policy.act(Observation({}, np.zeros(8, np.float32), "", 0.0)).actions[:, 6] == -1).all()


def test_absolute_actions_and_other_grippers_are_refused():
    with pytest.raises(ConfigError, match="absolute"):
        Config(replace(SPEC, action=replace(SPEC.action, mode="absolute"))).make()
    with pytest.raises(ConfigError, match="gripper"):
        Config(SPEC, gripper=2.0).make()
