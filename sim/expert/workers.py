"""A process that answers one request at a time, is replaced when it crashes, and dies with its parent."""

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from vla.child_process import cores, die_with_parent
from vla.errors import BodyFault, VlaError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LP_NUM_THREADS")


class Crashed(BodyFault):
    """A worker process died, or raised what nobody expected, before it answered; the next request starts a new one."""


class Worker:
    """A spawned process around ``make(argument)``, whose result is called with each request; a context manager.

    Args:
        make: importable; called in the process before the first request. Its result may have ``close``.
        argument: can be pickled.
        share: processes that share the machine: the cores are divided among them.
    """

    def __init__(self, make: Callable[[Any], Callable[[Any], Any]], argument: Any, *, share: int = 1):
        self._make = make
        self._argument = argument
        self._threads = max(1, cores() // share)
        self._process: Any = None
        self._connection: Connection | None = None

    def __enter__(self) -> "Worker":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def send(self, request: Any) -> None:
        """Ask; the answer is to be taken with :meth:`receive` before the next request."""
        if self._connection is None:
            self._start()
        assert self._connection is not None
        with contextlib.suppress(BrokenPipeError):  # it died in between: receive will say so
            self._connection.send(request)

    def receive(self) -> Any:
        """Wait for the answer.

        Raises:
            Crashed: the process died, or an exception nobody expected came back.
            VlaError: raised on purpose in the process.
        """
        assert self._connection is not None
        try:
            kind, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            code = self._end()
            raise Crashed(f"a worker process ended with code {code}") from None
        if kind == "raised":
            raise value
        if kind == "crashed":
            self._end()
            raise Crashed(value)
        return value

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a graphics context does not survive a fork
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._make, self._argument), daemon=True)
        with _environment({name: str(self._threads) for name in THREADS}):
            self._process.start()
        theirs.close()  # so that receive ends when the process does

    def _end(self) -> int | None:
        """Stop the process and give its exit code."""
        if self._process is None:
            return None
        if self._connection is not None:
            self._connection.close()
        self._process.join(timeout=0.2)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode
        self._process = self._connection = None
        return code


def _serve(connection: Connection, make: Callable, argument: Any) -> None:
    """The process: answers until the other side closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us in order
    parent = multiprocessing.parent_process()
    die_with_parent(parent.pid if parent is not None else None)  # also in the middle of a request
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), contextlib.ExitStack() as stack:
        made: list[Any] = []
        while True:
            request = connection.recv()
            try:
                if not made:  # not before the first request, so that what goes wrong has somewhere to be reported
                    made.append(make(argument))
                    stack.callback(getattr(made[0], "close", lambda: None))
                result = ("answer", made[0](request))
            except VlaError as error:
                result = ("raised", error)
            except Exception as error:  # noqa: BLE001 - one episode is lost, not the run; the parent reports it
                where = traceback.extract_tb(error.__traceback__)[-1]
                result = ("crashed", f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})")
            connection.send(result)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that a process started meanwhile inherits; the user's own win."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
