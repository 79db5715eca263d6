"""Starts a simulated arm in a process of its own.

::

    spawn(factory) ──▶ process: serve: world = factory() ─▶ Servo(world) ─▶ ArmServer
         └─ ServerHandle: address, pid, close()

When the process that spawned it is gone, however it ended, the arm is stopped and its process exits.
"""

import gc
import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from vla.errors import BodyFault, VlaError
from vla.robot_driver.mujoco_arm_server import ArmServer
from vla.robot_driver.mujoco_arm_servo import ArmWorld, Servo, ServoLimits

WorldFactory = Callable[[], ArmWorld]
"""Called in the arm's process; must be picklable, so a function or an object of a module, not a lambda."""


@dataclass
class ServerHandle:
    """A running arm process.

    Attributes:
        address: host and port.
        pid: of the process.
    """

    address: tuple[str, int]
    pid: int
    _process: Any
    _pipe: Any

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def close(self) -> None:
        """Stop the arm and end its process. Safe to call more than once."""
        self._pipe.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> "ServerHandle":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spawn(
    factory: WorldFactory,
    *,
    limits: ServoLimits | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    log: Path | None = None,
    timeout: float = 120.0,
) -> ServerHandle:
    """Start an arm in a process of its own and wait until it can be connected to.

    Args:
        factory: makes the world, in the new process.
        limits: of its controller; the defaults if None.
        host: to listen on; everybody who reaches it can move the arm.
        port: to listen on; 0 for any free one.
        log: file that gets one JSON line for each event.
        timeout: for the world to be made [s].

    Raises:
        BodyFault: the world could not be made; with its message.
    """
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    arguments = (factory, limits or ServoLimits(), host, port, log, theirs)
    process = context.Process(target=_main, args=arguments, name="arm", daemon=True)
    process.start()
    theirs.close()
    try:
        status, *value = pipe.recv() if pipe.poll(timeout) else ("failed", f"it was not ready within {timeout:g} s")
    except EOFError:
        process.join(5.0)
        status, *value = "failed", f"its process ended with exit code {process.exitcode}"
    if status != "ready":
        process.kill()
        process.join()
        raise BodyFault(f"the arm did not start: {value[0]}")
    return ServerHandle((str(value[0]), int(value[1])), process.pid or 0, process, pipe)


def serve(
    factory: WorldFactory,
    address: tuple[str, int],
    *,
    limits: ServoLimits | None = None,
    log: Path | None = None,
    ready: Callable[[tuple[str, int]], None] | None = None,
    parent: Connection | None = None,
) -> None:
    """Make the world and serve it in this process; see :func:`spawn`.

    Args:
        factory: makes the world.
        address: host and port to listen on.
        limits: of the controller.
        log: file that gets one JSON line for each event.
        ready: told the address once clients can connect.
        parent: a pipe whose end means that this is to end.
    """
    with ExitStack() as stack:
        world = factory()
        stack.callback(world.close)
        listener = stack.enter_context(socket.create_server(address))
        file = stack.enter_context(log.open("a", buffering=1)) if log else None
        write = (lambda event: print(json.dumps(event), file=file)) if file else None
        server = ArmServer(Servo(world, limits or ServoLimits(), log=write), listener, parent)
        # what exists now stays: a collection that walks the compiled scene would take longer than a physics step
        gc.collect()
        gc.freeze()
        if ready:
            ready(listener.getsockname()[:2])
        server.run()


def _main(
    factory: WorldFactory,
    limits: ServoLimits,
    host: str,
    port: int,
    log: Path | None,
    pipe: Connection,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    with suppress(PermissionError):  # a servo goes first, as a real controller's does; only root may say so
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    os.dup2(2, 1)  # the parent's standard output may be a machine-readable summary
    try:
        serve(factory, (host, port), limits=limits, log=log, ready=lambda at: pipe.send(("ready", *at)), parent=pipe)
    except (VlaError, OSError) as error:
        if not pipe.closed:
            pipe.send(("failed", f"{type(error).__name__}: {error}"))
        raise SystemExit(1) from error
