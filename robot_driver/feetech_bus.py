"""The line that Feetech servos hang on: packets in, status packets out, and the ways in which a line fails.

A packet is ``FF FF id length instruction parameters checksum``, a status packet has the servo's complaints in the place
of the instruction; ``length`` counts what follows it, the checksum is the complement of the sum of all since ``id``
(Feetech's protocol 0, that of Dynamixel 1 with sync read added). One line carries both directions: a servo answers only
when asked, in the order in which it was asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vla.robot_driver.feetech_servo import Servo

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 1, 2, 3, 4, 5, 0x82, 0x83
EVERYBODY = 0xFE
HEADER = b"\xff\xff"
GAP_S = 0.02
"""A packet that stays incomplete for so long is forgotten [s]."""

FaultKind = Literal["checksum", "drop", "slow", "noise"]


@dataclass
class Fault:
    """What happens to some status packets.

    Attributes:
        kind: a wrong checksum, no answer, a late answer, or bytes of nobody before it.
        motor: whose; None for anybody's.
        count: to so many packets, then no more; None for ever.
        seconds: how late.
    """

    kind: FaultKind
    motor: int | None = None
    count: int | None = 1
    seconds: float = 0.0


@dataclass(frozen=True)
class Packet:
    """What a host says."""

    motor: int
    instruction: int
    parameters: bytes


def checksum(body: bytes) -> int:
    """Of a packet from its id to its last parameter."""
    return ~sum(body) & 0xFF


def status_packet(motor: int, complaints: int, parameters: bytes = b"") -> bytes:
    """The bytes of a servo's answer."""
    body = bytes([motor, len(parameters) + 2, complaints]) + parameters
    return HEADER + body + bytes([checksum(body)])


class Line:
    """Servos on a line.

    Args:
        servos: with different ids.
    """

    def __init__(self, servos: Sequence[Servo]):
        self.servos = list(servos)
        self.faults: list[Fault] = []
        self.damaged = 0  # packets of the host whose checksum was wrong
        self._heard = bytearray()
        self._heard_at = 0.0
        self._waiting: list[tuple[float, bytes]] = []
        self._registered: dict[int, tuple[int, bytes]] = {}

    def hear(self, data: bytes, now: float) -> None:
        """Take bytes from the host at a time [s]; what is a whole packet is obeyed."""
        if now - self._heard_at > GAP_S:
            self._heard.clear()
        self._heard += data
        self._heard_at = now
        while packet := self._next():
            self._obey(packet, now)

    def say(self, now: float) -> bytes:
        """What the servos have sent until a time [s]."""
        due = [said for at, said in self._waiting if at <= now]
        self._waiting = [(at, said) for at, said in self._waiting if at > now]
        return b"".join(due)

    @property
    def next_at(self) -> float | None:
        """When the next answer is due [s]; None if none is waiting."""
        return min((at for at, _ in self._waiting), default=None)

    def _next(self) -> Packet | None:
        while True:
            start = self._heard.find(HEADER)
            if start < 0:
                del self._heard[: max(0, len(self._heard) - 1)]  # the last byte may begin a header
                return None
            del self._heard[:start]
            if len(self._heard) < 4:
                return None
            size = self._heard[3] + 4
            if self._heard[2] == 0xFF or size < 6:
                del self._heard[0]
                continue
            if len(self._heard) < size:
                return None
            whole = bytes(self._heard[:size])
            if checksum(whole[2:-1]) != whole[-1]:
                self.damaged += 1
                del self._heard[:2]
                continue
            del self._heard[:size]
            return Packet(whole[2], whole[4], whole[5:-1])

    def _obey(self, packet: Packet, now: float) -> None:
        what = packet.parameters
        if packet.instruction == SYNC_READ and len(what) >= 2:
            for number in what[2:]:
                for servo in self._asked(number):
                    self._answer(servo, number, servo.read(what[0], what[1]), now)
        elif packet.instruction == SYNC_WRITE and len(what) >= 2:
            size = what[1] + 1
            for place in range(2, len(what) - size + 1, size):
                for servo in self._asked(what[place]):
                    servo.write(what[0], what[place + 1 : place + size])
        else:
            for servo in self._asked(packet.motor):
                number = servo.number  # it answers under the id it was asked by, though that may be what is written
                said = self._one(servo, number, packet)
                if said is not None and (packet.motor != EVERYBODY or packet.instruction == PING):
                    self._answer(servo, number, said, now)

    def _one(self, servo: Servo, number: int, packet: Packet) -> bytes | None:
        """What one servo answers; None if it does not understand."""
        what = packet.parameters
        if packet.instruction == READ and len(what) == 2:
            return servo.read(what[0], what[1])
        if packet.instruction == WRITE and what:
            servo.write(what[0], what[1:])
        elif packet.instruction == REG_WRITE and what:
            self._registered[number] = (what[0], what[1:])
        elif packet.instruction == ACTION:
            if number in self._registered:
                servo.write(*self._registered.pop(number))
        elif packet.instruction != PING:
            return None
        return b""

    def _asked(self, number: int) -> list[Servo]:
        return [servo for servo in self.servos if number in (EVERYBODY, servo.number)]

    def _answer(self, servo: Servo, number: int, parameters: bytes, now: float) -> None:
        said = status_packet(number, servo.status, parameters)
        fault = next((fault for fault in self.faults if fault.motor in (None, number)), None)
        if fault:
            if fault.count is not None:
                fault.count -= 1
                if fault.count <= 0:
                    self.faults.remove(fault)
            if fault.kind == "drop":
                return
            if fault.kind == "checksum":
                said = said[:-1] + bytes([said[-1] ^ 0x55])
            elif fault.kind == "noise":
                said = b"\x00\xff\x13" + said
            elif fault.kind == "slow":
                now += fault.seconds
        self._waiting.append((now, said))
