"""Each watch speaks at the observation that shows the fault, and at no other."""

import numpy as np
import pytest

from vla.errors import ConfigError
from vla.experience import Observation
from vla.safety_limits import SafetyLimits
from vla.safety_watch import CameraWatch, ClockWatch, RepeatWatch, Standstill, StuckWatch

RNG = np.random.default_rng(0)


def seen(time, x=0.0, picture=None):
    images = {} if picture is None else {"front": picture}
    return Observation(images, np.array([x, 0.0], np.float32), "", time)


def picture():
    return RNG.integers(0, 255, (8, 8, 3)).astype(np.uint8)


def test_a_clock_that_runs_alike_is_believed_however_late_answers_come():
    watch = ClockWatch(SafetyLimits(clock_jump=0.1))
    now = 50.0
    for _ in range(200):
        late = RNG.exponential(0.3)
        assert watch.look(seen(now + late * RNG.random() - 7.0), now, now + late) is None
        now += late + 0.05


@pytest.mark.parametrize("jump", [-3.0, -0.2, 0.15, 4.0])
def test_a_clock_jump_is_seen_at_once_and_then_lived_with(jump):
    watch = ClockWatch(SafetyLimits(clock_jump=0.1))
    for now in np.arange(0.0, 1.0, 0.05):
        assert watch.look(seen(now + 7.0), now, now + 0.001) is None
    alarm = watch.look(seen(1.0 + 7.0 + jump), 1.0, 1.001)
    assert alarm is not None and alarm.rule == "clock"
    for now in np.arange(1.05, 2.0, 0.05):
        assert watch.look(seen(now + 7.0 + jump), now, now + 0.001) is None


def test_a_simulators_clock_may_stand_and_start_again():
    watch = ClockWatch(SafetyLimits())
    for place, time in enumerate((0.0, 0.05, 0.05, 3.0, 0.0)):
        assert watch.look(seen(time), 1.0 * place, 1.0 * place) is None


def test_time_that_stands_still():
    watch = Standstill(SafetyLimits(max_age=0.5))
    assert watch.look(seen(1.0), 0.0, 0.0) is None
    assert watch.look(seen(1.0), 9.0, 9.0) is None  # nothing was commanded
    watch.command()
    alarm = watch.look(seen(1.0), 10.0, 10.0)
    assert alarm is not None and alarm.rule == "frozen"
    assert watch.look(seen(1.05), 10.1, 10.1) is None


def test_a_frozen_camera_is_seen_while_the_arm_moves():
    watch, still = CameraWatch(SafetyLimits(frozen_pictures=3)), picture()
    for place in range(6):  # the arm stands: nothing changes, nothing is wrong
        assert watch.look(seen(place, 0.0, still), place, place) is None
    assert watch.look(seen(6, 0.004, still), 6, 6) is None
    alarm = watch.look(seen(7, 0.01, still), 7, 7)
    assert alarm is not None and alarm.rule == "camera_frozen"
    for place in range(8, 12):
        assert watch.look(seen(place, 0.01 * place, picture()), place, place) is None


def test_a_black_picture_is_seen_at_once():
    watch = CameraWatch(SafetyLimits(black=8))
    assert watch.look(seen(0.0, 0.0, picture()), 0.0, 0.0) is None
    alarm = watch.look(seen(0.1, 0.0, np.full((8, 8, 3), 8, np.uint8)), 0.0, 0.0)
    assert alarm is not None and alarm.rule == "camera_black" and alarm.value == 8
    assert CameraWatch(SafetyLimits()).look(seen(0.0, 0.0, np.zeros((8, 8, 3), np.uint8)), 0.0, 0.0) is None


def test_a_stuck_state_is_seen_when_motion_was_commanded():
    watch = StuckWatch(SafetyLimits(stuck=3))
    for place in range(8):
        assert watch.look(seen(place), place, place) is None
        watch.command(0.0)
    watch.command(0.05)
    alarm = watch.look(seen(8.0), 8.0, 8.0)
    assert alarm is not None and alarm.rule == "stuck"
    for place in range(9, 14):
        watch.command(0.05)
        assert watch.look(seen(place, 1e-5 * place), place, place) is None


@pytest.mark.parametrize("rows", [1, 4])
def test_a_policy_that_says_the_same_again_and_again(rows):
    watch, chunk = RepeatWatch(SafetyLimits(repeated=6)), RNG.normal(size=(rows, 7)).astype(np.float32)
    for _ in range(30):
        assert watch.command(RNG.normal(size=7).astype(np.float32), moves=True) is None
    alarms = [watch.command(chunk[place % rows], moves=True) for place in range(rows + 6)]
    assert [alarm is not None for alarm in alarms].index(True) == rows + 4  # the first time nothing was said before
    for _ in range(30):
        assert watch.command(np.zeros(7, np.float32), moves=False) is None


def test_limits_are_checked():
    for wrong in ({"frozen_pictures": 1}, {"stuck": -1}, {"black": 255}, {"heartbeat": 0.0}, {"clock_jump": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SafetyLimits(**wrong)
