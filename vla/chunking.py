"""From chunks to actions: when a policy is asked, and which row of which chunk is the next action.

::

    Synchronous    ask, wait, execute some rows, ask again          (the body waits, or stands still)
    Asynchronous   ask while rows of the last chunk are executed    (:mod:`vla.asynchronous`)

    Latest         the newest chunk's row counts
    Ensemble       all chunks that have a row for this step count, as in ACT

An executor counts the actions that were really taken. A chunk answers the observation that was made before action n, so
its row i is action n + i, however long the answer took.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32

from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk, Observation
from vla.protocols import Policy
from vla.transforms import Adapter


@dataclass(frozen=True)
class Decision:
    """What an executor wants done in one control step.

    Attributes:
        action: in the body's units; None if there is none in time: the body must hold still.
        chunk: that came in this step, in the body's units.
        latency: time it took to infer [s].
        human: whether a person decided, not the policy.
        row: time of the observation that the action's chunk answers [s], and which of its rows it is; None if it is not
            one chunk's.
    """

    action: Float32[np.ndarray, "a"] | None
    chunk: ActionChunk | None = None
    latency: float | None = None
    human: bool = False
    row: tuple[float, int] | None = None


class Executor(Protocol):
    """Asks a policy when it sees fit, and hands out one action a step."""

    def begin(self, instruction: str, *, seed: int) -> None:
        """A new episode; called once."""
        ...

    def looks(self) -> bool:
        """Whether the policy will see the coming observation, which needs pictures then; called before each step."""
        ...

    def step(self, observation: Observation) -> Decision:
        """The next action.

        Raises:
            PolicyFault: of the policy.
        """
        ...

    def report(self) -> dict[str, Any]:
        """Measurements of the episode, JSON values."""
        ...

    def close(self) -> None:
        """Leave the policy alone. Safe to call more than once."""
        ...


type MakeExecutor = Callable[[Policy, Adapter], Executor]


class Plan(Protocol):
    """Rows of chunks by the number of their action; never has a row that no chunk gave."""

    def add(self, start: int, rows: Float32[np.ndarray, "h a"]) -> None:
        """A chunk whose first row is action ``start``."""
        ...

    def place(self, number: int) -> int | None:
        """Which row of the chunk that was added last that action is; None if it is none of its rows alone."""
        ...

    def row(self, number: int) -> Float32[np.ndarray, "a"] | None:
        """The action of that number, or None."""
        ...

    def left(self, number: int) -> Float32[np.ndarray, "k a"]:
        """What is planned from that action on; may be empty."""
        ...


class Latest:
    """The plan that the newest chunk is."""

    def __init__(self):
        self._start, self._rows = 0, np.zeros((0, 0), np.float32)

    def add(self, start: int, rows: Float32[np.ndarray, "h a"]) -> None:
        """Replaces what was planned."""
        self._start, self._rows = start, rows

    def place(self, number: int) -> int | None:
        """See :class:`Plan`."""
        place = number - self._start
        return place if 0 <= place < len(self._rows) else None

    def row(self, number: int) -> Float32[np.ndarray, "a"] | None:
        """See :class:`Plan`."""
        left = self.left(number)
        return left[0] if len(left) else None

    def left(self, number: int) -> Float32[np.ndarray, "k a"]:
        """See :class:`Plan`."""
        return self._rows[number - self._start :] if number >= self._start else self._rows[:0]


class Ensemble:
    """Averages what all chunks say of a step, the oldest with the largest weight (Zhao et al. 2023, "ACT").

    Numbers are averaged one by one, rotations too: chunks must agree well enough for that.

    Args:
        decay: weights are ``exp(-decay * i)``, 0 for the oldest chunk; ACT's 0.01.
    """

    def __init__(self, decay: float = 0.01):
        if decay < 0:
            raise ConfigError(f"the decay of an ensemble starts at 0, found {decay}")
        self.decay = decay
        self._chunks: list[tuple[int, np.ndarray]] = []

    def add(self, start: int, rows: Float32[np.ndarray, "h a"]) -> None:
        """One more opinion."""
        self._chunks.append((start, rows))

    def place(self, number: int) -> int | None:
        """See :class:`Plan`; what is averaged is nobody's row."""
        return None

    def row(self, number: int) -> Float32[np.ndarray, "a"] | None:
        """See :class:`Plan`; chunks that end before this action are forgotten."""
        self._chunks = [(start, rows) for start, rows in self._chunks if number < start + len(rows)]
        left = self.left(number)
        return left[0] if len(left) else None

    def left(self, number: int) -> Float32[np.ndarray, "k a"]:
        """See :class:`Plan`."""
        parts = [rows[number - start :] for start, rows in self._chunks if start <= number < start + len(rows)]
        if not parts:
            return np.zeros((0, 0), np.float32)
        total, weights = np.zeros((max(map(len, parts)), parts[0].shape[1])), np.zeros(max(map(len, parts)))
        for place, part in enumerate(parts):
            weight = np.exp(-self.decay * place)
            total[: len(part)] += weight * part
            weights[: len(part)] += weight
        return (total / weights[:, None]).astype(np.float32)


class Synchronous:
    """Asks and waits for the answer, executes its first rows, then asks again.

    Args:
        policy: asked in its own units.
        adapter: between it and the body.
        execute: rows of each chunk to execute before asking again; None for all.
        plan: how chunks become actions.

    Raises:
        ConfigError: ``execute`` is below 1.
    """

    def __init__(self, policy: Policy, adapter: Adapter, execute: int | None = None, plan: Plan | None = None):
        if execute is not None and execute < 1:
            raise ConfigError(f"at least one action of a chunk must be executed, found {execute}")
        self.policy, self.adapter, self.execute = policy, adapter, execute
        self._plan = plan or Latest()
        self._taken = self._due = 0
        self._answered = 0.0  # time of the observation that the newest chunk answers

    def begin(self, instruction: str, *, seed: int) -> None:
        """See :class:`Executor`."""
        self.policy.reset(instruction, seed=seed)

    def looks(self) -> bool:
        """See :class:`Executor`."""
        return self._taken >= self._due

    def step(self, observation: Observation) -> Decision:
        """See :class:`Executor`.

        Raises:
            PolicyFault: of the policy, or its chunk has fewer rows than are to be executed.
        """
        chunk = latency = None
        if self.looks():
            answer, latency = timed(self.policy.act, self.adapter.observation(observation))
            if self.execute is not None and len(answer.actions) < self.execute:
                raise PolicyFault(f"a chunk of {len(answer.actions)} rows cannot be executed for {self.execute}")
            self._plan.add(self._taken, answer.actions)
            self._due, self._answered = self._taken + (self.execute or len(answer.actions)), answer.time
            chunk = self.adapter.chunk(answer)
        row, place = self._plan.row(self._taken), self._plan.place(self._taken)
        self._taken += 1
        action = None if row is None else self.adapter.action(row)
        return Decision(action, chunk, latency, row=None if place is None else (self._answered, place))

    def report(self) -> dict[str, Any]:
        """Nothing that the steps do not say."""
        return {}

    def close(self) -> None:
        """Nothing to end."""


def timed[T](work: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    """What the work returns, and how long it took [s]."""
    begin = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - begin


def synchronous(execute: int | None = None) -> MakeExecutor:
    """The body waits for each chunk."""
    return lambda policy, adapter: Synchronous(policy, adapter, execute)


def ensembling(decay: float = 0.01) -> MakeExecutor:
    """ACT's way: the policy is asked at every step, and the body waits for it."""
    return lambda policy, adapter: Synchronous(policy, adapter, 1, Ensemble(decay))
