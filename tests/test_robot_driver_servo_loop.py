"""What is sent is bounded at every tick, whatever the policy's side does or stops doing."""

import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_robot_driver_motion import assert_bounded

from vla.embodiment import ActionSpec, Channel
from vla.errors import BodyFault, ConfigError
from vla.experience import ActionChunk
from vla.robot_driver.motion import MotionLimits
from vla.robot_driver.servo_loop import Servo
from vla.robot_driver.trajectory import Anchor, JointPath, Target, joint_path

pytest.importorskip("ruckig", reason="bounded motion is the control extra")
LIMITS = MotionLimits((-2,) * 3, (2,) * 3, (1.5,) * 3, (10,) * 3, (400,) * 3)
RATE = 250.0
DT = 1 / RATE
SPEC = ActionSpec(tuple(Channel(f"joint_{i}", "rad", "joint") for i in range(3)), "absolute", "joint", None, None, 20.0)


class Arm:
    """Is where it was sent, by ``offset`` beside; remembers everything."""

    def __init__(self):
        self.sent: list[np.ndarray] = []
        self.offset: Any = 0.0

    def send(self, position):
        self.sent.append(position)

    def measure(self):
        return (self.sent[-1] if self.sent else np.zeros(3)) + self.offset


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def make(**settings):
    arm, clock = Arm(), Clock()
    servo = Servo(arm.send, arm.measure, LIMITS, rate=RATE, clock=clock, **settings)
    servo.restart()
    return arm, clock, servo


def run(servo, clock, seconds, skip=lambda: 0):
    for _ in range(round(seconds * RATE)):
        clock.now += DT * (1 + skip())
        servo.tick(clock.now)


def sweep(clock, to=1.0, seconds=0.8, **settings):
    return JointPath(np.array([clock.now, clock.now + seconds]), np.array([[0.0] * 3, [to] * 3]), **settings)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 0.5), st.floats(0.0, 0.3))
def test_bounds_hold_for_random_chunks_late_chunks_and_stops(seed, lateness, missed):
    draw = np.random.default_rng(seed)
    arm, clock, servo = make(stale_after=0.6)
    arm.sent = [np.zeros(3)] * 4
    for _ in range(6):
        start = draw.choice([0.0, 0.1, 2.0]) * draw.normal(size=3)
        rows = start + np.cumsum(draw.normal(size=(10, 3)) * draw.choice([0.02, 0.3]), axis=0)
        chunk = ActionChunk(rows.astype(np.float32), clock.now, 0.05)
        run(servo, clock, draw.uniform(0, lateness), lambda: int(draw.random() < missed))  # inference
        servo.follow(joint_path(chunk, SPEC, Anchor(chunk.time, start), rests=bool(draw.random() < 0.5)))
        run(servo, clock, draw.uniform(0.05, 0.3), lambda: int(draw.random() < missed))
        if draw.random() < 0.3:
            servo.stop()
            run(servo, clock, 0.1)
    servo.stop()
    run(servo, clock, 0.5)
    assert_bounded(arm.sent, LIMITS, DT)
    assert servo.mode == "holding" and np.array_equal(arm.sent[-1], arm.sent[-2])


def test_a_path_is_followed_in_time_and_kept_at_its_end():
    arm, clock, servo = make()
    path = sweep(clock, to=0.5)
    servo.follow(path)
    run(servo, clock, 0.4)
    target = path.at(clock.now + DT)
    assert servo.mode == "following" and target is not None
    assert arm.sent[-1] == pytest.approx(target.position, abs=0.001)
    run(servo, clock, 2.0)
    assert arm.sent[-1] == pytest.approx([0.5] * 3, abs=1e-6) and servo.mode == "holding"
    assert servo.report()["stops"] == {"path over": 0, "path stale": 0, "stop": 0, "deviation": 0, "error": 0}


def test_a_late_chunk_is_a_controlled_stop_and_the_next_one_goes_on():
    arm, clock, servo = make()
    servo.follow(sweep(clock, rests=False))
    run(servo, clock, 0.8)
    speed = servo.state.velocity[0]
    assert speed > 1.0
    run(servo, clock, 0.5)  # nothing comes
    assert servo.mode == "holding" and servo.report()["stops"]["path over"] == 1
    beyond = arm.sent[-1][0] - 1.0
    assert 0 <= beyond < speed**2 / 10 + speed * 10 / 400  # as far as braking takes it
    servo.follow(JointPath(np.array([clock.now, clock.now + 0.8]), np.array([arm.sent[-1], [0.0] * 3])))
    run(servo, clock, 2.0)
    assert arm.sent[-1] == pytest.approx([0.0] * 3, abs=1e-6)
    assert_bounded(arm.sent, LIMITS, DT)


def test_a_policy_that_hangs_stops_the_arm_although_its_path_goes_on():
    arm, clock, servo = make(stale_after=0.2)
    servo.follow(sweep(clock, to=2.0, seconds=4.0))
    run(servo, clock, 0.18)
    assert servo.mode == "following"
    run(servo, clock, 0.42)
    assert servo.mode == "holding" and servo.report()["stops"]["path stale"] == 1
    assert_bounded(arm.sent, LIMITS, DT)


def test_actions_that_come_one_by_one_make_one_motion():
    arm, clock, servo = make()
    for step in range(1, 41):  # 20 Hz, a little early or late
        servo.toward(np.full(3, 0.02 * step), 0.06)
        run(servo, clock, 0.048 if step % 2 else 0.052)
    speeds = np.diff(arm.sent, axis=0)[250:, 0] / DT
    assert speeds == pytest.approx(0.4, rel=0.15)  # no stopping in between
    assert arm.sent[-1] == pytest.approx([0.8] * 3, abs=0.01)
    run(servo, clock, 0.5)
    assert servo.mode == "holding" and servo.report()["stops"]["path over"] == 1
    assert_bounded(arm.sent, LIMITS, DT)


def test_an_arm_that_is_elsewhere_stops_the_motion_until_a_restart():
    arm, clock, servo = make(max_deviation=0.1)
    servo.follow(sweep(clock))
    run(servo, clock, 0.3)
    arm.offset = np.array([0.0, 0.2, 0.0])
    run(servo, clock, 0.5)
    assert servo.mode == "holding" and "channel 1" in servo.fault
    with pytest.raises(BodyFault, match=r"channel 1 is 0\.2 from where it was sent"):
        servo.follow(sweep(clock))
    servo.restart()
    servo.follow(sweep(clock))


def test_an_arm_that_cannot_be_measured_any_more_is_braked_within_the_limits():
    arm, clock, servo = make(max_deviation=0.1)
    arm.sent = [np.zeros(3)] * 4
    servo.follow(sweep(clock))
    run(servo, clock, 0.3)
    assert servo.mode == "following"

    def lost():
        raise RuntimeError("the gripper does not answer")

    servo._measure = lost
    run(servo, clock, 0.5)
    assert servo.mode == "holding" and servo.report()["stops"]["error"] == 1
    assert_bounded(arm.sent, LIMITS, DT)
    with pytest.raises(RuntimeError, match="gripper does not answer"):
        servo.follow(sweep(clock))


@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_path_that_makes_no_sense_is_a_controlled_stop(value):
    class Nonsense:
        end = 10.0

        def at(self, time):
            if value is None:
                raise ZeroDivisionError
            return Target(np.full(3, value), np.zeros(3))

    arm, clock, servo = make()
    arm.sent = [np.zeros(3)] * 4
    servo.follow(sweep(clock))
    run(servo, clock, 0.3)
    servo.follow(Nonsense())
    run(servo, clock, 0.5)
    assert servo.mode == "holding" and servo.report()["stops"]["error"] == 1
    assert_bounded(arm.sent, LIMITS, DT)
    with pytest.raises((BodyFault, ZeroDivisionError)):
        servo.follow(sweep(clock))


def test_closing_does_not_wait_for_a_motion_that_nobody_makes_any_more():
    broken = threading.Event()
    arm = Arm()

    def send(position):
        arm.send(position)
        if broken.is_set():
            raise ConnectionError("the arm is gone")

    servo = Servo(send, arm.measure, LIMITS, rate=RATE)
    servo.start()
    now = time.monotonic()
    servo.follow(JointPath(np.array([now, now + 5]), np.array([[0.0] * 3, [2.0] * 3])))
    while servo.mode != "following":
        time.sleep(0.01)
    broken.set()
    assert servo.wait_until_rest(600.0) is False
    servo.close()


def test_after_missed_periods_the_motion_does_not_hurry():
    arm, clock, servo = make()
    servo.follow(sweep(clock))
    run(servo, clock, 0.3)
    before = arm.sent[-1]
    clock.now += 0.2  # the machine was busy
    servo.tick(clock.now)
    assert np.abs(arm.sent[-1] - before).max() <= 1.5 * DT * (1 + 1e-6)


def test_it_runs_in_a_thread_and_ends_at_rest():
    arm = Arm()
    servo = Servo(arm.send, arm.measure, LIMITS, rate=RATE)
    servo.start()
    with pytest.raises(BodyFault, match="already"):
        servo.start()
    now = time.monotonic()
    servo.follow(JointPath(np.array([now, now + 5]), np.array([[0.0] * 3, [2.0] * 3])))
    while servo.mode != "following":
        time.sleep(0.01)
    servo.close()
    servo.close()
    assert not servo._started().moving and np.array_equal(arm.sent[-1], servo.state.position)
    assert_bounded([np.zeros(3)] * 4 + arm.sent, LIMITS, DT)
    report = servo.report()
    assert report["ticks"] == len(arm.sent) and report["stops"]["stop"] == 1 and report["late_us"]["p50"] >= 0


def test_an_arm_that_no_longer_answers_is_an_error_of_the_next_path():
    sends = threading.Event()

    def send(position):
        sends.set()
        raise ConnectionError("the arm is gone")

    servo = Servo(send, lambda: np.zeros(3), LIMITS, rate=RATE)
    servo.start()
    sends.wait(10)
    with pytest.raises(ConnectionError, match="the arm is gone"):
        for _ in range(1000):
            servo.follow(sweep(Clock()))
            time.sleep(0.01)
    servo.close()


def test_settings_are_checked():
    arm = Arm()
    wrongs: list[dict[str, Any]] = [{"rate": 0.0}, {"stale_after": 0.0}, {"max_deviation": float("nan")}]
    for wrong in wrongs:
        with pytest.raises(ConfigError):
            Servo(arm.send, arm.measure, LIMITS, **wrong)
    servo = Servo(arm.send, arm.measure, LIMITS)
    with pytest.raises(BodyFault, match="not started"):
        servo.follow(sweep(Clock()))
    servo.close()
