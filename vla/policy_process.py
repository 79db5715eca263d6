"""One policy in a process of its own, asked by many simulators as if each had it.

::

    parent ──── starts, connects ───▶ policy process ── batches ─▶ policy
       └─ spawns ─▶ simulator process      ▲
                      SharedPolicy ────────┘  question and chunk through a pipe, pictures through shared memory

Every simulator has a pipe and frames that nobody else has, so that one that is killed leaves nothing behind. A policy
process that dies takes the episodes along that were running; the next simulator to start finds a new one.
"""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, reduction
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from vla.batching import Batcher, one_by_one, together
from vla.child_process import STOP_S, become_child, cause_of_death, cores, end_child, start_child
from vla.embodiment import CameraSpec, EmbodimentSpec
from vla.episode_worker import Factory, Fingerprinted
from vla.errors import ConfigError, VlaError
from vla.experience import ActionChunk, Observation
from vla.protocols import BatchPolicy, Policy, Query
from vla.shared_frames import SharedFrames
from vla.workers import LOADING_S, Unequipped

_ANSWER_S = 300.0  # a policy that does not greet a new simulator within this time hangs


class PolicyLost(RuntimeError):
    """The process with the policy died, or its policy raised: this episode cannot go on."""


@dataclass(frozen=True)
class PolicyFacts:
    """What a simulator has to know of a policy that it does not hold.

    Attributes:
        spec: of the policy.
        fingerprint: of its weights; empty if it has none.
    """

    spec: EmbodimentSpec
    fingerprint: str


class PolicyProcess:
    """Started when the first simulator is; a context manager.

    Args:
        factory: makes the policy, in the process.
        size: of a batch; every batch is filled up to it.
        log: what the process prints is appended here; None leaves it on standard error.

    Raises:
        ConfigError: the size is not positive.
    """

    def __init__(self, factory: Factory[Policy], size: int, *, log: Path | None = None):
        if size < 1:
            raise ConfigError(f"a batch holds at least one observation, found {size}")
        self.factory, self.size, self.log = factory, size, log
        self._process: BaseProcess | None = None
        self._control: Connection | None = None
        self._facts: PolicyFacts | None = None

    def __enter__(self) -> "PolicyProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the process; None before the first simulator."""
        return self._process.pid if self._process else None

    @contextmanager
    def seat(self) -> "Iterator[Seat]":
        """A connection for one simulator, to be passed to it while it is being spawned.

        Raises:
            VlaError: the policy cannot be made, or not in half an hour.
        """
        facts = self._running()
        ours, theirs = get_context("spawn").Pipe()
        frames = SharedFrames(facts.spec.cameras)
        try:
            self._connect(theirs, frames)
            yield Seat(ours, frames, facts)
        finally:
            for end in (ours, theirs, frames):
                end.close()  # or nobody would see the end of a process at the other end

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if process is not None:
            end_child(process, at_once=False, within_s=STOP_S)

    def _running(self) -> PolicyFacts:
        if self._process is None or not self._process.is_alive():
            self.close()
            self._control, theirs = get_context("spawn").Pipe()
            self._process = start_child(_serve, (theirs, self.factory, self.size, self.log), threads=cores())
            theirs.close()
            self._facts = self._heard()
        assert self._facts is not None  # set with the process
        return self._facts

    def _connect(self, pipe: Connection, frames: SharedFrames) -> None:
        try:
            self._send(pipe, frames)
        except (OSError, EOFError):  # it hangs or died meanwhile: a new one
            if self._process is not None:
                end_child(self._process, at_once=True)
            self._running()
            self._send(pipe, frames)

    def _send(self, pipe: Connection, frames: SharedFrames) -> None:
        assert self._control is not None and self._process is not None  # as _running left it
        self._control.send("seat")
        for handle in (pipe.fileno(), frames.handle):
            reduction.send_handle(self._control, handle, self._process.pid)
        if not self._control.poll(_ANSWER_S):
            raise TimeoutError("the policy does not answer")
        self._control.recv()

    def _heard(self) -> PolicyFacts:
        assert self._control is not None and self._process is not None
        if not self._control.poll(LOADING_S):
            raise VlaError(f"the policy is not loaded after {LOADING_S:g} s")
        try:
            found = self._control.recv()
        except (EOFError, OSError) as error:
            self._process.join(STOP_S)
            cause = cause_of_death(self._process.exitcode)
            raise VlaError(f"the policy's process died while it was loading ({cause})") from error
        if isinstance(found, VlaError):
            raise found
        return found


@dataclass(frozen=True)
class Seat:
    """Makes the policy's stand-in inside a simulator's process; a :class:`Factory` of a policy.

    Attributes:
        pipe: to the policy process.
        frames: likewise.
        facts: of the policy.
    """

    pipe: Connection
    frames: SharedFrames
    facts: PolicyFacts

    def make(self) -> "SharedPolicy":
        """The stand-in."""
        return SharedPolicy(self)


class SharedPolicy:
    """A :class:`~vla.protocols.Policy` that lives in another process."""

    def __init__(self, seat: Seat):
        self._seat = seat
        self._instruction, self._seed, self._number = "", 0, 0

    @property
    def spec(self) -> EmbodimentSpec:
        """Of the policy."""
        return self._seat.facts.spec

    @property
    def fingerprint(self) -> str:
        """Of the policy's weights."""
        return self._seat.facts.fingerprint

    def reset(self, instruction: str, *, seed: int) -> None:
        """Begin an episode; the instruction holds until an observation brings another.

        Raises:
            Unequipped: the policy's process died since this simulator was started.
        """
        if self._seat.pipe.poll():  # nothing was asked, so this can only be the pipe's end
            raise Unequipped("the policy's process died before the episode began")
        self._instruction, self._seed, self._number = instruction, seed, 0

    def act(self, observation: Observation) -> ActionChunk:
        """Ask and wait.

        Raises:
            PolicyFault: the policy's.
            PolicyLost: its process died, or the policy raised something else.
            MemoryError: it ran out of memory.
        """
        self._seat.frames.write(observation.images)
        said = observation.instruction or self._instruction
        asked = replace(observation, images={}, instruction=said)
        try:
            self._seat.pipe.send(Query(asked, self._seed, self._number))
            kind, value = self._seat.pipe.recv()
        except (EOFError, OSError) as error:
            raise PolicyLost("the policy's process died") from error
        self._number += 1
        if kind == "chunk":
            return value
        raise {"fault": lambda: value, "starved": lambda: MemoryError(value)}.get(kind, lambda: PolicyLost(value))()


class _Guest:
    """A simulator as the policy process sees it."""

    def __init__(self, pipe: Connection, frames: SharedFrames):
        self.pipe, self.frames = pipe, frames
        self.policy: Policy | None = None  # its own, where policies cannot be shared

    def leave(self) -> None:
        self.pipe.close()
        self.frames.close()


def _serve(control: Connection, factory: Factory[Policy], size: int, log: Path | None) -> None:
    """The process: load the policy, then answer until the parent closes ``control``."""
    become_child(log)
    try:
        policy = factory.make()
    except Exception as error:  # noqa: BLE001 - nothing can run without a policy: the parent stops with this error
        traceback.print_exc()
        said = error if isinstance(error, VlaError) else ConfigError(f"cannot start: {type(error).__name__}: {error}")
        control.send(said)
        return
    control.send(PolicyFacts(policy.spec, policy.fingerprint if isinstance(policy, Fingerprinted) else ""))
    shared = isinstance(policy, BatchPolicy)
    batcher: Batcher[_Guest] = Batcher(together(policy, size) if shared else one_by_one(_own), size if shared else 1)
    guests: dict[Connection, _Guest] = {}
    while True:
        for pipe in wait([control, *guests], batcher.patience()):
            assert isinstance(pipe, Connection)  # nothing else was waited for
            if pipe is control:
                guest = _welcome(control, policy.spec.cameras)
                if guest is None:
                    return
                if not shared:
                    guest.policy = factory.make() if guests else policy
                guests[guest.pipe] = guest
                batcher.clients.append(guest)
                continue
            guest = guests[pipe]
            try:
                query = pipe.recv()
                seen = replace(query.observation, images=guest.frames.view())
                batcher.ask(guest, replace(query, observation=seen))
            except (EOFError, OSError):
                _dismiss(guests, batcher, guest)
        for guest, reply in batcher.work():
            try:
                guest.pipe.send(reply)
            except OSError:
                _dismiss(guests, batcher, guest)


def _welcome(control: Connection, cameras: Sequence[CameraSpec]) -> _Guest | None:
    """The next simulator; None if the parent has gone."""
    try:
        control.recv()
        pipe = Connection(reduction.recv_handle(control))
        frames = SharedFrames(cameras, reduction.recv_handle(control))
        control.send("welcome")
    except (EOFError, OSError):
        return None
    return _Guest(pipe, frames)


def _dismiss(guests: dict[Connection, _Guest], batcher: Batcher[_Guest], guest: _Guest) -> None:
    batcher.leave(guest)
    guests.pop(guest.pipe, None)
    guest.leave()


def _own(guest: _Guest) -> Policy:
    assert guest.policy is not None  # given when it came
    return guest.policy
