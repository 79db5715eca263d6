"""Whatever the target does, velocity, acceleration and jerk stay bounded, and no joint passes its end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import BodyFault, ConfigError
from vla.robot_driver.motion import Motion, MotionLimits
from vla.robot_driver.trajectory import Ramp

pytest.importorskip("ruckig", reason="bounded motion is the control extra")
PERIOD = 0.002


def limits(size=3, seed=0):
    draw = np.random.default_rng(seed)
    middle = draw.uniform(-5, 5, size)  # of many joints' ranges 0 is no part
    low, high = middle - draw.uniform(0.1, 3, size), middle + draw.uniform(0.1, 3, size)
    velocity, acceleration = draw.uniform(0.2, 3, size), draw.uniform(0.5, 15, size)
    jerk = draw.uniform(5, 5000, size)
    return MotionLimits(*(tuple(values.tolist()) for values in (low, high, velocity, acceleration, jerk)))


def assert_bounded(positions, bounds, period):
    """From positions alone, as an arm gets them: differences of sent positions never exceed what is allowed."""
    sent = np.array(positions)
    for order, most in enumerate((bounds.velocity, bounds.acceleration, bounds.jerk), 1):
        found = np.abs(np.diff(sent, order, axis=0)) / period**order
        slack = 1e-12 / period**order  # rounding of the positions
        assert (found <= np.array(most) * (1 + 1e-6) + slack).all(), f"derivative {order}"
    assert (sent >= np.array(bounds.low) - 1e-8).all() and (sent <= np.array(bounds.high) + 1e-8).all()


def middle(bounds):
    return (np.array(bounds.low) + np.array(bounds.high)) / 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 0.2), st.sampled_from([0.001, 0.002, 0.01]))
def test_bounds_hold_at_every_tick_for_any_targets(seed, changes, period):
    draw = np.random.default_rng(seed)
    bounds = limits(seed=seed)
    motion = Motion(bounds, period, middle(bounds))
    sent, target, speed, push = [motion.state.position] * 4, middle(bounds), np.zeros(3), np.zeros(3)
    for tick in range(250):
        if draw.random() < changes:
            target, speed = middle(bounds) + draw.uniform(-4, 4, 3), draw.uniform(-4, 4, 3)  # often too far, too fast
            push = draw.uniform(-20, 20, 3)
        state = motion.brake() if tick % 100 > 85 else motion.step(target, speed, push)
        target = target + speed * period
        sent.append(state.position)
    assert_bounded(sent, bounds, period)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_any_target_inside_the_limits_is_reached(seed):
    draw = np.random.default_rng(seed)
    bounds = limits(seed=seed)
    motion = Motion(bounds, 0.01, middle(bounds))
    target = draw.uniform(bounds.low, bounds.high)
    velocity, acceleration, jerk = map(np.array, (bounds.velocity, bounds.acceleration, bounds.jerk))
    far = np.abs(target - middle(bounds))
    longest = (far / velocity + velocity / acceleration + acceleration / jerk).max()  # of a motion with all its parts
    for _ in range(int(2 * longest / 0.01) + 2):
        motion.step(target)
    assert motion.state.position == pytest.approx(target, abs=1e-6) and not motion.moving


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_a_motion_comes_to_rest_from_anywhere_and_stays(seed):
    draw = np.random.default_rng(seed)
    bounds = limits(seed=seed)
    motion = Motion(bounds, PERIOD, middle(bounds))
    for _ in range(draw.integers(1, 400)):
        motion.step(middle(bounds) + draw.uniform(-4, 4, 3))
    # no longer than speed and acceleration at their largest need
    velocity, acceleration, jerk = map(np.array, (bounds.velocity, bounds.acceleration, bounds.jerk))
    longest = (velocity / acceleration + 3 * acceleration / jerk + 2 * np.sqrt(velocity / jerk)).max()
    for _ in range(int(longest / PERIOD) + 2):
        motion.brake()
    assert not motion.moving
    assert np.array_equal(motion.brake().position, motion.brake().position)


def test_a_target_is_reached_exactly_and_a_moving_one_is_kept_up_with():
    bounds = MotionLimits((-2,), (2,), (1,), (5,), (100,))
    motion = Motion(bounds, PERIOD, np.zeros(1))
    for _ in range(1000):
        motion.step(np.array([0.7]))
    assert motion.state.position == pytest.approx([0.7], abs=1e-9) and not motion.moving
    times = PERIOD * np.arange(1000)
    for target, speed, push in (  # of a steady and of a swinging target
        (0.7 + 0.5 * times, np.full(1000, 0.5), np.zeros(1000)),
        (0.7 + 0.1 * np.sin(5 * times), 0.5 * np.cos(5 * times), -2.5 * np.sin(5 * times)),
    ):
        motion.restart(np.array([0.7]))
        found = [motion.step(*np.array([[target[k]], [speed[k]], [push[k]]])).position[0] for k in range(1000)]
        # a step begins where the target is, and ends a period later: no lag, no swinging about it
        assert found[500:-1] == pytest.approx(target[501:], abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.002, 0.008]))
def test_a_ramp_s_end_is_reached_and_not_passed(seed, period):
    """A motion starts behind a ramp and has to be faster than it for a while: it does not shoot over the ramp's end."""
    draw = np.random.default_rng(seed)
    bounds = limits(seed=seed)
    motion, goal, time = Motion(bounds, period, middle(bounds)), middle(bounds), 0.0
    sent = [motion.state.position] * 4
    for _ in range(3):
        start, goal = goal, middle(bounds) + draw.uniform(-0.05, 0.05, 3)
        ramp, begun = Ramp(time, time + 0.1, start, goal), len(sent)
        for _ in range(round(30 / period)):
            sent.append(motion.step(*ramp.at(time)).position)
            time += period
            if time > ramp.end and not motion.moving and np.allclose(sent[-1], goal, rtol=0, atol=1e-7):
                break
        np.testing.assert_allclose(sent[-1], goal, atol=1e-6)
        low, high = np.minimum(start, goal) - 1e-8, np.maximum(start, goal) + 1e-8
        assert (np.array(sent[begun:]) >= low).all() and (np.array(sent[begun:]) <= high).all()
    assert_bounded(sent, bounds, period)


def test_a_motion_that_is_too_fast_for_an_end_passes_it_by_no_more_than_it_must():
    bounds = MotionLimits((-2.0,), (2.0,), (1.0,), (2.0,), (50.0,))
    motion, braked = (Motion(bounds, PERIOD, np.zeros(1)) for _ in range(2))
    for one in (motion, braked):
        while one.state.position[0] < 0.5:
            one.step(np.array([2.0]))
    while braked.moving:
        braked.brake()
    end, most = np.array([0.51]), 0.0
    for _ in range(3000):
        most = max(most, motion.step(end, end=end).position[0])
    assert most <= braked.state.position[0] + 1e-9
    np.testing.assert_allclose(motion.state.position, end, atol=1e-6)


def test_a_joint_at_its_end_does_not_hold_the_others_up():
    bounds = MotionLimits((-0.1, -2), (0.1, 2), (1, 1), (5, 5), (100, 100))
    motion = Motion(bounds, PERIOD, np.zeros(2))
    for tick in range(1000):
        motion.step(np.array([0.5 * tick * PERIOD] * 2), np.array([0.5, 0.5]))
    assert motion.state.position == pytest.approx([0.1, 0.5 * 1000 * PERIOD], abs=1e-6)


def test_an_arm_that_stands_a_little_outside_is_led_back():
    bounds = MotionLimits((0.0, -1.0), (1.0, 1.0), (1, 1), (5, 5), (100, 100))
    motion = Motion(bounds, PERIOD, np.array([-0.009, 1.015]))
    sent = [motion.state.position] * 4 + [motion.step(np.array([-1.0, 0.5])).position for _ in range(1000)]
    assert sent[-1] == pytest.approx([0.0, 0.5], abs=1e-6)
    wider = MotionLimits((-0.009, -1.0), (1.0, 1.015), (1, 1), (5, 5), (100, 100))
    assert_bounded(sent, wider, PERIOD)


def test_two_arms_are_one_motion():
    arm = limits(7, seed=1)
    both = arm + limits(7, seed=2)
    assert both.size == 14 and both.velocity[:7] == arm.velocity
    motion = Motion(both, PERIOD, middle(both))
    sent = [motion.state.position] * 4
    for tick in range(300):
        sent.append(motion.step(middle(both) + (1.0 if tick < 150 else -1.0)).position)
    assert_bounded(sent, both, PERIOD)


def test_what_is_no_target_or_no_start_is_refused():
    bounds = MotionLimits((-1,) * 3, (1,) * 3, (1,) * 3, (5,) * 3, (100,) * 3)
    motion = Motion(bounds, PERIOD, np.zeros(3))
    for position, velocity in (([0, np.nan, 0], None), ([0, 0, 0], [np.inf, 0, 0])):
        with pytest.raises(BodyFault, match="finite"):
            motion.step(np.array(position), None if velocity is None else np.array(velocity))
    with pytest.raises(BodyFault, match="channel 1 is at 9, outside"):
        motion.restart(np.array([0.0, 9.0, 0.0]))
    with pytest.raises(BodyFault, match="channel 0"):
        motion.restart(np.array([np.nan, 0.0, 0.0]))
    with pytest.raises(ConfigError, match="3 numbers"):
        motion.restart(np.zeros(4))
    with pytest.raises(ConfigError, match="period"):
        Motion(bounds, 0.0, np.zeros(3))


@pytest.mark.parametrize(
    "wrong", [{"velocity": (0.0,)}, {"jerk": (np.inf,)}, {"low": (2.0,)}, {"acceleration": (1.0, 1.0)}]
)
def test_limits_are_checked(wrong):
    one = (1.0,)
    with pytest.raises(ConfigError):
        MotionLimits(**({"low": (-1.0,), "high": one, "velocity": one, "acceleration": one, "jerk": one} | wrong))
