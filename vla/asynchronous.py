"""Inference while the body moves: a thread asks the policy, the loop goes on with the rows it has.

::

    action    n ........... n+d ....... n+h
    question  ├── thread ──┤                the observation before action n; d actions are taken meanwhile
    chunk     0 1 2 ... d-1 d d+1 ... h-1   rows 0 to d-1 are not used: others were executed in their place

A chunk is aligned on the actions that were taken, not on an estimate of how long inference takes. Where the next action
is missing, because the answer is late, there is none: the body holds still until it comes; nothing is invented.

With real-time chunking (Black et al. 2025, "Real-Time Execution of Action Chunking Flow Policies") the policy is told
what is still planned, and how much of it will have been executed when it answers, and makes a chunk that goes on from
there.
"""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from vla.chunking import Decision, Ensemble, Latest, MakeExecutor, Plan, timed
from vla.errors import ConfigError
from vla.experience import ActionChunk, Observation
from vla.protocols import Policy
from vla.transforms import Adapter

RECENT = 10
"""Measured delays that the next one is estimated from, by their largest; the paper's buffer."""


@runtime_checkable
class ContinuingPolicy(Policy, Protocol):
    """A policy whose chunks can go on from what is already planned."""

    @property
    def continues(self) -> bool:
        """Whether it really can: that may depend on its model, or on the server it runs on."""
        ...

    def act_continuing(self, observation: Observation, left: Float32[np.ndarray, "k a"], delay: int) -> ActionChunk:
        """A chunk whose first ``delay`` rows are those of ``left``, and whose next ones lean on the rest of it.

        Args:
            observation: in the policy's units.
            left: planned actions from this observation on, at least one, in the policy's units.
            delay: how many of them will have been executed when the answer is there.
        """
        ...


def can_continue(policy: Policy) -> bool:
    """Whether chunks of the policy can go on from a plan."""
    return isinstance(policy, ContinuingPolicy) and policy.continues


class Worker(Protocol):
    """Does one piece of work at a time beside the loop."""

    def start(self, work: Callable[[], Any]) -> None:
        """Begin; what was begun before must be fetched first."""
        ...

    def done(self) -> bool:
        """Whether :meth:`result` returns at once."""
        ...

    def result(self) -> Any:
        """What the work returned, waiting for it; raises what it raised."""
        ...

    def close(self) -> None:
        """Wait for what runs, and end. Safe to call more than once."""
        ...


class ThreadWorker:
    """Works in a thread of its own."""

    def __init__(self):
        self._pool = ThreadPoolExecutor(1, "inference")
        self._future: Future[Any] | None = None

    def start(self, work: Callable[[], Any]) -> None:
        """See :class:`Worker`."""
        self._future = self._pool.submit(work)

    def done(self) -> bool:
        """See :class:`Worker`."""
        return self._future is not None and self._future.done()

    def result(self) -> Any:
        """See :class:`Worker`."""
        if self._future is None:
            raise RuntimeError("nothing was started")
        return self._future.result()

    def close(self) -> None:
        """See :class:`Worker`."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Asynchronous:
    """Asks while it hands out actions; see the module's docstring.

    The first answer of an episode is waited for, the body standing still. It does not count in any estimate, nor does
    the first one that goes on from a plan: each finds its way through the policy cold.

    Args:
        policy: used by the worker alone between :meth:`begin` and :meth:`close`.
        adapter: between it and the body.
        execute: actions to take, at least, between two questions.
        plan: how chunks become actions.
        continuing: ask for chunks that go on from what is planned (real-time chunking).
        worker: where inference happens; a thread if None.

    Raises:
        ConfigError: ``execute`` is below 1, or the policy cannot continue chunks.
    """

    def __init__(
        self,
        policy: Policy,
        adapter: Adapter,
        *,
        execute: int = 1,
        plan: Plan | None = None,
        continuing: bool = False,
        worker: Worker | None = None,
    ):
        if execute < 1:
            raise ConfigError(f"at least one action must be taken between two questions, found {execute}")
        if continuing and not can_continue(policy):
            kind = type(policy).__name__
            raise ConfigError(f"real-time chunking needs a policy that can continue a chunk, and this {kind} cannot")
        self.policy, self.adapter, self.execute, self.continuing = policy, adapter, execute, continuing
        self._plan, self._worker = plan or Latest(), worker or ThreadWorker()
        self._taken, self._asked_at, self._open = 0, -execute, False
        self._chunks = self._late = self._stopped = 0
        self._delays: list[int] = []
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._latencies: list[float] = []
        self._new: tuple[ActionChunk, float] | None = None
        self._goes_on = False  # whether the open question is for a chunk that goes on from a plan
        self._warm: set[bool] = set()  # ways of asking that were answered before
        self._guess = execute  # of the delay, until one is measured; rather too long, which only binds more of a chunk
        self._looking = False
        self._answered = 0.0  # time of the observation that the newest chunk in the plan answers

    def begin(self, instruction: str, *, seed: int) -> None:
        """See :class:`~vla.chunking.Executor`."""
        self.policy.reset(instruction, seed=seed)

    def looks(self) -> bool:
        """See :class:`~vla.chunking.Executor`."""
        self._collect()
        waited = self._taken - self._asked_at >= self.execute or self._plan.row(self._taken) is None
        self._looking = not self._open and waited
        return self._looking

    def step(self, observation: Observation) -> Decision:
        """See :class:`~vla.chunking.Executor`."""
        if self._looking:
            self._ask(observation)
        if self._open and (self._chunks == 0 or self._worker.done()):
            self._collect(wait=True)
        chunk, latency = self._new or (None, None)
        self._new = None
        row, place = self._plan.row(self._taken), self._plan.place(self._taken)
        if row is None:
            self._stopped += 1
            return Decision(None, chunk, latency)
        self._taken += 1
        return Decision(
            self.adapter.action(row), chunk, latency, row=None if place is None else (self._answered, place)
        )

    def report(self) -> dict[str, Any]:
        """Delays in actions, inference times, and how often there was no action in time."""
        found: dict[str, Any] = {"chunks": self._chunks, "late_chunks": self._late, "stopped_steps": self._stopped}
        if self._delays:
            found["delay_steps"] = {"median": float(np.median(self._delays)), "max": max(self._delays)}
            found["latency_s"] = {"median": float(np.median(self._latencies)), "max": max(self._latencies)}
        return found

    def close(self) -> None:
        """See :class:`~vla.chunking.Executor`; waits for the answer that is still awaited."""
        self._worker.close()

    def _ask(self, observation: Observation) -> None:
        seen = self.adapter.observation(observation)
        work, arguments, self._goes_on = self.policy.act, (seen,), False
        if self.continuing and isinstance(self.policy, ContinuingPolicy):
            left = self._plan.left(self._taken)
            if len(left):
                delay = min(len(left), max(self._recent, default=self._guess))
                work, arguments = self.policy.act_continuing, (seen, left.copy(), delay)
                self._goes_on = True
        self._asked_at, self._open, self._looking = self._taken, True, False
        self._worker.start(lambda: timed(work, *arguments))

    def _collect(self, *, wait: bool = False) -> None:
        """Take an answer that is there."""
        if not self._open or not (wait or self._worker.done()):
            return
        answer, latency = self._worker.result()
        self._open = False
        delay = self._taken - self._asked_at
        if self._goes_on in self._warm:
            self._delays.append(delay)
            self._recent.append(delay)
            self._latencies.append(latency)
        else:
            self._guess = max(self.execute, delay, math.ceil(latency / answer.dt))
        self._warm.add(self._goes_on)
        self._chunks += 1
        if delay < len(answer.actions):
            self._plan.add(self._asked_at, answer.actions)
            self._answered = answer.time
        else:
            self._late += 1  # all of its actions lie in the past
        self._new = self.adapter.chunk(answer), latency


def asynchronous(execute: int = 1, *, worker: Callable[[], Worker] = ThreadWorker) -> MakeExecutor:
    """The newest chunk counts from when it is there."""
    return lambda policy, adapter: Asynchronous(policy, adapter, execute=execute, worker=worker())


def asynchronous_ensembling(decay: float = 0.01, *, worker: Callable[[], Worker] = ThreadWorker) -> MakeExecutor:
    """All chunks that are there count, as in ACT; the policy is asked as often as it can answer."""
    return lambda policy, adapter: Asynchronous(policy, adapter, plan=Ensemble(decay), worker=worker())


def realtime(execute: int = 1, *, worker: Callable[[], Worker] = ThreadWorker) -> MakeExecutor:
    """Each chunk goes on from the one before (real-time chunking); the policy must be a :class:`ContinuingPolicy`."""
    return lambda policy, adapter: Asynchronous(policy, adapter, execute=execute, continuing=True, worker=worker())


def prefix_weights(horizon: int, delay: int, end: int) -> Float32[np.ndarray, "horizon"]:
    """How much each row of a new chunk is bound to the plan it goes on from (the paper's soft mask, equation 5).

    1 for the first ``delay`` rows, then falling to 0 at ``end``, from where nothing was planned, whatever the delay.
    """
    weights = np.zeros(horizon, np.float32)
    end = min(end, horizon)
    delay = min(delay, end)
    for place in range(end):
        distance = (end - place) / (end - delay + 1)
        weights[place] = 1.0 if place < delay else distance * math.expm1(distance) / (math.e - 1)
    return weights
