"""The line against Feetech's own library: it asks, the emulated servos answer, no port in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.robot_driver.feetech_bus import HEADER, Fault, Line, checksum
from vla.robot_driver.feetech_servo import GOAL_POSITION, ID, MODEL, PRESENT_POSITION, RETURN_DELAY, Servo

scs = pytest.importorskip("scservo_sdk", reason="the extra so101 is not installed")


class Port:
    """What the library takes for a serial port: it answers at once, and time passes only when there is nothing."""

    def __init__(self, line):
        self.line, self.now, self.is_using, self._end = line, 0.0, False, 0.0
        self._arrived = bytearray()

    def clearPort(self): ...  # noqa: N802

    def writePort(self, packet):  # noqa: N802
        self.line.hear(bytes(packet), self.now)
        return len(packet)

    def readPort(self, length):  # noqa: N802
        self._arrived += self.line.say(self.now)
        if not self._arrived:
            self.now += 0.001
        taken = bytes(self._arrived[:length])
        del self._arrived[:length]
        return list(taken)

    def setPacketTimeout(self, length):  # noqa: N802
        self._end = self.now + 0.05

    def isPacketTimeout(self):  # noqa: N802
        return self.now > self._end


@pytest.fixture
def line():
    return Line([Servo(number, position=1000.0 + number) for number in range(1, 7)])


@pytest.fixture
def port(line):
    return Port(line)


@pytest.fixture
def library():
    return scs.PacketHandler(0)


def read_together(port, library, register, numbers=range(1, 7)):
    group = scs.GroupSyncRead(port, library, register.address, register.size)
    for number in numbers:
        group.addParam(number)
    result = group.txRxPacket()
    return result, {number: group.getData(number, register.address, register.size) for number in numbers}


def test_ping(port, library):
    assert library.ping(port, 3) == (MODEL, scs.COMM_SUCCESS, 0)
    assert library.ping(port, 9)[1] == scs.COMM_RX_TIMEOUT


@given(st.integers(0, 255))
def test_a_byte_written_is_read(value):
    port, library = Port(Line([Servo(4)])), scs.PacketHandler(0)
    assert library.write1ByteTxRx(port, 4, RETURN_DELAY.address, value) == (scs.COMM_SUCCESS, 0)
    assert library.read1ByteTxRx(port, 4, RETURN_DELAY.address) == (value, scs.COMM_SUCCESS, 0)


def test_read_and_write_together(port, library, line):
    assert read_together(port, library, PRESENT_POSITION) == (
        scs.COMM_SUCCESS,
        {number: 1000 + number for number in range(1, 7)},
    )
    group = scs.GroupSyncWrite(port, library, GOAL_POSITION.address, 2)
    for number in (2, 5):
        group.addParam(number, [number, 7])
    assert group.txPacket() == scs.COMM_SUCCESS
    assert [servo.get(GOAL_POSITION) for servo in line.servos] == [0, 7 * 256 + 2, 0, 0, 7 * 256 + 5, 0]
    assert line.say(1.0) == b""  # nobody answers that


def test_a_registered_write_waits_for_the_action(port, library, line):
    assert library.regWriteTxRx(port, 2, GOAL_POSITION.address, 2, [1, 2]) == (scs.COMM_SUCCESS, 0)
    assert line.servos[1].get(GOAL_POSITION) == 0
    library.action(port, scs.BROADCAST_ID)
    assert line.servos[1].get(GOAL_POSITION) == 2 * 256 + 1


def test_an_id_is_changed_by_a_write_that_is_answered_under_the_old_one(port, library):
    assert library.write1ByteTxRx(port, 6, ID.address, 9) == (scs.COMM_SUCCESS, 0)
    assert library.ping(port, 9) == (MODEL, scs.COMM_SUCCESS, 0)
    assert library.ping(port, 6)[1] == scs.COMM_RX_TIMEOUT


def test_every_answer_carries_the_complaints(port, library, line):
    line.servos[0].volts = 3.0
    assert library.ping(port, 1) == (MODEL, scs.COMM_SUCCESS, scs.ERRBIT_VOLTAGE)


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (Fault("checksum", 3), scs.COMM_RX_CORRUPT),
        (Fault("drop", 3), scs.COMM_RX_TIMEOUT),
        (Fault("slow", 3, seconds=0.2), scs.COMM_RX_TIMEOUT),
        (Fault("noise", 3), scs.COMM_SUCCESS),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_a_fault_happens_once_and_the_library_sees_it(port, library, line, fault, result):
    line.faults.append(fault)
    assert library.read2ByteTxRx(port, 3, PRESENT_POSITION.address)[1] == result
    port.now += 1.0
    port.readPort(1000)
    assert library.read2ByteTxRx(port, 3, PRESENT_POSITION.address)[:2] == (1003, scs.COMM_SUCCESS)


def ping_of(number):
    body = bytes([number, 2, 1])
    return HEADER + body + bytes([checksum(body)])


@given(st.binary(max_size=40), st.lists(st.integers(1, 8), max_size=6))
def test_after_a_pause_a_packet_is_heard_whatever_came_before_and_however_it_is_cut(noise, cuts):
    line = Line([Servo(1)])
    line.hear(noise, 0.0)
    line.say(0.0)
    packet, now = ping_of(1), 1.0
    for cut in cuts:
        line.hear(packet[:cut], now)
        packet, now = packet[cut:], now + 0.001
    line.hear(packet, now)
    assert line.say(2.0) == bytes.fromhex("ffff010200fc")


@given(st.integers(2, 5), st.integers(1, 255))
def test_a_damaged_packet_is_not_obeyed(place, change):
    line = Line([Servo(1)])
    packet = bytearray(ping_of(1))
    packet[place] ^= change
    line.hear(bytes(packet), 0.0)
    assert line.say(1.0) == b""
