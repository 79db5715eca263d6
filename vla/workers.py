"""Jobs over processes that may die: a crash costs the job that caused it, nothing else.

::

    parent ──job──▶ worker      one pipe each, so that a killed worker leaves no lock behind
           ◀─answer─            the parent alone decides who gets what, and knows what a dead worker was doing
"""

import multiprocessing
import signal
import sys
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Generator, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol

from vla.child_process import (
    STOP_S,
    become_child,
    cause_of_death,
    cores,
    end_child,
    oom_kills,
    out_of_memory,
    resident_bytes,
    start_child,
)
from vla.errors import ConfigError, VlaError

_LOOK_S = 0.25  # between looks at the processes' memory, where that is limited
DEATHS_WHILE_LOADING = 3  # one may be an accident
LOADING_S = 1800.0  # large weights from a slow disk; not part of a job's time


CrashKind = Literal["crash", "time-out", "out of memory"]
type Waiting = dict[Hashable, deque[tuple[Any, int]]]
"""Jobs by group, each with the number of its next attempt."""


class Handler(Protocol):
    """Does the work inside a process; made there, once, by a factory that pickles."""

    def __call__(self, job: Any) -> Any:
        """The answer to a job.

        Raises:
            VlaError: the whole run cannot go on, e.g. a policy that does not fit; any other exception is a crash of
                this job, and the process is replaced.
        """
        ...

    def close(self) -> None:
        """Give back what the process holds."""
        ...


@dataclass(frozen=True)
class Crash:
    """In place of an answer: the job took its process down, in each of its attempts.

    Attributes:
        error: the exception, or the signal the process died of.
        kind: what it was.
        tried: False if the process left before it began the job, see :class:`Unequipped`.
    """

    error: str
    kind: CrashKind = "crash"
    tried: bool = True


class Unequipped(Exception):
    """Raised by a handler that lost what it was started with before it began a job.

    That is not the job's doing: the process is replaced, and the job goes to another one without counting as tried.
    """


@dataclass(frozen=True)
class Answer:
    """What came of a job.

    Attributes:
        job: as it was given.
        value: what the handler returned, or a :class:`Crash`.
        attempts: how often it was tried.
    """

    job: Any
    value: Any
    attempts: int


Equip = Callable[[], AbstractContextManager[Callable[[], Handler]]]
"""Entered in the parent around each start of a process; gives the factory that is pickled into that one."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    group: Hashable = None
    job: Any = None
    busy: bool = False
    loaded: bool = False
    since: float = field(default_factory=time.monotonic)
    kills: int = 0  # of the kernel for want of memory, before this process was started


class Crew:
    """Processes that answer jobs, started as they are needed and kept for the next call; a context manager.

    Ctrl-C reaches this process only, which then stops them (:mod:`vla.child_process`).

    Args:
        factory: makes the handler inside each process; pickled.
        workers: processes at most.
        log: what the processes print is appended here; None leaves it on standard error.
        memory_gb: a process that holds more [GiB] is killed, which costs its job only; None for no limit.
        equip: gives each process a factory of its own, with connections that only it has; instead of ``factory``.

    Raises:
        ConfigError: ``workers`` or ``memory_gb`` is not positive.
    """

    def __init__(
        self,
        factory: Callable[[], Handler],
        workers: int,
        *,
        log: Path | None = None,
        memory_gb: float | None = None,
        equip: Equip | None = None,
    ):
        if workers < 1:
            raise ConfigError(f"there must be at least one worker, found {workers}")
        if memory_gb is not None and memory_gb <= 0:
            raise ConfigError(f"a process needs memory, found a limit of {memory_gb} GiB")
        self.factory, self.workers, self.log, self.equip = factory, workers, log, equip
        self.memory = None if memory_gb is None else int(memory_gb * 2**30)
        self._crew: list[_Worker] = []

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop(at_once=kind is not None)

    def run(
        self,
        jobs: Sequence[Any],
        *,
        group: Callable[[Any], Hashable] = lambda job: None,
        attempts: int = 2,
        timeout_s: float | None = None,
    ) -> Generator[Answer]:
        """Answers as they arrive, in no particular order; leaving early stops the processes.

        Args:
            jobs: pickled one by one.
            group: a process prefers jobs of the group it had last, so that what it compiled is used again.
            attempts: how often a job is tried in all when its process crashes.
            timeout_s: a job that takes longer [s] counts as a crash; None for no limit.

        Raises:
            VlaError: a handler or the factory raised it, or processes keep dying before they can take a job.
        """
        waiting = queues(jobs, group)
        unloaded = 0
        try:
            while any(waiting.values()) or any(worker.busy for worker in self._crew):
                self._hand_out(waiting)
                for worker in _ready(self._crew, timeout_s, self.memory):
                    answer = _collect(worker, timeout_s, self.memory)
                    if answer is None:
                        continue
                    if isinstance(answer, Crash):
                        self._crew.remove(worker)
                        _end([worker], at_once=True)
                        if not worker.busy:
                            continue
                    job, attempt = worker.job
                    if isinstance(answer, Crash) and not worker.loaded:
                        unloaded += 1
                        if unloaded >= DEATHS_WHILE_LOADING:
                            raise VlaError(f"processes do not live long enough to take a job: {answer.error}")
                        waiting[worker.group].append((job, attempt))
                    elif isinstance(answer, Crash) and not answer.tried:
                        waiting[worker.group].append((job, attempt))
                    elif isinstance(answer, Crash) and attempt < attempts:
                        waiting[worker.group].append((job, attempt + 1))
                    else:
                        worker.busy = False
                        yield Answer(job, answer, attempt)
        except BaseException:
            self._stop(at_once=True)
            raise

    def _hand_out(self, waiting: Waiting) -> None:
        """A job to everyone who is idle, and new processes while there are more jobs than processes."""
        queued = sum(len(queue) for queue in waiting.values())
        busy = sum(worker.busy for worker in self._crew)
        while len(self._crew) < min(self.workers, queued + busy):
            self._crew.append(_start(self.factory, self.equip, self.log, self.workers))
        for worker in self._crew:
            if not worker.busy and any(waiting.values()):
                _assign(worker, self._crew, waiting)

    def _stop(self, *, at_once: bool) -> None:
        crew, self._crew = self._crew, []
        _end(crew, at_once=at_once)


def _start(factory: Callable[[], Handler], equip: Equip | None, log: Path | None, share: int) -> _Worker:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    kills = oom_kills()
    with nullcontext(factory) if equip is None else equip() as made:
        process = start_child(_work, (theirs, made, log), threads=cores() // share)
    theirs.close()  # or the end of the process would not be seen at our end
    return _Worker(process, ours, kills=kills)


def queues(jobs: Sequence[Any], group: Callable[[Any], Hashable]) -> Waiting:
    """All jobs, before their first attempt."""
    waiting: Waiting = defaultdict(deque)
    for job in jobs:
        waiting[group(job)].append((job, 1))
    return waiting


def next_group(last: Hashable, taken: Collection[Hashable], waiting: Waiting) -> Hashable:
    """Whose job is next: the same group's, else the fullest's that nobody works on, else the fullest's.

    Args:
        last: group of the job that the process had before.
        taken: groups that processes work on.
        waiting: at least one job.
    """
    if waiting.get(last):
        return last
    return max((key for key, queue in waiting.items() if queue), key=lambda key: (key not in taken, len(waiting[key])))


def _assign(worker: _Worker, crew: list[_Worker], waiting: Waiting) -> None:
    key = next_group(worker.group, {other.group for other in crew if other.busy}, waiting)
    worker.group, worker.job, worker.busy, worker.since = key, waiting[key].popleft(), True, time.monotonic()
    try:
        worker.pipe.send(worker.job[0])
    except (BrokenPipeError, ConnectionResetError):
        return  # it died meanwhile: collecting will say so


def _ready(crew: list[_Worker], timeout_s: float | None, memory: int | None) -> list[_Worker]:
    """Workers with something to say, dead, late and too large ones included."""
    limit = None if memory is None else _LOOK_S
    if timeout_s is not None:
        left = max(0.0, min(_deadline(worker, timeout_s) for worker in crew if worker.busy) - time.monotonic())
        limit = left if limit is None else min(left, limit)
    heard = set(wait([worker.pipe for worker in crew], limit))
    now = time.monotonic()
    late = {id(w) for w in crew if timeout_s is not None and w.busy and now >= _deadline(w, timeout_s)}
    large = {id(w) for w in crew if memory is not None and w.busy and resident_bytes(w.process.pid) > memory}
    return [worker for worker in crew if worker.pipe in heard or id(worker) in late | large]


def _deadline(worker: _Worker, timeout_s: float) -> float:
    return worker.since + (timeout_s if worker.loaded else max(timeout_s, LOADING_S))


def _collect(worker: _Worker, timeout_s: float | None, memory: int | None) -> Any:
    """The handler's answer or a Crash; None if there is nothing to do about what was heard."""
    try:
        if not worker.pipe.poll():
            if memory is not None and (size := resident_bytes(worker.process.pid)) > memory:
                return Crash(f"{size / 2**30:.2f} GiB in use, {memory / 2**30:.2f} allowed", "out of memory")
            late = timeout_s is not None and time.monotonic() >= _deadline(worker, timeout_s)
            return Crash(f"no answer after {timeout_s:g} s", "time-out") if late else None
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(STOP_S)
        code = worker.process.exitcode
        starved = code == -signal.SIGKILL and oom_kills() > worker.kills
        died = f"the process died ({cause_of_death(code)})"
        return Crash(died, "out of memory") if starved else Crash(died)
    if kind == "ready":
        worker.loaded, worker.since = True, time.monotonic()
        return None
    if kind == "stop":
        raise value
    return value


def _end(crew: list[_Worker], *, at_once: bool) -> None:
    """Ask, then tell, then force."""
    for worker in crew:
        if at_once:
            worker.process.terminate()
        worker.pipe.close()  # an idle worker leaves at the end of its pipe
    deadline = time.monotonic() + STOP_S
    for worker in crew:
        end_child(worker.process, at_once=False, within_s=deadline - time.monotonic())


def _work(pipe: Connection, factory: Callable[[], Handler], log: Path | None) -> None:
    """The process: make a handler, then answer jobs until the pipe ends."""
    become_child(log)
    try:
        handler = factory()
    except Exception as error:  # noqa: BLE001 - nothing can run without a handler: the parent stops with this error
        traceback.print_exc()
        _tell(pipe, "stop", error if isinstance(error, VlaError) else ConfigError(f"cannot start: {_text(error)}"))
        return
    try:
        _tell(pipe, "ready", None)
        while True:
            try:
                job = pipe.recv()
            except EOFError:
                return
            try:
                answer = handler(job)
            except VlaError as error:
                _tell(pipe, "stop", error)
                return
            except Unequipped as error:
                _tell(pipe, "answer", Crash(_text(error), tried=False))
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told and this process is replaced
                traceback.print_exc()
                _tell(pipe, "answer", crash_of(error))
                return
            _tell(pipe, "answer", answer)
    finally:
        handler.close()


def crash_of(error: BaseException) -> Crash:
    """What a job's exception comes to."""
    return Crash(_text(error), "out of memory" if out_of_memory(error) else "crash")


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _tell(pipe: Connection, kind: str, value: Any) -> None:
    try:
        pipe.send((kind, value))
    except BrokenPipeError:
        sys.exit(0)  # the parent is gone: nobody to work for
