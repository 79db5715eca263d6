"""From chunks to actions, waiting for the policy: rows in their order, none invented, averages as ACT has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import SPEC, observation

from vla.chunking import Ensemble, Latest, Synchronous, ensembling, synchronous
from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk
from vla.transforms import connect

ADAPTER = connect(SPEC, SPEC)


class Counting:
    """Its n-th chunk holds 100 n + row in the first channel."""

    spec = SPEC

    def __init__(self, horizon=4):
        self.horizon, self.asked, self.seed = horizon, 0, None

    def reset(self, instruction, *, seed):
        self.seed = (instruction, seed)

    def act(self, observation):
        rows = np.zeros((self.horizon, 2), np.float32)
        rows[:, 0] = 100 * self.asked + np.arange(self.horizon)
        self.asked += 1
        return ActionChunk(rows, observation.time, 0.05)


def run(executor, steps):
    """First channel of each action, and in which steps the policy was asked."""
    executor.begin("go", seed=4)
    actions, asked = [], []
    for number in range(steps):
        looks = executor.looks()
        decision = executor.step(observation())
        assert looks == (decision.chunk is not None) == (decision.latency is not None)
        asked += [number] if looks else []
        actions.append(decision.action[0])
    return actions, asked


def test_rows_are_executed_in_their_order():
    policy = Counting()
    assert run(synchronous(3)(policy, ADAPTER), 7) == ([0, 1, 2, 100, 101, 102, 200], [0, 3, 6])
    assert policy.seed == ("go", 4)
    assert run(synchronous()(Counting(), ADAPTER), 6) == ([0, 1, 2, 3, 100, 101], [0, 4])


def test_rows_are_never_invented():
    with pytest.raises(PolicyFault, match="4 rows cannot be executed for 5"):
        run(Synchronous(Counting(), ADAPTER, 5), 1)
    with pytest.raises(ConfigError):
        Synchronous(Counting(), ADAPTER, 0)
    for plan in (Latest(), Ensemble()):
        assert plan.row(0) is None and len(plan.left(0)) == 0
        plan.add(3, np.ones((2, 1), np.float32))
        assert plan.row(2) is None and plan.row(4) is not None and plan.row(5) is None


def test_actions_are_in_the_body_s_units():
    from vla.embodiments.libero_openpi import libero_openpi
    from vla.embodiments.libero_panda import libero_panda

    class Closing(Counting):
        spec = libero_panda(8)

        def act(self, observation):
            return ActionChunk(np.array([[0.05, 0, 0, 0, 0, 0, 0]], np.float32), observation.time, 0.05)

    body = libero_openpi()
    executor = synchronous()(Closing(), connect(body, Closing.spec))
    decision = executor.step(observation(spec=body))
    assert decision.action is not None and decision.chunk is not None
    assert np.allclose(decision.action, [1, 0, 0, 0, 0, 0, 1]) and np.array_equal(
        decision.chunk.actions[0], decision.action
    )


def test_ensembling_is_act_s():
    policy, horizon, decay = Counting(), 4, 0.3
    actions, asked = run(ensembling(decay)(policy, ADAPTER), 10)
    assert asked == list(range(10))
    for step, action in enumerate(actions):  # ACT's own words: w_i = exp(-m i), w_0 for the oldest
        opinions = [100 * chunk + (step - chunk) for chunk in range(max(0, step - horizon + 1), step + 1)]
        weights = np.exp(-decay * np.arange(len(opinions)))
        assert action == pytest.approx(np.dot(weights / weights.sum(), opinions), rel=1e-6)
    with pytest.raises(ConfigError):
        Ensemble(-1.0)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5), st.floats(-5, 5)), min_size=1, max_size=6))
def test_an_ensemble_stays_between_its_opinions(chunks):
    plan, start, opinions = Ensemble(0.1), 0, {}
    for step, horizon, value in chunks:
        start += step
        plan.add(start, np.full((horizon, 1), value, np.float32))
        for place in range(start, start + horizon):
            opinions.setdefault(place, []).append(np.float32(value))
    for place in range(start, start + 6):
        left, row = plan.left(place), plan.row(place)
        if place not in opinions:
            assert row is None
            continue
        assert row is not None and np.array_equal(left[0], row)
        assert min(opinions[place]) - 1e-5 <= row[0] <= max(opinions[place]) + 1e-5
