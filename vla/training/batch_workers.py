"""Results made ahead by processes that share nothing but the memory that the results lie in; always in order.

::

    trainer ── spawns ─▶ leader ── reads what is needed once, then forks ─▶ workers
       │  ▲                                                                    │
       │  └── a result: a few bytes, and where its arrays lie in the slot ─────┘
       └───── a number, and a slot whose arrays nobody has any more ──────────▶ worker (number modulo workers)

A worker writes pictures where the trainer finds them: nothing is copied, no page is fresh, and nobody waits for another
one's interpreter lock. Workers share the pages of the leader, which has no threads when it forks. Whoever dies takes
the others along: workers with their leader (the kernel does it), the leader with its first lost worker, in the same
way, and all with the trainer.
"""

import faulthandler
import gc
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
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
        ahead: results for each worker that may be in the making, waiting, or in the caller's hands.

    Raises:
        ConfigError: ``make`` cannot be pickled.
        VlaError: that ``make`` raised, when its turn comes; or a process died.
    """
    team = _Team(make, start, workers, ahead)
    try:
        while True:
            yield team.next()
    finally:
        team.close()


class _Team:
    """All the workers and slots, as the trainer sees them.

    There is one slot more than there are workers at least, since the caller holds one. With no more than that each
    worker waits whenever another one takes longer; twice as many even that out.
    """

    def __init__(self, make: Make, start: int, workers: int, ahead: int):
        pipes = [get_context("spawn").Pipe() for _ in range(workers)]
        self._workers = [_Worker(ours) for ours, _ in pipes]
        self._slots = [Slot() for _ in range(max(workers * ahead, workers + 1))]
        self._free = list(range(len(self._slots)))[::-1]
        self._lent: set[int] = set()
        self._begun = deque[int]()  # slots of the results that were asked for, in their order
        self._number = start  # of the result to be handed out next
        theirs = [end for _, end in pipes]
        try:
            self._process = start_child(_lead, (theirs, make), threads=1)
        except (pickle.PicklingError, TypeError, AttributeError) as error:  # pickle has no error of its own for most
            raise ConfigError(f"what makes the batches cannot go to another process, use threads: {error}") from error
        finally:
            for end in theirs:
                end.close()  # or the end of a worker would go unnoticed

    def next(self) -> Any:
        """The next result."""
        returned = [slot for slot in self._lent if self._slots[slot].returned()]
        self._lent -= set(returned)
        self._free += returned
        if not self._free and not self._begun:  # the caller keeps all that it was given
            self._free.append(len(self._slots))
            self._slots.append(Slot())
        try:
            while self._free:
                number, slot = self._number + len(self._begun), self._free.pop()
                self._begun.append(slot)
                self._worker(number).ask(number, slot, self._slots[slot].handle)
            answer = self._worker(self._number).pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(STOP_S)
            cause = cause_of_death(self._process.exitcode)
            raise VlaError(f"a process that makes batches died ({cause})") from error
        self._number += 1
        slot = self._begun.popleft()
        self._lent.add(slot)
        if isinstance(answer, Packed):
            return self._slots[slot].unpack(answer)
        raise answer

    def close(self) -> None:
        """End the processes, and give the memory back."""
        for worker in self._workers:
            worker.pipe.close()
        for slot in self._slots:
            slot.close()
        end_child(self._process, at_once=True)

    def _worker(self, number: int) -> "_Worker":
        return self._workers[number % len(self._workers)]


class _Worker:
    """One of them."""

    def __init__(self, pipe: Connection):
        self.pipe = pipe
        self._known: set[int] = set()  # slots that it has a handle of

    def ask(self, number: int, slot: int, handle: int) -> None:
        """Have it make a result in a slot, after those that it was asked for before."""
        self.pipe.send((number, slot, slot not in self._known))
        if slot not in self._known:
            reduction.send_handle(self.pipe, handle, 0)
            self._known.add(slot)


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
    slots: dict[int, Slot] = {}
    try:
        while True:
            number, place, new = pipe.recv()
            if new:
                slots[place] = Slot(reduction.recv_handle(pipe))
            slots[place].begin()
            try:
                answer = slots[place].pack(make(number, slots[place].empty))
            except Exception as error:  # noqa: BLE001 - whatever it is, it goes to the trainer when its turn comes
                answer = _portable(error)
            pipe.send(answer)
    except (EOFError, OSError):
        return


def _portable(error: Exception) -> Exception:
    """An error that arrives as it was; one that cannot travel becomes its text."""
    if not isinstance(error, VlaError):
        traceback.print_exc()
    try:
        return pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - classes of others may fail in any way
        return VlaError(f"{type(error).__name__}: {error}")
