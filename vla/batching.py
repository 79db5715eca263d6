"""Inside the process that holds the policy: questions of many simulators in, batches of one fixed size to the policy.

A batch goes off when it is full, when every simulator is waiting, or when the first one has waited for as long as the
last inference took: no one waits much longer than for an answer, and while the policy works on some episodes the
others step. When a batch goes off decides the speed only, never an answer (:class:`~vla.protocols.BatchPolicy`).
"""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vla.child_process import out_of_memory
from vla.errors import PolicyFault
from vla.experience import ActionChunk
from vla.protocols import BatchPolicy, Policy, Query

type Reply = tuple[str, Any]
"""``("chunk", ActionChunk)``, ``("fault", PolicyFault)``, or ``("crash", text)`` and ``("starved", text)``: the policy
raised something else, or ran out of memory."""


@dataclass
class Batcher[Client]:
    """Collects questions and answers them.

    Attributes:
        answer: questions in, one reply for each out.
        size: of a batch at most.
        clients: those who may ask.
    """

    answer: Callable[[Sequence[tuple[Client, Query]]], list[Reply]]
    size: int
    clients: list[Client] = field(default_factory=list)
    _waiting: list[tuple[Client, Query]] = field(default_factory=list)
    _since: float = 0.0
    _lasted: float = 0.0

    def ask(self, client: Client, query: Query) -> None:
        """Line up."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append((client, query))

    def leave(self, client: Client) -> None:
        """Forget a client and what it asked."""
        self.clients = [other for other in self.clients if other is not client]
        self._waiting = [item for item in self._waiting if item[0] is not client]

    def patience(self) -> float | None:
        """Seconds until :meth:`work` should be called whatever happens; None while nobody waits."""
        if not self._waiting:
            return None
        if len(self._waiting) >= min(self.size, len(self.clients)):
            return 0.0
        return max(0.0, self._since + self._lasted - time.monotonic())

    def work(self) -> list[tuple[Client, Reply]]:
        """Answer a batch if it is time to; the longest waiting come first."""
        if self.patience() != 0.0:
            return []
        batch, self._waiting = self._waiting[: self.size], self._waiting[self.size :]
        begin = time.monotonic()
        replies = self.answer(batch)
        self._since = time.monotonic()
        self._lasted = self._since - begin
        return [(client, reply) for (client, _), reply in zip(batch, replies, strict=True)]


def together(policy: BatchPolicy, size: int) -> Callable[[Sequence[tuple[Any, Query]]], list[Reply]]:
    """Answers of one policy to all; if a batch fails, each question alone, so that only the culprit pays."""

    def answer(batch: Sequence[tuple[Any, Query]]) -> list[Reply]:
        queries = [query for _, query in batch]
        try:
            return [_reply(found) for found in policy.act_many(queries, size)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it becomes the crash of one row
            traceback.print_exc()
            if len(queries) == 1:
                return [_crashed(error)]
        return [reply for item in batch for reply in answer([item])]

    return answer


def one_by_one(policies: Callable[[Any], Policy]) -> Callable[[Sequence[tuple[Any, Query]]], list[Reply]]:
    """Answers of policies that each remember one episode: every client has its own, asked in turn."""

    def answer(batch: Sequence[tuple[Any, Query]]) -> list[Reply]:
        return [_alone(policies(client), query) for client, query in batch]

    return answer


def _alone(policy: Policy, query: Query) -> Reply:
    try:
        if query.number == 0:
            policy.reset(query.observation.instruction, seed=query.seed)
        return _reply(policy.act(query.observation))
    except PolicyFault as fault:
        return _reply(fault)
    except Exception as error:  # noqa: BLE001 - whatever it is, it becomes the crash of one row
        traceback.print_exc()
        return _crashed(error)


def _reply(found: ActionChunk | PolicyFault) -> Reply:
    return ("fault", found) if isinstance(found, PolicyFault) else ("chunk", found)


def _crashed(error: Exception) -> Reply:
    return "starved" if out_of_memory(error) else "crash", f"{type(error).__name__}: {error}"
