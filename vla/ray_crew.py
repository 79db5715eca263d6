"""A crew on a Ray cluster: the same jobs, answers and rules as :class:`vla.workers.Crew`, the processes Ray actors.

Ray is an extra (``pip install 'vla-stack[ray]'``), imported when a cluster is used. Every machine needs this package
and the checkpoint at the same path; results come back to the machine that asked, which writes them.
"""

import os
import time
import traceback
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vla.child_process import STOP_S, cores
from vla.errors import ConfigError, DependencyMissing, VlaError
from vla.workers import DEATHS_WHILE_LOADING, Answer, Crash, Handler, Waiting, crash_of, next_group, queues

_LOOK_S = 1.0
_STARTS = 3
_PATIENCE = {
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_NUM_REDIS_GET_RETRIES": "300",
    "RAY_worker_register_timeout_seconds": "300",
}
"""Ray's own limits on how long its processes may take to start are seconds that a busy machine does not keep; one of
them, 30 s for a node, cannot be set, so that a cluster on this machine is started again if need be."""


@dataclass(frozen=True)
class Cluster:
    """Where a crew runs.

    Attributes:
        address: of a Ray cluster (``ray://host:port``, ``auto``), or ``local`` to start one on this machine.
        gpus: share of a GPU that each process asks for.
        cpus: cores that each process asks for.
    """

    address: str
    gpus: float = 0.0
    cpus: float = 1.0


@dataclass
class _Actor:
    handle: Any
    group: Hashable = None
    job: tuple[Any, int] | None = None
    pending: Any = None
    loaded: bool = False
    since: float = field(default_factory=time.monotonic)


class _Remote:
    """Lives in a Ray worker: a handler, and what became of making it."""

    def __init__(self, factory: Callable[[], Handler]):
        self.handler: Handler | None = None
        self.factory = factory

    def load(self) -> VlaError | None:
        """Make the handler; an error that the whole run has to stop for is returned, not raised."""
        try:
            self.handler = self.factory()
        except Exception as error:  # noqa: BLE001 - nothing can run without a handler: the parent stops with this
            traceback.print_exc()
            return error if isinstance(error, VlaError) else ConfigError(f"cannot start: {crash_of(error).error}")
        return None

    def answer(self, job: Any) -> tuple[str, Any]:
        """What :mod:`vla.workers` sends through its pipe."""
        assert self.handler is not None  # load comes first
        try:
            return "answer", self.handler(job)
        except VlaError as error:
            return "stop", error
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told and this process is replaced
            traceback.print_exc()
            return "answer", crash_of(error)

    def close(self) -> None:
        """Give back simulators."""
        if self.handler is not None:
            self.handler.close()


def connect(cluster: Cluster, workers: int) -> tuple[Any, bool]:
    """Ray itself, connected to a cluster, and whether this call did it; one that is connected to already is used.

    Raises:
        DependencyMissing: Ray is not installed.
        ConfigError: there is no cluster at the address, or none could be started.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # an actor without a GPU keeps the variables
    local = cluster.address == "local"
    for name, value in _PATIENCE.items() if local else ():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise DependencyMissing("a cluster needs Ray: pip install 'vla-stack[ray]'") from error
    if ray.is_initialized():
        return ray, False
    # "local" is a cluster of its own, whatever runs already
    options: dict[str, Any] = {"num_cpus": max(workers, cores()), "include_dashboard": False}
    for left in reversed(range(_STARTS if local else 1)):
        try:
            ray.init(cluster.address, log_to_driver=False, **(options if local else {}))
            break
        except Exception as error:  # Ray raises nothing more specific when a node does not start
            ray.shutdown()
            if not left:
                raise ConfigError(f"no Ray cluster at {cluster.address!r}: {error}") from error
    return ray, True


class RayCrew:
    """Ray actors that answer jobs; a context manager. The arguments are those of :class:`vla.workers.Crew`.

    Raises:
        DependencyMissing: Ray is not installed.
        ConfigError: there is no cluster at the address.
    """

    def __init__(self, factory: Callable[[], Handler], workers: int, cluster: Cluster):
        self._ray, self._mine = connect(cluster, workers)
        self.factory, self.workers, self.cluster = factory, workers, cluster
        self._crew: list[_Actor] = []
        self._class: Any = self._ray.remote(_Remote)

    def __enter__(self) -> "RayCrew":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop(at_once=kind is not None)
        if self._mine:
            self._ray.shutdown()

    def run(
        self,
        jobs: Sequence[Any],
        *,
        group: Callable[[Any], Hashable] = lambda job: None,
        attempts: int = 2,
        timeout_s: float | None = None,
    ) -> Generator[Answer]:
        """Answers as they arrive; see :meth:`vla.workers.Crew.run`."""
        waiting = queues(jobs, group)
        unloaded = 0
        try:
            while any(waiting.values()) or any(actor.job for actor in self._crew):
                self._hand_out(waiting)
                pending = {actor.pending: actor for actor in self._crew if actor.pending is not None}
                ready, _ = self._ray.wait(list(pending), timeout=_LOOK_S)
                late = [] if timeout_s is None else [
                    actor for actor in pending.values()
                    if actor.loaded and actor.pending not in ready and time.monotonic() - actor.since >= timeout_s
                ]  # fmt: skip
                for actor in [*(pending[one] for one in ready), *late]:
                    found = self._collect(actor, timeout_s)
                    if found is None:
                        continue
                    job, attempt = actor.job or (None, 0)
                    actor.job = None
                    if isinstance(found, Crash):
                        self._crew.remove(actor)
                        self._ray.kill(actor.handle)
                        if not actor.loaded:
                            unloaded += 1
                            if unloaded >= DEATHS_WHILE_LOADING:
                                raise VlaError(f"processes do not live long enough to take a job: {found.error}")
                            waiting[actor.group].append((job, attempt))
                            continue
                        if attempt < attempts:
                            waiting[actor.group].append((job, attempt + 1))
                            continue
                    yield Answer(job, found, attempt)
        except BaseException:
            self._stop(at_once=True)
            raise

    def _hand_out(self, waiting: Waiting) -> None:
        queued = sum(len(queue) for queue in waiting.values())
        busy = sum(actor.job is not None for actor in self._crew)
        while len(self._crew) < min(self.workers, queued + busy):
            options = self._class.options(num_cpus=self.cluster.cpus, num_gpus=self.cluster.gpus)
            self._crew.append(_Actor(options.remote(self.factory)))
        taken = {actor.group for actor in self._crew if actor.job}
        for actor in self._crew:
            if actor.job is not None or not any(waiting.values()):
                continue
            key = next_group(actor.group, taken, waiting)
            actor.group, actor.job = key, waiting[key].popleft()
            taken.add(key)
            self._send(actor)
        if not any(waiting.values()):
            self._relieve()

    def _relieve(self) -> None:
        """Idle actors take the jobs of those that have not started: a cluster may never have a place for these."""
        idle = [actor for actor in self._crew if actor.loaded and actor.job is None]
        starting = [actor for actor in self._crew if not actor.loaded and actor.job is not None]
        for actor, late in zip(idle, starting, strict=False):
            self._crew.remove(late)
            self._ray.kill(late.handle)
            actor.group, actor.job = late.group, late.job
            self._send(actor)

    def _send(self, actor: _Actor) -> None:
        assert actor.job is not None  # just given
        actor.since = time.monotonic()
        actor.pending = actor.handle.answer.remote(actor.job[0]) if actor.loaded else actor.handle.load.remote()

    def _collect(self, actor: _Actor, timeout_s: float | None) -> Any:
        """The handler's answer or a Crash; None after loading."""
        errors = self._ray.exceptions
        ready, _ = self._ray.wait([actor.pending], timeout=0)
        if not ready:
            return Crash(f"no answer after {timeout_s:g} s", "time-out")
        try:
            found = self._ray.get(actor.pending)
        except errors.OutOfMemoryError as error:
            return Crash(_first_line(error), "out of memory")
        except errors.RayError as error:
            return Crash(f"the process died ({_first_line(error)})")
        if not actor.loaded:
            if found is not None:
                raise found
            actor.loaded = True
            self._send(actor)
            return None
        kind, value = found
        if kind == "stop":
            raise value
        actor.pending = None
        return value

    def _stop(self, *, at_once: bool) -> None:
        crew, self._crew = self._crew, []
        closing = [actor.handle.close.remote() for actor in crew if actor.loaded and not at_once]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=STOP_S)
        for actor in crew:
            self._ray.kill(actor.handle)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
