"""The thread that owns a served policy: every question gets its answer or an error, whenever the end comes."""

import threading

import pytest
from served import Known, KnownTogether, observation

from vla.errors import PolicyFault
from vla.serving_thread import PolicyThread, Session, batch_size


class Gated(KnownTogether):
    """Answers when it is let."""

    def __init__(self):
        super().__init__()
        self.asked_first, self.let = threading.Event(), threading.Event()

    def act_many(self, queries, size):
        self.asked_first.set()
        self.let.wait(10)
        return super().act_many(queries, size)


def test_the_end_answers_what_runs_and_refuses_what_waits():
    policy = Gated()
    thread = PolicyThread(policy, max_batch=2)
    running = thread.submit(Session(), observation())
    assert policy.asked_first.wait(10)
    given_up, waiting = (thread.submit(Session(), observation()) for _ in range(2))
    assert thread.waiting == 2 and given_up.cancel()
    closing = threading.Thread(target=thread.close)
    closing.start()
    while thread.alive:
        closing.join(0.01)
    policy.let.set()
    assert len(running.result(10).chunk.actions) == 3
    with pytest.raises(PolicyFault, match="shutting down"):
        waiting.result(10)
    closing.join(10)
    with pytest.raises(PolicyFault, match="shutting down"):
        thread.submit(Session(), observation())
    thread.close()  # again


def test_answers_that_are_missing_are_an_error_of_each_question():
    class Forgetful(KnownTogether):
        def act_many(self, queries, size):
            return super().act_many(queries, size)[: len(queries) - (queries[0].number == 0)]

    thread, session = PolicyThread(Forgetful()), Session()
    with pytest.raises(ValueError, match="0 answers to 1 questions"):
        thread.submit(session, observation()).result(10)
    assert thread.submit(session, observation()).result(10).batch == 1  # the thread goes on
    thread.close()


def test_a_policy_with_an_episode_of_its_own_is_asked_alone():
    assert (batch_size(Known(), 8), batch_size(KnownTogether(), 8)) == (1, 8)
