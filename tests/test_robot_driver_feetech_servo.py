"""The servo against lerobot's table of its registers, and against what a position servo promises."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.robot_driver import feetech_servo
from vla.robot_driver.feetech_servo import (
    ACCELERATION,
    GOAL_POSITION,
    GOAL_SPEED,
    HOMING_OFFSET,
    MAX_LIMIT,
    MIN_LIMIT,
    OVERLOAD_BIT,
    P_GAIN,
    PRESENT_LOAD,
    PRESENT_POSITION,
    STATUS,
    TOP_SPEED,
    TORQUE_ENABLE,
    VOLTAGE_BIT,
    Register,
    Servo,
)

DT = 0.001


def write(servo, register, value):
    other = Servo(0)
    other.set(register, value)
    servo.write(register.address, bytes(other._memory[register.address : register.address + register.size]))


def powered(**fields):
    servo = Servo(1, **fields)
    write(servo, P_GAIN, 16)
    write(servo, TORQUE_ENABLE, 1)
    return servo


def run(servo, seconds):
    path = []
    for _ in range(round(seconds / DT)):
        servo.advance(DT)
        path.append(servo.position)
    return path


def test_the_registers_are_where_lerobot_looks_for_them():
    tables = pytest.importorskip("lerobot.motors.feetech.tables", reason="the extra so101 is not installed")
    theirs = set(tables.STS_SMS_SERIES_CONTROL_TABLE.values()) | {(0, 2)}  # the two bytes of the firmware are one here
    ours = {name: value for name, value in vars(feetech_servo).items() if isinstance(value, Register)}
    assert len(ours) > 25
    for name, register in ours.items():
        assert (register.address, register.size) in theirs, name
    signs = tables.STS_SMS_SERIES_ENCODINGS_TABLE
    names = {"Homing_Offset": HOMING_OFFSET, "Goal_Position": GOAL_POSITION, "Present_Load": PRESENT_LOAD}
    assert all(signs[name] == register.sign for name, register in names.items())
    assert tables.MODEL_NUMBER_TABLE["sts3215"] == feetech_servo.MODEL


@given(st.sampled_from([HOMING_OFFSET, GOAL_POSITION, PRESENT_LOAD]), st.data())
def test_signed_numbers_come_back(register, data):
    most = (1 << register.sign) - 1
    value = data.draw(st.integers(-most, most))
    servo = Servo(1)
    servo.set(register, value)
    assert servo.get(register) == value


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4095), st.integers(0, 4095))
def test_it_comes_to_its_goal_without_going_beyond_and_no_faster_than_it_can(start, goal):
    servo = powered(position=float(start))
    write(servo, ACCELERATION, 254)
    write(servo, GOAL_POSITION, goal)
    path = [float(start), *run(servo, 2.5)]
    assert abs(path[-1] - goal) <= 1.0
    slack = 3.0  # it brakes from full speed in steps of a millisecond
    assert min(start, goal) - slack <= min(path) and max(path) <= max(start, goal) + slack
    assert max(abs(b - a) for a, b in itertools.pairwise(path)) <= TOP_SPEED * DT + 1e-6


def test_it_goes_as_slowly_as_it_is_told():
    servo = powered(position=1000.0)
    write(servo, GOAL_SPEED, 500)
    write(servo, GOAL_POSITION, 3000)
    path = run(servo, 2.0)
    assert path[-1] - 1000.0 == pytest.approx(1000.0, rel=0.05)


def test_a_goal_beyond_the_limits_is_the_limit():
    servo = powered(position=2000.0)
    write(servo, MIN_LIMIT, 1500)
    write(servo, MAX_LIMIT, 2500)
    write(servo, GOAL_POSITION, 4000)
    assert run(servo, 3.0)[-1] == pytest.approx(2500, abs=1)


@given(st.integers(0, 4095), st.integers(-2047, 2047))
def test_what_it_reads_is_the_encoder_less_the_offset(position, offset):
    servo = Servo(1, position=float(position))
    write(servo, HOMING_OFFSET, offset)
    assert int.from_bytes(servo.read(PRESENT_POSITION.address, 2), "little") == (position - offset) % 4096


def test_only_a_servo_without_power_can_be_moved_by_hand_and_it_holds_where_power_finds_it():
    servo = Servo(1, position=2000.0, reach=(1000.0, 3000.0))
    servo.place(3500.0)
    assert servo.position == 3000.0  # the joint's end
    write(servo, GOAL_POSITION, 1200)
    write(servo, TORQUE_ENABLE, 1)
    servo.place(1500.0)
    assert run(servo, 1.0)[-1] == 3000.0


def test_what_is_measured_cannot_be_written():
    servo = Servo(1)
    servo.write(PRESENT_POSITION.address, b"\x01\x02")
    servo.write(0, b"\x09\x09\x09\x09\x09")
    assert servo.read(3, 2) == (777).to_bytes(2, "little")
    assert servo.read(PRESENT_POSITION.address, 2) == (2048).to_bytes(2, "little")


def test_one_that_pushes_without_moving_trips_after_its_time_and_recovers_when_it_backs_off():
    servo = powered(position=2000.0)
    servo.jammed = True
    write(servo, GOAL_POSITION, 3000)
    run(servo, 1.9)
    assert servo.status == 0 and servo.position == 2000.0
    assert servo.get(PRESENT_LOAD) == 0 and servo.read(PRESENT_LOAD.address, 2) == (1000).to_bytes(2, "little")
    run(servo, 0.3)
    assert servo.status == OVERLOAD_BIT and servo.read(STATUS.address, 1) == bytes([OVERLOAD_BIT])
    servo.jammed = False
    assert run(servo, 1.0)[-1] == 2000.0  # tripped: it does not move though it could
    write(servo, GOAL_POSITION, 1500)
    assert run(servo, 3.0)[-1] == pytest.approx(1500, abs=1) and servo.status == 0


def test_a_voltage_out_of_range_is_a_complaint():
    servo = Servo(1)
    servo.volts = 12.3
    assert servo.status == VOLTAGE_BIT
