"""Results made ahead by processes that share nothing but the memory that the results lie in; always in order.

::

    trainer ── spawns ─▶ leader ── reads what is needed once, then forks ─▶ workers
       │  ▲                                                                    │
       │  └── a result: a few bytes, and where its arrays lie in the slot ─────┘
       └───── a number, and a slot of the worker's whose arrays nobody has ───▶ worker (number modulo workers)

A worker writes pictures where the trainer finds them: nothing is copied, no page is fresh, and nobody waits for another
one's interpreter lock. Workers share the pages of the leader, which has no threads when it forks. Whoever dies takes
the others along: workers with their leader (the kernel does it), the leader with its first lost worker, in the same
way, and all with the trainer.
"""

import faulthandler
import gc
import itertools
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing import get_context, reduction
from multiprocessing.connection import Connection
from typing import Any

from vla.child_process import STOP_S, become_child, cause_of_death, die_with_parent, end_child, start_child
from vla.errors import ConfigError, VlaError
from vla.training.malloc import keep_freed_memory
from vla.training.slot import Empty, Packed, Slot

Make = Callable[[int, Empty], Any]


def made_by_processes(make: Make, start: int, workers: int, ahead: int) -> Generator[Any]:
    """What ``make`` gives for ``start``, ``start + 1`` and so on, without end.

    Args:
        make: picklable; arrays that it has from its second argument are not copied.
        start: first number.
        workers: processes that make results.
        ahead: results of each worker that may be in the making, waiting, or in the caller's hands.

    Raises:
        ConfigError: ``make`` cannot be pickled.
        Exception: that ``make`` raised, when its turn comes.
        VlaError: a process died.
    """
    team = _Team(make, start, workers, ahead)
    try:
        while True:
            yield team.next()
    finally:
        team.close()


class _Team:
    """All the workers, as the trainer sees them."""

    def __init__(self, make: Make, start: int, workers: int, ahead: int):
        pipes = [get_context("spawn").Pipe() for _ in range(workers)]
        self._workers = [_Worker(ours, start + place, workers, ahead) for place, (ours, _) in enumerate(pipes)]
        self._turns = itertools.cycle(self._workers)
        theirs = [end for _, end in pipes]
        try:
            self._process = start_child(_lead, (theirs, make), threads=1)
        except (pickle.PicklingError, TypeError, AttributeError) as error:  # pickle has no error of its own for most
            self._close_workers()
            raise ConfigError(f"what makes the batches cannot go to another process, use threads: {error}") from error
        finally:
            for end in theirs:
                end.close()  # or the end of a worker would go unnoticed

    def next(self) -> Any:
        """The next result."""
        try:
            for worker in self._workers:
                worker.ask()
            result, error = next(self._turns).receive()
        except (EOFError, OSError) as lost:
            self._process.join(STOP_S)
            cause = cause_of_death(self._process.exitcode)
            raise VlaError(f"a process that makes batches died ({cause})") from lost
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End the processes, and give the memory back."""
        self._close_workers()
        end_child(self._process, at_once=True)

    def _close_workers(self) -> None:
        for worker in self._workers:
            worker.close()


class _Worker:
    """One of them, with its slots.

    No other worker writes to these: memory that another core wrote to last is slower to write to.
    """

    def __init__(self, pipe: Connection, number: int, step: int, slots: int):
        self._pipe = pipe
        self._number, self._step = number, step  # of the result that it is asked for next
        self._slots = [Slot() for _ in range(slots)]
        self._known = 0  # slots that it has a handle of
        self._free = list(range(slots))[::-1]
        self._lent: list[int] = []
        self._begun = deque[int]()

    def ask(self) -> None:
        """For a result in each slot that nobody has an array of any more; and for one at least."""
        self._free += [slot for slot in self._lent if self._slots[slot].returned()]
        self._lent = [slot for slot in self._lent if slot not in self._free]
        if not self._free and not self._begun:  # the caller keeps all that it was given
            self._free.append(len(self._slots))
            self._slots.append(Slot())
        while self._free:
            slot = self._free.pop()
            self._pipe.send((self._number, slot))
            if slot == self._known:
                reduction.send_handle(self._pipe, self._slots[slot].handle, 0)
                self._known += 1
            self._number += self._step
            self._begun.append(slot)

    def receive(self) -> tuple[Any, Exception | None]:
        """The first of the results that it was asked for, or the error that was raised instead."""
        answer = self._pipe.recv()
        slot = self._begun.popleft()
        self._lent.append(slot)
        if isinstance(answer, Packed):
            return self._slots[slot].unpack(answer), None
        return None, answer

    def close(self) -> None:
        """Give the memory back; the process sees the pipe's end."""
        self._pipe.close()
        for slot in self._slots:
            slot.close()


def _lead(pipes: Sequence[Connection], make: Make) -> None:
    """The leader: its arguments are read, now it forks, waits, and ends as its first lost worker did."""
    become_child(None)
    keep_freed_memory()
    gc.freeze()  # a collection would write to every page that is shared
    leader = os.getpid()
    for place, pipe in enumerate(pipes):
        if not os.fork():
            _become_worker(leader, pipes[place:], make)
        pipe.close()
    for _ in pipes:
        _, status = os.wait()
        if status:
            _end_as(os.waitstatus_to_exitcode(status))


def _end_as(code: int) -> None:
    """By the same signal, or with the same exit code."""
    faulthandler.disable()
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _become_worker(leader: int, pipes: Sequence[Connection], make: Make) -> None:
    """The first pipe is the worker's own; the others are those of workers that are still to come."""
    code = 1
    try:
        die_with_parent(leader)
        for other in pipes[1:]:
            other.close()
        _work(pipes[0], make)
        code = 0
    except Exception:  # noqa: BLE001 - its traceback is all that is left to say
        traceback.print_exc()
    finally:
        os._exit(code)  # what the leader would do at its end is not the worker's to do


def _work(pipe: Connection, make: Make) -> None:
    """A worker: makes the results that it is asked for, until the trainer is gone."""
    slots: list[Slot] = []
    with suppress(EOFError, ConnectionError):
        while True:
            number, place = pipe.recv()
            if place == len(slots):
                slots.append(Slot(reduction.recv_handle(pipe)))
            slots[place].begin()
            try:
                answer = slots[place].pack(make(number, slots[place].empty))
            except Exception as error:  # noqa: BLE001 - whatever it is, it goes to the trainer when its turn comes
                answer = _portable(error)
            pipe.send(answer)


def _portable(error: Exception) -> Exception:
    """An error that arrives as it was; one that cannot travel becomes its text."""
    if not isinstance(error, VlaError):
        traceback.print_exc()
    try:
        return pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - classes of others may fail in any way
        return VlaError(f"{type(error).__name__}: {error}")
