"""An SO-100 or SO-101 that is software: six servos on a line behind a pseudo-terminal, in a process of their own.

::

    lerobot, Feetech's library ── serial port /dev/pts/N ── process: Line ─▶ Servo x 6 (1 kHz)
    spawn() ─▶ Emulator: port, hand(), fault(), trace() ── pipe ──┘

Whatever talks to a real arm talks to this one: lerobot's classes, Feetech's own tools, ours. It never moved next to a
real arm: what it takes from one are the table, the packets and the limits, not its dynamics.
"""

import math
import os
import pty
import select
import time
import tty
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float64

from vla.child_process import become_child, cause_of_death, end_child, start_child
from vla.errors import BodyFault, UnknownName
from vla.robot_driver.feetech_bus import Fault, Line
from vla.robot_driver.so101_servos import calibrate, so101

PERIOD_S = 0.001
"""Of the servos' own control [s]."""

IDLE_S = 0.01  # without anybody asking, the servos are looked after this often [s]
_TRACE_S = 120.0

ARMS = {"so101": so101, "so100": so101}
"""Servos by the name of the arm."""


@dataclass
class Arm:
    """The servos as time passes, with hands on the joints that are without power.

    Attributes:
        line: with the servos.
        sway: share of its range that a hand moves each joint of an unpowered arm by, to and fro; 0 for no hand.
        period: of that [s].
    """

    line: Line
    sway: float = 0.0
    period: float = 4.0

    def __post_init__(self):
        self._now = self._begin = time.monotonic()
        self._held: dict[int, float] = {}
        self._rest = {servo.number: servo.position for servo in self.line.servos}
        self._trace: deque[tuple[float, ...]] = deque(maxlen=round(_TRACE_S / IDLE_S))

    def advance(self, now: float) -> None:
        """Let the time until ``now`` [s] pass, in steps of :data:`PERIOD_S`."""
        if self.sway:
            self._sway(now)
        for servo in self.line.servos:
            if servo.number in self._held:
                servo.place(self._held[servo.number])
        steps = min(int((now - self._now) / PERIOD_S), 1000)  # after a second away, nobody waits for the rest
        for _ in range(steps):
            for servo in self.line.servos:
                servo.advance(PERIOD_S)
        self._now = self._now + steps * PERIOD_S if steps < 1000 else now
        if not self._trace or now - self._trace[-1][0] >= 0.002:
            self._trace.append((now, *(servo.position for servo in self.line.servos)))

    def hand(self, positions: Mapping[int, float]) -> None:
        """Take joints by hand and put them there, by id [ticks of the bare encoder]; they stay until put elsewhere."""
        self._held |= positions

    def fault(self, **fields: Any) -> None:
        """Let status packets go wrong; see :class:`~vla.robot_driver.feetech_bus.Fault`."""
        self.line.faults.append(Fault(**fields))

    def mend(self) -> None:
        """End all faults of the line."""
        self.line.faults.clear()

    def treat(self, motor: int, *, jammed: bool = False, volts: float = 7.4, celsius: float = 30.0) -> None:
        """Change what happens to a servo."""
        for servo in self.line.servos:
            if servo.number == motor:
                servo.jammed, servo.volts, servo.celsius = jammed, volts, celsius

    def positions(self) -> dict[int, float]:
        """Where the joints are, by id [ticks of the bare encoder]."""
        return {servo.number: servo.position for servo in self.line.servos}

    def powered(self) -> dict[int, bool]:
        """Which servos hold or move by themselves, by id."""
        return {servo.number: servo.powered for servo in self.line.servos}

    def trace(self) -> Float64[np.ndarray, "t j"]:
        """The last two minutes: time on this machine's monotonic clock [s], then each joint [ticks]."""
        return np.array(self._trace, np.float64)

    def _sway(self, now: float) -> None:
        phase = 2.0 * math.pi * (now - self._begin) / self.period
        for servo in self.line.servos:
            low, high = servo.reach
            servo.place(self._rest[servo.number] + self.sway * (high - low) / 2.0 * math.sin(phase))


def serve(arm: Arm, master: int, pipe: Connection | None = None) -> None:
    """Answer a host at a pseudo-terminal until the pipe is closed, or for ever; ``unplug`` ends it as well.

    Args:
        arm: whose line answers.
        master: file descriptor of the terminal's own end.
        pipe: brings ``(name, arguments)`` of :class:`Arm`'s methods, and takes what they return.
    """
    with suppress(PermissionError):  # servos answer within a millisecond, whatever else this machine does
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    watched: list[Any] = [master, *([pipe] if pipe else [])]
    calls = {"hand": arm.hand, "fault": arm.fault, "mend": arm.mend, "treat": arm.treat}
    calls |= {"positions": arm.positions, "powered": arm.powered, "trace": arm.trace}
    while True:
        due = arm.line.next_at
        wait = IDLE_S if due is None else min(max(due - time.monotonic(), 0.0), IDLE_S)
        ready, _, _ = select.select(watched, [], [], wait)
        now = time.monotonic()
        arm.advance(now)
        if master in ready:
            arm.line.hear(os.read(master, 4096), now)
        if said := arm.line.say(time.monotonic()):
            os.write(master, said)
        if pipe and pipe in ready:
            try:
                name, fields = pipe.recv()
            except EOFError:
                return
            if name == "unplug":
                os.close(master)
                pipe.send(None)
                return
            pipe.send(calls[name](**fields))


def open_port() -> tuple[int, int, str]:
    """A pseudo-terminal: both its ends and the path that a host opens.

    Its other end stays open here, so that a host may come, go, and come back.
    """
    master, slave = pty.openpty()
    tty.setraw(slave)
    return master, slave, os.ttyname(slave)


class Emulator:
    """A running arm; make one with :func:`spawn`.

    Attributes:
        port: what a host opens as its serial port.
    """

    def __init__(self, process: BaseProcess, pipe: Connection, port: str):
        self.port = port
        self._process, self._pipe = process, pipe

    def hand(self, positions: Mapping[int, float]) -> None:
        """See :meth:`Arm.hand`."""
        self._ask("hand", positions=dict(positions))

    def fault(self, kind: str, *, motor: int | None = None, count: int | None = 1, seconds: float = 0.0) -> None:
        """See :class:`~vla.robot_driver.feetech_bus.Fault`."""
        self._ask("fault", kind=kind, motor=motor, count=count, seconds=seconds)

    def mend(self) -> None:
        """See :meth:`Arm.mend`."""
        self._ask("mend")

    def treat(self, motor: int, *, jammed: bool = False, volts: float = 7.4, celsius: float = 30.0) -> None:
        """See :meth:`Arm.treat`."""
        self._ask("treat", motor=motor, jammed=jammed, volts=volts, celsius=celsius)

    def positions(self) -> dict[int, float]:
        """See :meth:`Arm.positions`."""
        return self._ask("positions")

    def powered(self) -> dict[int, bool]:
        """See :meth:`Arm.powered`."""
        return self._ask("powered")

    def trace(self) -> Float64[np.ndarray, "t j"]:
        """See :meth:`Arm.trace`."""
        return self._ask("trace")

    def unplug(self) -> None:
        """Pull the cable: the port is gone."""
        self._ask("unplug")

    def close(self) -> None:
        """End the process. Safe to call more than once."""
        self._pipe.close()
        end_child(self._process, at_once=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, name: str, **fields: Any) -> Any:
        try:
            self._pipe.send((name, fields))
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(1.0)
            raise BodyFault(f"the emulated arm is gone: {cause_of_death(self._process.exitcode)}") from error


def spawn(
    kind: str = "so101", *, sway: float = 0.0, calibration: Path | None = None, timeout: float = 60.0
) -> Emulator:
    """Start an arm in a process of its own; it ends with this one.

    Args:
        kind: a name in :data:`ARMS`.
        sway: see :class:`Arm`.
        calibration: see :func:`make_arm`.
        timeout: for the process to be ready [s].

    Raises:
        UnknownName: there is no such arm.
        BodyFault: its process did not start.
    """
    if kind not in ARMS:  # said here, not in the process
        raise UnknownName("arm to emulate", kind, ARMS)
    ours, theirs = get_context("spawn").Pipe()
    process = start_child(_main, (kind, sway, calibration, theirs), threads=1)
    theirs.close()
    try:
        if not ours.poll(timeout):
            raise BodyFault(f"the emulated arm was not ready within {timeout:g} s")
        return Emulator(process, ours, ours.recv())
    except (EOFError, BodyFault) as error:
        end_child(process, at_once=True)
        raise BodyFault(f"the emulated arm did not start: {cause_of_death(process.exitcode)}") from error


def make_arm(kind: str, *, sway: float = 0.0, calibration: Path | None = None) -> Arm:
    """An arm's servos on a line.

    Args:
        kind: a name in :data:`ARMS`.
        sway: see :class:`Arm`.
        calibration: file for lerobot's calibration of this arm, which then comes calibrated; None for a new arm.

    Raises:
        UnknownName: there is no such arm.
    """
    if kind not in ARMS:
        raise UnknownName("arm to emulate", kind, ARMS)
    servos = ARMS[kind]()
    if calibration is not None:
        calibrate(servos, calibration)
    return Arm(Line(servos), sway)


def _main(kind: str, sway: float, calibration: Path | None, pipe: Connection) -> None:
    become_child(None)
    master, _slave, port = open_port()
    arm = make_arm(kind, sway=sway, calibration=calibration)
    pipe.send(port)
    serve(arm, master, pipe)
