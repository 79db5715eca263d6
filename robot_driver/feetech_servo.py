"""A Feetech STS3215 servo in software: its control table, how it turns, and what makes it complain.

::

    goal ─▶ within the limits ─▶ bounded speed and acceleration ─▶ position ─▶ encoder: 4096 ticks a turn
             └─ torque off: the joint is moved by hand ─────────────┘

Register addresses and units: Feetech's STS memory table. It is a stand-in to try and to test with: it was compared with
lerobot's table and with what lerobot and Feetech's library do with it, not with a servo. Only position mode turns it;
there is no gravity and no load but a joint that is jammed.
"""

import math
from dataclasses import dataclass

RESOLUTION = 4096
"""Ticks of the encoder a turn."""

MODEL = 777
TOP_SPEED = 3400.0
"""Without load at 7.4 V [ticks/s]: 50 turns a minute."""


@dataclass(frozen=True)
class Register:
    """A number in the control table: little-endian; ``sign`` is the bit that makes it negative, where it can be."""

    address: int
    size: int = 1
    sign: int | None = None


FIRMWARE = Register(0, 2)
MODEL_NUMBER = Register(3, 2)
ID = Register(5)
RETURN_DELAY = Register(7)
MIN_LIMIT = Register(9, 2)
MAX_LIMIT = Register(11, 2)
MAX_TEMPERATURE = Register(13)
MAX_VOLTAGE = Register(14)
MIN_VOLTAGE = Register(15)
MAX_TORQUE = Register(16, 2)
PHASE = Register(18)
P_GAIN = Register(21)
D_GAIN = Register(22)
HOMING_OFFSET = Register(31, 2, sign=11)
MODE = Register(33)
PROTECTIVE_TORQUE = Register(34)
PROTECTION_TIME = Register(35)
OVERLOAD_TORQUE = Register(36)
TORQUE_ENABLE = Register(40)
ACCELERATION = Register(41)
GOAL_POSITION = Register(42, 2, sign=15)
GOAL_SPEED = Register(46, 2, sign=15)
TORQUE_LIMIT = Register(48, 2)
LOCK = Register(55)
PRESENT_POSITION = Register(56, 2, sign=15)
PRESENT_SPEED = Register(58, 2, sign=15)
PRESENT_LOAD = Register(60, 2, sign=10)
PRESENT_VOLTAGE = Register(62)
PRESENT_TEMPERATURE = Register(63)
STATUS = Register(65)
MOVING = Register(66)

VOLTAGE_BIT, ANGLE_BIT, HEAT_BIT, CURRENT_BIT, OVERLOAD_BIT = 1, 2, 4, 8, 32
"""Of the status register and of every status packet."""

_FACTORY = {
    FIRMWARE: 3 | 10 << 8,
    MODEL_NUMBER: MODEL,
    RETURN_DELAY: 250,
    MAX_LIMIT: RESOLUTION - 1,
    MAX_TEMPERATURE: 70,
    MAX_VOLTAGE: 80,
    MIN_VOLTAGE: 40,
    MAX_TORQUE: 1000,
    PHASE: 12,
    P_GAIN: 32,
    D_GAIN: 32,
    PROTECTIVE_TORQUE: 20,
    PROTECTION_TIME: 200,
    OVERLOAD_TORQUE: 80,
    TORQUE_LIMIT: 1000,
    LOCK: 1,
}
_SPACE = 128
_READ_ONLY = (range(0, 5), range(56, 71))
_STILL = 1.0  # [ticks/s]
_FULL_EFFORT = 100.0  # error that asks for all the torque, with lerobot's P of 16 [ticks]


class Servo:
    """One servo.

    Args:
        number: its id on the bus.
        position: of the shaft, as its encoder has it without an offset [ticks].
        reach: where the joint's mechanical ends are [ticks].
    """

    def __init__(self, number: int, *, position: float = 2048.0, reach: tuple[float, float] = (0.0, 4095.0)):
        self.position, self.reach = position, reach
        self.velocity = 0.0
        self.jammed = False
        self.volts, self.celsius = 7.4, 30.0
        self.overloaded = False
        self._target = position
        self._stalled_s = 0.0
        self._memory = bytearray(_SPACE)
        for register, value in _FACTORY.items():
            self.set(register, value)
        self.set(ID, number)

    @property
    def number(self) -> int:
        """Its id on the bus."""
        return self.get(ID)

    @property
    def powered(self) -> bool:
        """Whether it holds or moves by itself."""
        return self.get(TORQUE_ENABLE) == 1

    @property
    def status(self) -> int:
        """What it complains about, as bits."""
        bits = OVERLOAD_BIT if self.overloaded else 0
        if not self.get(MIN_VOLTAGE) <= round(10 * self.volts) <= self.get(MAX_VOLTAGE):
            bits |= VOLTAGE_BIT
        if self.celsius > self.get(MAX_TEMPERATURE):
            bits |= HEAT_BIT
        return bits

    def present(self) -> int:
        """What its encoder reads after its offset, within one turn [ticks]."""
        return round(self.position - self.get(HOMING_OFFSET)) % RESOLUTION

    def get(self, register: Register) -> int:
        """A number of the control table."""
        raw = int.from_bytes(self._memory[register.address : register.address + register.size], "little")
        if register.sign is None:
            return raw
        size = raw & ((1 << register.sign) - 1)
        return -size if raw >> register.sign & 1 else size

    def set(self, register: Register, value: int) -> None:
        """Store a number in the control table."""
        if register.sign is not None:
            value = abs(value) | (value < 0) << register.sign
        self._memory[register.address : register.address + register.size] = value.to_bytes(register.size, "little")

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the control table as a host reads them; what is measured is measured now."""
        self.set(PRESENT_POSITION, self.present())
        self.set(PRESENT_SPEED, round(self.velocity))
        self.set(PRESENT_LOAD, round(math.copysign(1000 * self._effort(), self._error())))
        self.set(PRESENT_VOLTAGE, round(10 * self.volts))
        self.set(PRESENT_TEMPERATURE, round(self.celsius))
        self.set(STATUS, self.status)
        self.set(MOVING, int(abs(self.velocity) > _STILL))
        return bytes(self._memory[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        """Bytes that a host writes; those it may not write stay as they are."""
        was_powered = self.powered
        for place, byte in enumerate(data, address):
            if place < _SPACE and not any(place in area for area in _READ_ONLY):
                self._memory[place] = byte
        written = range(address, address + len(data))
        if TORQUE_ENABLE.address in written:
            self._switched(was_powered)
        elif GOAL_POSITION.address in written and self.powered:
            self._aim()

    def place(self, position: float) -> None:
        """Move the joint by hand; a servo under power does not let itself be moved."""
        if not self.powered:
            self.position = min(max(position, self.reach[0]), self.reach[1])
            self.velocity = 0.0

    def advance(self, seconds: float) -> None:
        """Let a short time pass; a servo's own control period is about a millisecond."""
        if not self.powered:
            self.velocity = 0.0
            return
        error, wanted = self._error(), 0.0
        faster = 100.0 * self.get(ACCELERATION) or math.inf  # [ticks/s2]; 0 means that there is no bound
        if not (self.jammed or self.overloaded) and self.get(MODE) == 0:
            speed = min(abs(self.get(GOAL_SPEED)) or TOP_SPEED, TOP_SPEED)
            # slow enough to stop there, and in proportion to what is left: a position loop whose rate grows with P
            wanted = min(speed, math.sqrt(2.0 * faster * abs(error)), self.get(P_GAIN) * abs(error))
        change = math.copysign(wanted, error) - self.velocity
        most = faster * seconds if not self.jammed else math.inf
        self.velocity += min(max(change, -most), most)
        self.position = min(max(self.position + self.velocity * seconds, self.reach[0]), self.reach[1])
        self._watch(seconds)

    def _error(self) -> float:
        return self._target - self.position if self.powered else 0.0

    def _effort(self) -> float:
        """Share of the torque that it puts in."""
        wanted = abs(self._error()) * self.get(P_GAIN) / 16.0 / _FULL_EFFORT
        limit = min(self.get(TORQUE_LIMIT), self.get(MAX_TORQUE)) / 1000.0
        return min(wanted, self.get(PROTECTIVE_TORQUE) / 100.0 if self.overloaded else limit, 1.0)

    def _watch(self, seconds: float) -> None:
        """Trip where it has pushed too hard for too long without moving."""
        hard = 100.0 * self._effort() >= self.get(OVERLOAD_TORQUE) and abs(self.velocity) <= _STILL
        self._stalled_s = self._stalled_s + seconds if hard else 0.0
        if self._stalled_s > self.get(PROTECTION_TIME) / 100.0:
            self.overloaded = True

    def _switched(self, was_powered: bool) -> None:
        if self.get(TORQUE_ENABLE) == 128:  # here is the middle
            self.set(HOMING_OFFSET, round(self.position) - RESOLUTION // 2)
            self.set(TORQUE_ENABLE, int(was_powered))
        self.overloaded, self._stalled_s = False, 0.0
        if not was_powered:  # it holds where it is, as an SO-101 does when lerobot connects
            self._target = self.position
            self.set(GOAL_POSITION, self.present())

    def _aim(self) -> None:
        goal, low, high = self.get(GOAL_POSITION), self.get(MIN_LIMIT), self.get(MAX_LIMIT)
        if low < high:  # both 0: no limits
            goal = min(max(goal, low), high)
        before = self._error()
        self._target = self.position + goal - (self.position - self.get(HOMING_OFFSET)) % RESOLUTION
        if before * self._error() < 0:
            self.overloaded, self._stalled_s = False, 0.0  # away from the obstacle
