"""When a batch goes off, and who pays when it fails."""

import time

import numpy as np
import pytest

from vla.batching import Batcher, one_by_one, together
from vla.errors import PolicyFault
from vla.experience import ActionChunk, Observation
from vla.protocols import Query

CHUNK = ActionChunk(np.zeros((1, 2), np.float32), 0.0, 0.05)


def query(seed=0, number=0):
    return Query(Observation({}, np.zeros(1, np.float32), "go", 0.0), seed, number)


def echo(batch):
    return [("chunk", (client, asked.seed)) for client, asked in batch]


def test_a_full_batch_goes_at_once_the_longest_waiting_first():
    batcher = Batcher(echo, 2, clients=["a", "b", "c"])
    for seed, client in enumerate("abc"):
        batcher.ask(client, query(seed))
    assert batcher.work() == [("a", ("chunk", ("a", 0))), ("b", ("chunk", ("b", 1)))]


def test_it_does_not_wait_for_more_than_can_ask():
    batcher = Batcher(echo, 4, clients=["a", "b"])
    batcher.ask("a", query())
    batcher._lasted = 100.0
    assert batcher.work() == [] and 99 < (batcher.patience() or 0) <= 100
    batcher.ask("b", query())
    assert len(batcher.work()) == 2 and batcher.patience() is None


def test_it_waits_as_long_as_an_inference_takes():
    batcher = Batcher(lambda batch: (time.sleep(0.05), echo(batch))[1], 1, clients=["a", "b", "c"])
    batcher.ask("a", query())
    batcher.work()
    batcher.size = 3
    batcher.ask("a", query())
    assert batcher.work() == [] and 0 < (batcher.patience() or 0) < 1
    time.sleep(batcher.patience() or 0)
    assert len(batcher.work()) == 1


def test_who_leaves_is_not_answered_and_not_waited_for():
    batcher = Batcher(echo, 4, clients=["a", "b"])
    batcher._lasted = 100.0
    batcher.ask("a", query())
    batcher.leave("b")
    assert [client for client, _ in batcher.work()] == ["a"]
    batcher.ask("a", query())
    batcher.leave("a")
    assert batcher.work() == [] and batcher.clients == []


class Policy:
    """Breaks at seed 7, and whenever seed 7 is in the batch; seed 8 is its own fault; seed 9 takes all memory."""

    def __init__(self):
        self.sizes = []

    def act_many(self, queries, size):
        self.sizes.append((len(queries), size))
        if any(asked.seed == 7 for asked in queries):
            raise RuntimeError("broken")
        if any(asked.seed == 9 for asked in queries):
            raise MemoryError("full")
        return [PolicyFault("nan") if asked.seed == 8 else CHUNK for asked in queries]


def test_a_failing_batch_costs_the_culprit_only():
    policy = Policy()
    replies = together(policy, 4)([("client", query(seed)) for seed in (1, 7, 8, 9)])  # pyright: ignore
    assert [kind for kind, _ in replies] == ["chunk", "crash", "fault", "starved"]
    assert replies[1][1] == "RuntimeError: broken"
    assert policy.sizes == [(4, 4), (1, 4), (1, 4), (1, 4), (1, 4)]  # always of the same size


class Counting:
    def reset(self, instruction, *, seed):
        self.seed, self.asked = seed, 0

    def act(self, observation):
        self.asked += 1
        if self.seed == 7:
            raise ValueError("broken")
        return ActionChunk(np.full((1, 1), self.seed + self.asked, np.float32), 0.0, 0.05)


def test_policies_with_a_memory_are_each_asked_for_their_own_episode():
    own = {"a": Counting(), "b": Counting()}
    answer = one_by_one(own.__getitem__)  # pyright: ignore[reportArgumentType]
    order = [("a", query(10, 0)), ("b", query(20, 0)), ("a", query(10, 1)), ("b", query(7, 0)), ("b", query(30, 0))]
    kinds, values = zip(*answer(order), strict=True)
    assert kinds == ("chunk", "chunk", "chunk", "crash", "chunk")
    assert [float(value.actions[0, 0]) for value in (*values[:3], values[4])] == pytest.approx([11, 21, 12, 31])
