"""The servo in a process of its own: no inference, no picture and no garbage of the policy's process delays it.

::

    policy's process                          servo's process
    ServoProcess.follow(path) ──pipe──▶ control thread ─▶ Servo.follow, calls of the arm
                              ◀─────── what it answered     │
    ServoProcess.stop() ──shared number───────────────▶ servo thread ─▶ arm.send

If the policy's process ends, however it does, the pipe ends with it, and the arm is brought to rest within its limits
before it is let go. The path's times are on ``time.monotonic``, which all processes of a machine share.

A stop waits for nothing: it counts up a number in shared memory that the servo looks at in every tick, while the
control thread may be busy with a slow call of the arm. A path that was asked for before a stop is not followed after
it, whichever of the two arrives first.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float64

from vla.errors import BodyFault, VlaError
from vla.robot_driver.motion import MotionLimits, MotionState
from vla.robot_driver.pacing import freeze_garbage
from vla.robot_driver.servo_loop import Servo, way
from vla.robot_driver.trajectory import Path, Target, Withdrawn

_CONNECT_S = 60.0  # an arm may take its time to connect
_ANSWER_S = 1.0  # a process that is gone is noticed at once; this is for one that hangs
_PARENT_S = 0.2  # between looks for the parent: whatever it forked may keep the pipe open


class ServoArm(Protocol):
    """What is on the other side of the servo: the vendor's library, connected.

    It is sent to from one thread and may be measured from another at the same time.
    """

    def send(self, position: Float64[np.ndarray, "n"]) -> None:
        """Go there now; must not block."""
        ...

    def measure(self) -> Float64[np.ndarray, "n"]:
        """Where it is."""
        ...

    @property
    def calls(self) -> Mapping[str, Callable[..., Any]]:
        """What else may be asked of it from the policy's side, by name; called in the control thread."""
        ...

    def close(self) -> None:
        """Let it go; it is at rest."""
        ...


class ServoProcess:
    """A :class:`~vla.robot_driver.servo_loop.Servo` with the same methods, in its own process.

    Args:
        connect: called in the process, connects to the arm; a function or an object of a module, not a lambda.
        limits: of every channel.
        settings: of the servo: ``rate``, ``stale_after``, ``max_deviation``, ``priority``.
    """

    def __init__(self, connect: Callable[[], ServoArm], limits: MotionLimits, **settings: Any):
        self.limits, self._arguments = limits, (connect, limits, settings)
        self._process: Any = None
        self._pipe: Connection | None = None
        self._asking = threading.Lock()
        self._asked = 0
        # without a lock of its own, which a process that is killed would keep
        self._stops: Any = multiprocessing.get_context("spawn").RawValue(ctypes.c_uint64, 0)
        self._stopping = threading.Lock()

    def start(self) -> None:
        """Start the process, connect to the arm, and hold it where it is.

        Raises:
            BodyFault: it runs already, or the arm cannot be reached.
            VlaError: of the servo's start.
        """
        if self._pipe is not None:
            raise BodyFault("the servo is running already")
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self._stops, os.getpid(), *self._arguments)
        process = context.Process(target=_serve, args=arguments, name="servo", daemon=True)
        try:
            with theirs:
                process.start()
            self._process = process
            self._answer(_CONNECT_S)
        except BaseException:
            self.close()
            raise

    def follow(self, path: Path) -> None:
        """See :meth:`Servo.follow`."""
        self._ask("follow", path, int(self._stops.value))

    def toward(self, position: Float64[np.ndarray, "n"], seconds: float) -> None:
        """See :meth:`Servo.toward`."""
        stops = int(self._stops.value)
        self._ask("follow", way(self.state.position, position, time.monotonic(), seconds), stops)

    def stop(self) -> None:
        """See :meth:`Servo.stop`. Waits for nothing and never raises, whatever the process does."""
        with self._stopping:
            self._stops.value += 1

    def restart(self) -> None:
        """See :meth:`Servo.restart`."""
        self._ask("restart")

    def check(self) -> None:
        """See :meth:`Servo.check`."""
        self._ask("check")

    def wait_until_rest(self, timeout: float) -> bool:
        """See :meth:`Servo.wait_until_rest`."""
        end = time.monotonic() + timeout
        while not self._ask("wait_until_rest", 0.0):  # asked again and again, so that stop() gets its turn
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True

    def report(self) -> dict[str, Any]:
        """See :meth:`Servo.report`."""
        return self._ask("report")

    @property
    def state(self) -> MotionState:
        """See :attr:`Servo.state`."""
        return self._ask("state")

    def measure(self) -> Float64[np.ndarray, "n"]:
        """Where the arm is now, measured in its process."""
        return self._ask("measure")

    def call(self, name: str, *arguments: Any, within: float = _ANSWER_S) -> Any:
        """Call one of the arm's ``calls``, in its process.

        Args:
            name: of the call.
            arguments: that can be pickled.
            within: longest to wait for the answer [s].

        Raises:
            BodyFault: no answer, or whatever else than our own errors the call raised.
            VlaError: what the call raised.
        """
        return self._ask(name, *arguments, within=within)

    def close(self) -> None:
        """Bring the arm to rest, let it go, end the process. Safe to call more than once."""
        with self._asking:
            pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()
        if self._process is not None:
            self._process.join(15.0)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
            self._process = None

    def _ask(self, what: str, *arguments: Any, within: float = _ANSWER_S) -> Any:
        with self._asking:
            if self._pipe is None:
                raise BodyFault("the servo was not started, or is closed")
            try:
                self._asked += 1
                self._pipe.send((self._asked, what, arguments))
            except OSError as error:
                raise self._gone() from error
            return self._answer(within)

    def _answer(self, within: float) -> Any:
        assert self._pipe is not None  # by the callers
        end = time.monotonic() + within
        try:
            number, answer = -1, None
            while number != self._asked:  # an earlier answer is one that nobody waited for, e.g. after Ctrl-C
                if not self._pipe.poll(max(0.0, end - time.monotonic())):
                    raise BodyFault(f"the servo's process gave no answer within {within:g} s")
                number, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._gone() from error
        if isinstance(answer, VlaError):
            raise answer
        return answer

    def _gone(self) -> BodyFault:
        self._process.join(1.0)
        return BodyFault(f"the servo's process ended with code {self._process.exitcode}")


class _Revocable:
    """A path until the next stop."""

    def __init__(self, path: Path, stops: Any, asked: int):
        self.end, self._path, self._stops, self._asked = path.end, path, stops, asked

    def at(self, time: float) -> Target | None:
        """See :class:`~vla.robot_driver.trajectory.Path`."""
        if self._stops.value != self._asked:
            raise Withdrawn
        return self._path.at(time)


def _serve(
    pipe: Connection,
    stops: Any,
    parent: int,
    connect: Callable[[], ServoArm],
    limits: MotionLimits,
    settings: dict[str, Any],
) -> None:
    """The process: control thread is its main one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes
    reading, writing = os.pipe()
    for number in (signal.SIGTERM, signal.SIGHUP):  # read below: the arm comes to rest first
        signal.signal(number, lambda *_: os.write(writing, b"!"))
    os.dup2(2, 1)  # the parent's standard output may be a machine-readable summary
    try:
        arm = connect()
    except Exception as error:  # noqa: BLE001 - whatever a vendor's library raises is why the arm is not there
        pipe.send((0, _as_ours(error)))
        return
    with contextlib.ExitStack() as stack:
        stack.callback(arm.close)
        try:
            servo = Servo(arm.send, arm.measure, limits, **settings)
        except VlaError as error:
            pipe.send((0, error))
            return
        stack.callback(_end, servo)
        answers: dict[str, Callable[..., Any]] = {
            **arm.calls,
            "follow": lambda path, asked: servo.follow(_Revocable(path, stops, asked)),
            "restart": servo.restart,
            "check": servo.check,
            "wait_until_rest": servo.wait_until_rest,
            "report": servo.report,
            "state": lambda: servo.state,
            "measure": arm.measure,
        }
        with contextlib.suppress(EOFError, OSError):  # the policy's process is gone
            freeze_garbage()
            _reply(pipe, 0, servo.start)
            while os.getppid() == parent:
                ready = wait([pipe, reading], _PARENT_S)
                if reading in ready:
                    break
                if ready:
                    number, what, arguments = pipe.recv()
                    _reply(pipe, number, lambda what, *given: answers[what](*given), what, *arguments)


def _end(servo: Servo) -> None:
    with contextlib.suppress(OSError, VlaError):
        servo.close()


def _reply(pipe: Connection, number: int, work: Callable[..., Any], *arguments: Any) -> None:
    try:
        answer = work(*arguments)
    except Exception as error:  # noqa: BLE001 - told to the policy's process, which raises it
        answer = _as_ours(error)
    pipe.send((number, answer))


def _as_ours(error: Exception) -> VlaError:
    return error if isinstance(error, VlaError) else BodyFault(f"{type(error).__name__}: {error}")
