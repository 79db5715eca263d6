"""Inference beside the loop: chunks are aligned on what was taken, late ones stop the body, nothing is invented."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import observation
from test_chunking import ADAPTER, Counting

from vla.asynchronous import Asynchronous, asynchronous, asynchronous_ensembling, prefix_weights, realtime
from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk


class Absolute(Counting):
    """Row i of a chunk that answers x is x + i: aligned chunks give 0, 1, 2, ... whatever the delay."""

    def act(self, observation):
        self.asked += 1
        rows = np.zeros((self.horizon, 2), np.float32)
        rows[:, 0] = observation.state[0] + np.arange(self.horizon)
        return ActionChunk(rows, observation.time, 0.05)


class Continuing(Absolute):
    """Remembers what it was told."""

    continues = True

    def __init__(self, horizon=4):
        super().__init__(horizon)
        self.told = []

    def act_continuing(self, observation, left, delay):
        self.told.append((left[:, 0].tolist(), delay))
        return self.act(observation)


class Ticks:
    """A worker whose answers are there after so many steps of the loop."""

    def __init__(self, delays):
        self.delays, self.left, self.work = list(delays), 0, None

    def start(self, work):
        self.work, self.left = work, self.delays.pop(0) if len(self.delays) > 1 else self.delays[0]

    def done(self):
        return self.work is not None and self.left <= 0

    def result(self):
        work, self.work = self.work, None
        assert work is not None
        return work()

    def close(self):
        pass


def run(executor, ticks, steps):
    """First channel of each action, None where the body had to hold still; the body is where its actions put it."""
    executor.begin("go", seed=0)
    actions, place = [], 0
    for _ in range(steps):
        executor.looks()
        decision = executor.step(observation(x=place))
        actions.append(None if decision.action is None else float(decision.action[0]))
        place += decision.action is not None
        ticks.left -= 1
    return actions


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 6), st.integers(1, 8))
def test_alignment_is_on_actions_taken(delays, execute, horizon):
    ticks = Ticks(delays)
    policy = Absolute(horizon)
    executor = Asynchronous(policy, ADAPTER, execute=execute, worker=ticks)
    actions = run(executor, ticks, 60)
    taken = [action for action in actions if action is not None]
    assert taken == list(range(len(taken))) and taken  # each once, in order, none left out, none made up
    report = executor.report()
    assert report["stopped_steps"] == actions.count(None)
    assert report["chunks"] in (policy.asked, policy.asked - 1)
    if "delay_steps" in report:
        assert report["delay_steps"]["max"] <= horizon


def test_the_body_waits_for_the_first_answer_only():
    ticks = Ticks([50, 2])
    executor = Asynchronous(Absolute(8), ADAPTER, execute=3, worker=ticks)
    assert run(executor, ticks, 20) == list(range(20))
    assert executor.report()["delay_steps"] == {"median": 2.0, "max": 2}  # the first one does not count


def test_a_late_chunk_is_a_controlled_stop():
    ticks = Ticks([0, 7, 0])
    executor = Asynchronous(Absolute(4), ADAPTER, execute=2, worker=ticks)
    # asked before action 2 with 2 rows left; 5 steps without one until the answer is there
    assert run(executor, ticks, 12) == [0, 1, 2, 3, None, None, None, None, None, 4, 5, 6]
    assert executor.report()["stopped_steps"] == 5 and executor.report()["late_chunks"] == 0


def test_a_chunk_that_lies_in_the_past_is_not_used():
    class Shrinking(Absolute):
        def act(self, observation):
            self.horizon = 8 if self.asked == 0 else 2
            return super().act(observation)

    ticks = Ticks([0, 3, 0])
    executor = Asynchronous(Shrinking(), ADAPTER, execute=1, worker=ticks)
    assert run(executor, ticks, 10) == list(range(10)) and executor.report()["late_chunks"] >= 1


def test_realtime_chunking_is_told_what_is_planned_and_how_much_of_it_will_be_gone():
    ticks = Ticks([0, 2, 3, 1, 1, 1])
    policy = Continuing(8)
    executor = realtime(4, worker=lambda: ticks)(policy, ADAPTER)
    assert run(executor, ticks, 30) == list(range(30))
    delays = [delay for _, delay in policy.told]
    # at first nothing is planned; then nothing measured, nor by the first that goes on, as it is cold: as many as are
    # executed; then the largest of those measured
    assert delays[:4] == [4, 4, 3, 3]
    lefts = [left for left, _ in policy.told]
    assert lefts[0] == [4, 5, 6, 7] and all(left == sorted(left) and left for left in lefts)
    policy.continues = False
    for unable in (Absolute(), policy):
        with pytest.raises(ConfigError, match="can continue a chunk"):
            realtime()(unable, ADAPTER)
    with pytest.raises(ConfigError):
        asynchronous(0)(Absolute(), ADAPTER)


def test_cold_answers_count_in_no_latency(monkeypatch):
    """The first answer, and the first that goes on from a plan, take seconds; what is reported and told is without."""
    spent = iter(())
    monkeypatch.setattr("vla.asynchronous.timed", lambda work, *arguments: (work(*arguments), next(spent)))
    for make, cold in ((realtime, 2), (asynchronous, 1)):
        spent = iter([*[9.0, 7.0][:cold], *[0.1] * 30])
        ticks = Ticks([0, 7, 1, 1] if cold == 2 else [0, 1, 1])
        policy = Continuing(8)
        executor = make(2, worker=lambda ticks=ticks: ticks)(policy, ADAPTER)
        run(executor, ticks, 30)
        report = executor.report()
        assert report["latency_s"] == {"median": 0.1, "max": 0.1}
        assert report["delay_steps"]["max"] == 1 and report["chunks"] > 5
        # the cold ones are all there is to go by at first, and bind what is planned; then nothing is kept of them
        assert all(delay == len(left) for left, delay in policy.told[:2])
        assert all(delay <= 2 for _, delay in policy.told[2:])


def test_an_ensemble_of_late_chunks_agrees_with_itself():
    ticks = Ticks([0, 2])
    executor = asynchronous_ensembling(worker=lambda: ticks)(Absolute(8), ADAPTER)
    assert run(executor, ticks, 30) == pytest.approx(list(range(30)))


def test_the_loop_goes_on_while_a_thread_infers():
    gate, inside = threading.Event(), threading.Event()

    class Gated(Absolute):
        def act(self, observation):
            if self.asked:
                inside.set()
                gate.wait(10)
            assert threading.current_thread() is not threading.main_thread()
            return super().act(observation)

    executor = asynchronous(2)(Gated(6), ADAPTER)
    executor.begin("go", seed=0)
    taken = []
    for place in range(6):  # all rows of the first chunk, while the second is being made
        executor.looks()
        taken.append(executor.step(observation(x=place)).action)
    assert inside.wait(10) and [action[0] for action in taken] == list(range(6))
    assert executor.looks() is False and executor.step(observation(x=6)).action is None
    gate.set()
    for _ in range(1000):
        executor.looks()
        if (decision := executor.step(observation(x=6))).action is not None:
            break
        time.sleep(0.01)
    assert decision.action is not None and decision.action[0] == 6
    assert executor.report()["latency_s"]["max"] > 0
    executor.close()
    executor.close()


def test_what_the_policy_raises_is_raised_in_the_loop():
    class Broken(Absolute):
        def act(self, observation):
            if self.asked:
                raise PolicyFault("the server is gone")
            return super().act(observation)

    executor = asynchronous(1)(Broken(4), ADAPTER)
    executor.begin("go", seed=0)
    with pytest.raises(PolicyFault, match="the server is gone"):
        for _ in range(100):
            executor.looks()
            executor.step(observation())
            time.sleep(0.01)
    executor.close()


def test_pictures_are_needed_only_where_the_policy_looks():
    ticks = Ticks([0, 3])
    executor = Asynchronous(Absolute(8), ADAPTER, execute=2, worker=ticks)
    executor.begin("go", seed=0)
    looked = []
    for place in range(8):
        looks = executor.looks()
        seen = observation(x=place)
        executor.step(seen if looks else type(seen)({}, seen.state, seen.instruction, seen.time))
        ticks.left -= 1
        looked.append(looks)
    assert looked == [True, False, True, False, False, True, False, False]


@pytest.mark.parametrize(
    ("horizon", "delay", "end"), [(8, 3, 6), (8, 0, 8), (8, 8, 8), (8, 2, 2), (8, 0, 0), (4, 9, 9)]
)
def test_the_soft_mask(horizon, delay, end):
    weights = prefix_weights(horizon, delay, end)
    assert (weights[:delay] == 1).all() and (weights[end:] == 0).all()
    assert (np.diff(weights) <= 0).all() and ((weights >= 0) & (weights <= 1)).all()


def test_no_row_is_bound_to_what_was_not_planned():
    assert prefix_weights(8, 5, 4).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


@given(st.integers(1, 20), st.data())
def test_the_soft_mask_is_lerobot_s(horizon, data):
    end = data.draw(st.integers(0, horizon))
    delay = data.draw(st.integers(0, end))
    steps = end - delay
    line = np.linspace(1, 0, steps + 2)[1:-1]  # LeRobot's own construction
    expected = np.concatenate([np.ones(delay), line * np.expm1(line) / (np.e - 1), np.zeros(horizon - end)])
    assert np.allclose(prefix_weights(horizon, delay, end), expected, atol=1e-6)
