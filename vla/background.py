"""An observer that works in a thread of its own, so that the loop it watches never waits for it.

::

    loop ─ start, step, finish ─▶ bounded queue ─▶ thread ─▶ the observer itself
               └─ full: the step is dropped and counted

Pictures are passed on as they are: a body must not write into a picture that it has handed out.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.protocols import Observer, Outcome, Step

CAPACITY = 256
"""Steps that may wait: 13 s at 20 Hz; with two pictures of 256 pixels 100 MB."""


@dataclass(frozen=True)
class _Job:
    """One call of the observer."""

    kind: Literal["start", "step", "finish"]
    work: Callable[[], None]


class BackgroundObserver:
    """Watches as another observer does, later. Steps that find the queue full are dropped and counted.

    How many an episode lost is in the outcome that the observer is told at its end, as ``dropped_steps``.

    Args:
        observer: called from one thread only, in order.
        capacity: steps that may wait.
        essential: what goes wrong in the observer is raised in the loop, at the next step or by :meth:`flush`.
            Otherwise the observer is left out from then on, and :attr:`error` says why.

    Raises:
        ConfigError: the capacity is below 1.
    """

    def __init__(self, observer: Observer, *, capacity: int = CAPACITY, essential: bool = True):
        if capacity < 1:
            raise ConfigError(f"the capacity must be at least 1 step, found {capacity}")
        self.observer, self.essential = observer, essential
        self.dropped = 0
        self.error: Exception | None = None
        self._lost = 0  # of this episode
        self._room = threading.Semaphore(capacity)
        self._queue: queue.SimpleQueue[_Job | threading.Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def wants_images(self) -> bool:
        """As the observer does."""
        return self.observer.wants_images

    def start(self, spec: EmbodimentSpec, instruction: str) -> None:
        """An episode begins."""
        self._raise()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="observer", daemon=True)
            self._thread.start()
        self._lost = 0
        self._queue.put(_Job("start", lambda: self.observer.start(spec, instruction)))

    def step(self, step: Step) -> None:
        """Pass one step on, or drop it.

        Raises:
            Exception: what went wrong in an essential observer, once.
        """
        self._raise()
        if not self._room.acquire(blocking=False):
            self.dropped += 1
            self._lost += 1
            return
        self._queue.put(_Job("step", lambda: self.observer.step(step)))

    def finish(self, outcome: Outcome) -> None:
        """The episode is over; returns at once, what waits is still done."""
        info: dict[str, Any] = {"dropped_steps": self._lost} if self._lost else {}
        told = replace(outcome, info={**outcome.info, **info})
        self._queue.put(_Job("finish", lambda: self.observer.finish(told)))

    def flush(self) -> None:
        """Wait until all that was passed on is done.

        Raises:
            Exception: what went wrong in an essential observer, once.
        """
        if self._thread is not None:
            done = threading.Event()
            self._queue.put(done)
            done.wait()
        self._raise()

    def close(self, patience: float | None = None) -> None:
        """Do what waits, and end the thread. Never raises. Safe to call more than once.

        Args:
            patience: time to wait for it [s]; None for as long as it takes.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(patience)
            if thread.is_alive():
                self.error = self.error or TimeoutError(f"it did not end within {patience:g} s")

    def _work(self) -> None:
        broken = False  # from an error on, until the next episode if the observer is essential
        while (job := self._queue.get()) is not None:
            if isinstance(job, threading.Event):
                job.set()
                continue
            broken = broken and not (self.essential and job.kind == "start")
            try:
                if not broken:
                    job.work()
            except Exception as error:  # noqa: BLE001  raised again in the loop, or told in the summary
                self.error, broken = error, True
            finally:
                if job.kind == "step":
                    self._room.release()

    def _raise(self) -> None:
        if self.essential and self.error is not None:
            error, self.error = self.error, None
            raise error
