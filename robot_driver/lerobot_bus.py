"""What a lerobot robot's servo bus can say about a failure that lerobot itself does not: which motor, and why.

lerobot's classes name neither the motor that is silent in a read of many, nor a servo's own complaints while it moves
(they come with every answer and are dropped); a late answer stays in the port's buffer and is taken for the answer to
the next question. Works on what ``lerobot.motors`` 0.6.1 has: ``bus.motors``, ``bus.packet_handler``, ``port_handler``.
"""

import os
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vla.errors import BodyFault

PORT_ERRORS = (OSError, termios.error)
"""What a serial port that is gone raises; ``serial.SerialException`` is an OSError, termios.error is not."""

LINE_ERRORS = (ConnectionError, RuntimeError, IndexError)
"""What a motor that is silent, complains or answers late raises: Feetech's library takes a late answer to a ping for
the numbers it then asks for, and finds none in it."""

COMPLAINTS = {
    1: "its voltage is out of range",
    2: "its angle sensor fails",
    4: "it is too hot",
    8: "its current is too high",
    32: "it is overloaded",
}
"""Bits of the status of Feetech's STS servos."""

OVERLOAD = COMPLAINTS[32]

LEROBOT_PATIENCE_S = 0.05

_PAUSE_S = 0.02  # for late answers to come in, before a servo is asked once more


class PortGone(BodyFault):
    """The serial port itself does not work any more: somebody pulled the cable."""


@contextmanager
def faults(device: Any, what: str) -> Iterator[None]:
    """Errors of lerobot and its libraries as ours, with the motors to blame, each asked by itself.

    Args:
        device: a robot or a teleoperator.
        what: it is, for messages.

    Raises:
        PortGone: the port does not work any more.
        BodyFault: motors or a camera do not answer.
    """
    try:
        yield
    except TimeoutError as error:  # a camera's; it is an OSError
        raise BodyFault(f"{what}: a camera stands still: {error}") from error
    except LINE_ERRORS as error:
        try:
            found = [
                said for side, bus in buses(device).items() if bus.port_handler.is_open for said in troubles(bus, side)
            ]
        except PORT_ERRORS as gone:
            raise PortGone(f"{what}: the port is gone: {gone}") from error
        raise BodyFault(f"{what}: {'; '.join(found) or error}") from error
    except PORT_ERRORS as error:
        raise PortGone(f"{what}: the port is gone: {error}") from error


def arms(device: Any) -> dict[str, Any]:
    """The arms of a lerobot robot or teleoperator by what stands before their numbers' names."""
    pair = {f"{side}_": getattr(device, f"{side}_arm", None) for side in ("left", "right")}
    return {"": device} if None in pair.values() else pair


def buses(device: Any) -> dict[str, Any]:
    """The serial buses of its arms, likewise; none where it has no such bus."""
    found = {side: getattr(arm, "bus", None) for side, arm in arms(device).items()}
    return {side: bus for side, bus in found.items() if hasattr(bus, "port_handler")}


def port_trouble(port: str) -> str:
    """Why a port cannot be opened; empty if nothing is known against it."""
    path = Path(port)
    if not path.exists():
        there = sorted(
            str(other) for pattern in ("ttyACM*", "ttyUSB*", "cu.usb*") for other in path.parent.glob(pattern)
        )
        return f"there is no port {port}; {'there are ' + ', '.join(there) if there else 'no arm is plugged in'}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"port {port} may not be opened by this user; on Linux: sudo usermod -aG dialout $USER, then log in anew"
    return ""


def be_patient(bus: Any, seconds: float) -> None:
    """Give servos so long to answer; lerobot gives them :data:`LEROBOT_PATIENCE_S`."""
    handler = bus.port_handler
    begin = handler.setPacketTimeout

    def set_packet_timeout(packet_length: int) -> None:
        begin(packet_length)
        handler.packet_timeout += 1000.0 * (seconds - LEROBOT_PATIENCE_S)

    handler.setPacketTimeout = set_packet_timeout


def drop_stale(bus: Any) -> None:
    """Throw away what has arrived unasked: an answer that came too late is not one to the next question."""
    serial = bus.port_handler.ser
    while waiting := serial.in_waiting:  # not reset_input_buffer, which waits for the kernel
        serial.read(waiting)
    bus.port_handler.is_using = False  # left behind by a failure in the middle of a packet


def troubles(bus: Any, side: str = "") -> list[str]:
    """Ask each motor by itself, twice: which are silent, and which complain.

    Args:
        bus: that they are on.
        side: before their names.

    Raises:
        OSError: the port is gone (also ``termios.error``).
    """
    found = []
    for name, motor in bus.motors.items():
        error, silent = 0, True
        for _ in range(2):
            drop_stale(bus)
            with suppress(IndexError):
                _, result, error = bus.packet_handler.ping(bus.port_handler, motor.id)
                silent = result != 0
            if not silent:
                break
        if silent:
            found.append(f"motor {side}{name} (id {motor.id}) does not answer")
        elif error:
            said = " and ".join(_words(error)) or f"status {error}"
            found.append(f"motor {side}{name} (id {motor.id}): {said}")
    return found


def positions(device: Any) -> dict[str, float]:
    """Where the joints are, by lerobot's names and in its units; without the cameras where its arms have buses.

    Raises:
        ConnectionError: a motor did not answer.
    """
    found = {}
    for side, bus in buses(device).items():
        drop_stale(bus)
        found |= {f"{side}{name}.pos": at for name, at in bus.sync_read("Present_Position", num_retry=2).items()}
    return found or device.get_observation()


def complaints(bus: Any, side: str = "") -> dict[str, list[str]]:
    """What Feetech servos say of themselves, by motor; empty for those that are well, and for other makes.

    A complaint counts if it is repeated: a late answer to another question may look like one.

    Raises:
        ConnectionError: they did not answer.
    """
    if type(bus).__name__ != "FeetechMotorsBus" or bus.protocol_version != 0:
        return {}
    bits = _status(bus)
    if any(bits.values()):
        time.sleep(_PAUSE_S)
        bits = {name: said & bits[name] for name, said in _status(bus).items()}
    return {f"{side}{name}": words for name, said in bits.items() if (words := list(_words(said)))}


def _status(bus: Any) -> dict[str, int]:
    drop_stale(bus)
    return {name: int(bits) for name, bits in bus.sync_read("Status", normalize=False, num_retry=2).items()}


def let_go(bus: Any) -> None:
    """Take the power off all motors, each by itself, and close the port, whatever answers and whatever does not."""
    for name in bus.motors:
        with suppress(*LINE_ERRORS, *PORT_ERRORS):
            drop_stale(bus)
            bus.disable_torque(name, num_retry=2)
    shut(bus)


def shut(bus: Any) -> None:
    """Close the port without a word to the motors; they go on holding their last goal."""
    with suppress(AttributeError, *PORT_ERRORS):  # AttributeError: it was never open
        bus.port_handler.is_using = False
        bus.port_handler.closePort()
    bus.port_handler.is_open = False


def _words(bits: int) -> Iterator[str]:
    return (words for bit, words in COMPLAINTS.items() if bits & bit)
