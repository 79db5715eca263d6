"""Processes of our own: started clean, dead with their parent, the first to go when memory runs out."""

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

STOP_S = 5.0
"""Given to a process to close simulators before it is killed [s]."""

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


def cores() -> int:
    """That this process may use; a batch system or ``taskset`` may leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_child(target: Callable[..., None], arguments: tuple[Any, ...], *, threads: int) -> BaseProcess:
    """A spawned process, so that nothing of this one leaks into it; Ctrl-C does not reach it, only its parent stops it.

    Args:
        target: runs in the process; begins with :func:`become_child`.
        arguments: of the target, pickled.
        threads: its share of the cores (``OMP_NUM_THREADS``), unless that is set already.
    """
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    with _no_interrupt(), _variable("OMP_NUM_THREADS", str(max(1, threads))):
        process.start()
    return process


def become_child(log: Path | None) -> None:
    """To be called first in a process that :func:`start_child` started.

    SIGTERM becomes an exit, so that ``finally`` closes simulators and files. When the parent dies, even by SIGKILL,
    the kernel ends this process, whatever it is doing. Where memory runs out it is killed before its parent is.

    Args:
        log: what the process prints is appended here; None leaves it on standard error.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if log is not None:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
    os.dup2(2, 1)  # standard output belongs to the command's own answer
    faulthandler.enable()
    if sys.platform == "linux":
        parent = multiprocessing.parent_process()
        die_with_parent(parent.pid if parent is not None else None)
        try:
            Path("/proc/self/oom_score_adj").write_text("500")
        except OSError:
            pass  # a sandbox may forbid it; then the kernel chooses


def die_with_parent(parent: int | None) -> None:
    """Have the kernel kill this process when its parent ends, however that ends; a fork does not inherit this.

    Args:
        parent: its process number; None if nobody can say.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)


def end_child(process: BaseProcess, *, at_once: bool, within_s: float = STOP_S) -> None:
    """Ask a process to end (``at_once``: tell it), then force it."""
    if at_once:
        process.terminate()
    process.join(max(0.0, within_s))
    if process.is_alive():
        process.kill()
        process.join()


def cause_of_death(code: int | None) -> str:
    """``"SIGKILL"``, ``"exit code 3"``."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def resident_bytes(pid: int | None) -> int:
    """Memory that a process holds; 0 if it is gone or the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def oom_kills() -> int:
    """Processes that the kernel has killed for want of memory so far: in this container, or else on this machine."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        counts = [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
        if counts:
            return counts[0]
    return 0


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what an exception says; torch and CUDA have an error of their own."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Processes started inside inherit a mask that keeps Ctrl-C from them: the parent alone stops them."""
    resource_tracker.ensure_running()  # the first start would do this, and unblock the signal on its way
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """An environment variable for the processes started inside; one that is set already stays as it is."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
