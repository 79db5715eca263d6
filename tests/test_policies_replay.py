"""A recorded episode as a policy."""

import numpy as np
import pytest

from vla.errors import ConfigError
from vla.experience import Episode
from vla.policies.replay import ReplayPolicy
from vla.protocols import Policy
from vla.training.fake import fake_embodiment

SPEC = fake_embodiment()


def episode(steps: int) -> Episode:
    action = np.arange(3 * steps, dtype=np.float32).reshape(steps, 3)
    return Episode(SPEC, np.zeros((steps, 2), np.float32), action, {}, np.arange(steps) / 10, "reach")


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_it_repeats_the_actions_and_then_the_last(horizon: int):
    recorded = episode(5)
    policy = ReplayPolicy(recorded, horizon=horizon)
    assert isinstance(policy, Policy)
    for _ in range(2):
        policy.reset("", seed=0)
        rows = np.concatenate([policy.act(recorded.observation(0)).actions for _ in range(6)])
        assert np.array_equal(rows[:5], recorded.action)
        assert (rows[5:] == recorded.action[-1]).all()


def test_nothing_to_replay_is_refused():
    with pytest.raises(ConfigError):
        ReplayPolicy(episode(0))
