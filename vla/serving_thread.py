"""The thread that owns a served policy: questions of many clients in, batches through the policy, answers out.

::

    submit ─▶ queue ─ as many as wait, up to a batch ─▶ act_many ─▶ one future each

Nothing but this thread touches the policy, so whoever asks (an event loop) never waits inside it. A policy that keeps
the state of an episode to itself cannot be shared between clients: it answers one session at a time.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from vla.asynchronous import ContinuingPolicy, can_continue
from vla.dialect import Planned
from vla.errors import PolicyFault
from vla.experience import ActionChunk, Observation
from vla.protocols import BatchPolicy, Policy, Query

log = logging.getLogger("vla.serving")

_CLOSED = "the server is shutting down"


def batch_size(policy: Policy, wanted: int) -> int:
    """How many questions are answered together at most: one, where the policy keeps an episode to itself."""
    return wanted if isinstance(policy, BatchPolicy) else 1


def continues(policy: Policy, size: int) -> bool:
    """Whether chunks can go on from a plan: those of policies that can, asked as if local, in batches of 1."""
    return size == 1 and can_continue(policy)


@dataclass
class Session:
    """What a policy must know of one client's episode.

    Attributes:
        instruction: given at the last reset; observations may bring another.
        seed: of the noise.
        asked: chunks since the reset; with the seed it decides the next one's noise.
    """

    instruction: str = ""
    seed: int = 0
    asked: int = 0

    def reset(self, instruction: str, seed: int) -> None:
        """A new episode begins."""
        self.instruction, self.seed, self.asked = instruction, seed, 0


@dataclass(frozen=True)
class Answer:
    """A chunk, and where the time went.

    Attributes:
        chunk: the policy's.
        queue_s: waited for the policy to be free [s].
        infer_s: the policy's own time, for the whole batch [s].
        batch: questions that were answered together.
    """

    chunk: ActionChunk
    queue_s: float
    infer_s: float
    batch: int


@dataclass(frozen=True)
class _Waiting:
    query: Query
    planned: Planned | None
    since: float = field(default_factory=time.perf_counter)
    future: Future[Answer] = field(default_factory=Future)


class PolicyThread:
    """Asks a policy from a thread of its own.

    Args:
        policy: used by nobody else until :meth:`close`.
        max_batch: questions that are answered together at most. 1 asks the policy as if it were local: answers are the
            same bit for bit, for one session at a time.
    """

    def __init__(self, policy: Policy, *, max_batch: int = 8):
        self.policy, self.max_batch = policy, batch_size(policy, max_batch)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether questions are still answered."""
        return self._thread.is_alive() and not self._closed.is_set()

    @property
    def waiting(self) -> int:
        """Questions that no batch has taken yet."""
        return self._queue.qsize()

    def submit(self, session: Session, observation: Observation, planned: Planned | None = None) -> Future[Answer]:
        """Ask the next question of a session, which must have no other one open.

        The future raises what the policy raised.

        Raises:
            PolicyFault: the thread is closed, or a plan is given that the policy cannot continue.
        """
        if planned is not None and not continues(self.policy, self.max_batch):
            raise PolicyFault("chunks that go on from a plan need a flow policy, served with a batch of 1")
        said = observation.instruction or session.instruction
        waiting = _Waiting(Query(replace(observation, instruction=said), session.seed, session.asked), planned)
        with self._lock:  # nothing is put behind the end, where nobody would answer it
            if not self.alive:
                raise PolicyFault(_CLOSED)
            self._queue.put(waiting)
        session.asked += 1
        return waiting.future

    def close(self, timeout: float = 30.0) -> None:
        """Answer what runs, refuse what waits. Safe to call more than once.

        Args:
            timeout: for what runs; a policy that does not answer is left to itself after that [s].
        """
        with self._lock:
            self._closed.set()
            self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closed.is_set():
            first = self._queue.get()
            if first is not None:
                self._answer([first, *self._more(self.max_batch - 1)])
        for waiting in self._more(self.waiting):
            if waiting.future.set_running_or_notify_cancel():
                waiting.future.set_exception(PolicyFault(_CLOSED))

    def _more(self, count: int) -> list[_Waiting]:
        """What waits already; nobody is made to wait for others to come."""
        found: list[_Waiting] = []
        while len(found) < count:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is not None:
                found.append(waiting)
        return found

    def _answer(self, waiting: Sequence[_Waiting]) -> None:
        batch = [item for item in waiting if item.future.set_running_or_notify_cancel()]
        if not batch:
            return
        begin = time.perf_counter()
        found = self._ask(batch)
        took = time.perf_counter() - begin
        for item, result in zip(batch, found, strict=True):
            if isinstance(result, Exception):
                item.future.set_exception(result)
            else:
                item.future.set_result(Answer(result, begin - item.since, took, len(batch)))

    def _ask(self, batch: Sequence[_Waiting]) -> Sequence[ActionChunk | Exception]:
        queries = [item.query for item in batch]
        try:
            if self.max_batch > 1 and isinstance(self.policy, BatchPolicy):
                found = self.policy.act_many(queries, len(queries))
                if len(found) != len(queries):
                    raise ValueError(f"{len(found)} answers to {len(queries)} questions")
                return found
            return [self._alone(queries[0], batch[0].planned)]
        except PolicyFault as fault:
            return [fault]
        except Exception as error:
            log.exception("the policy failed")
            if len(batch) == 1:
                return [error]
            return [self._ask([item])[0] for item in batch]  # only the culprit shall pay

    def _alone(self, query: Query, planned: Planned | None) -> ActionChunk:
        if query.number == 0:
            self.policy.reset(query.observation.instruction, seed=query.seed)
        if planned is not None and isinstance(self.policy, ContinuingPolicy):
            return self.policy.act_continuing(query.observation, planned.left, planned.delay)
        return self.policy.act(query.observation)
