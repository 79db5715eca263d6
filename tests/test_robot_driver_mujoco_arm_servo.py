"""The arm's controller on a clock that the test holds: watchdog, limits, time."""

from dataclasses import replace

import numpy as np
import pytest

from vla.embodiments.panda_arm import JOINTS
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.robot_driver.arm_world import WatchedWorld
from vla.robot_driver.mujoco_arm_servo import HURRY, MODES, STOP_GIVE, STOPPED, ArmWorld, Servo, ServoLimits
from vla.robot_driver.point_world import SPEC, PointWorld

RIGHT = np.array([0.05, 0.0, 0.0, 1.0], np.float32)


class Rig:
    """A servo and its clock."""

    def __init__(self, limits=None, **world):
        self.now, self.log = 100.0, []
        self.world = PointWorld(**world)
        self.servo = Servo(self.world, limits or ServoLimits(), clock=lambda: self.now, log=self.log.append)

    def run(self, seconds, step=0.002):
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += step
            while self.servo.advance() >= self.world.substep_seconds:
                pass

    def command(self, action=RIGHT):
        return self.servo.command(action, self.servo.time)


def test_time_runs_without_commands():
    rig = Rig()
    assert isinstance(rig.world, ArmWorld)
    rig.run(1.0)
    assert rig.servo.time == pytest.approx(1.0, abs=0.003)
    assert rig.servo.mode == "holding" and rig.servo.telemetry()["stopped"]
    rig.run(0.2, step=0.05)  # a loop that is late makes up for it
    assert rig.servo.time == pytest.approx(1.2, abs=0.003)
    assert rig.servo.telemetry()["real_time_factor"] == pytest.approx(1.0, abs=0.01)


def test_commands_move_and_silence_stops_within_a_fifth_of_a_second():
    rig = Rig()
    for _ in range(20):
        rig.command()
        rig.run(0.05)
    assert rig.servo.mode == "tracking" and rig.servo.speed > 0.25
    spoken = rig.servo.time - 0.05
    rig.run(1.0)
    trace = rig.servo.trace()
    braking = trace["time"][trace["mode"] == MODES.index("braking")]
    assert braking[0] - spoken == pytest.approx(0.15, abs=0.02)
    slow = trace["time"][(trace["speed"] >= 0.01)][-1]
    assert slow - braking[0] < 0.2
    assert rig.servo.telemetry()["stopped"] and np.linalg.norm(rig.world.velocity) < STOPPED
    assert [event["what"] for event in rig.log] == ["tracking", "braking", "holding"]
    assert "no command for 0.15 s" in rig.log[1]["reason"]


@pytest.mark.parametrize("speed", [0.1, 0.3, 0.5])
def test_braking_takes_less_than_a_fifth_of_a_second_without_swinging_back(speed):
    rig = Rig()
    rig.command()
    rig.world.velocity[:] = [speed, 0.0, 0.0]
    rig.servo.brake("test")
    begin, velocities = rig.servo.time, []
    while rig.servo.time < begin + 0.5:
        rig.run(0.002)
        velocities.append(rig.world.velocity[0])
    assert min(velocities) > -0.01
    trace = rig.servo.trace()
    assert trace["time"][trace["speed"] >= 0.01][-1] - begin < 0.2


def test_a_command_after_a_pause_resumes():
    rig = Rig()
    rig.command()
    rig.run(0.5)
    assert rig.servo.mode == "holding"
    rig.command()
    assert rig.servo.mode == "tracking"


def test_pictures_take_no_time_from_the_watchdog():
    rig = Rig()
    rig.command()
    render = rig.world.render

    def slow(camera):
        rig.now += 0.06
        return render(camera)

    rig.world.render = slow
    answer = rig.servo.observe(images=True)
    assert answer["time"] == rig.servo.time and answer["images"]["front"].shape == (16, 16, 3)
    rig.run(0.14, step=0.02)
    assert rig.servo.mode == "tracking"  # 0.26 s have passed, 0.12 s of them taking two pictures
    rig.run(0.1)
    assert rig.servo.mode != "tracking"


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (np.array([np.nan, 0, 0, 0], np.float32), "finite"),
        (np.zeros(3, np.float32), "4 numbers"),
        (np.zeros(4, np.float64), "4 numbers"),
        ([0.0] * 4, "4 numbers"),
        (None, "4 numbers"),
    ],
)
def test_bad_actions_stop_the_arm(action, says):
    rig = Rig()
    rig.command()
    with pytest.raises(PolicyFault, match=says):
        rig.command(action)
    assert rig.servo.mode == "braking"


@pytest.mark.parametrize("after", [-1.0, 5.0, None, "now", float("nan")])
def test_answers_to_old_observations_stop_the_arm(after):
    rig = Rig()
    rig.run(1.0)
    rig.command()
    with pytest.raises(PolicyFault, match="old"):
        rig.servo.command(RIGHT, after)
    assert rig.servo.mode == "braking"


def test_steps_are_clipped_and_what_was_sent_is_told():
    rig = Rig()
    np.testing.assert_allclose(rig.command(np.array([1.0, -1.0, 0.01, 7.0], np.float32)), [0.05, -0.05, 0.01, 1.0])
    scaled = replace(SPEC.action.channels[0], scale=0.05)
    spec = replace(SPEC, action=replace(SPEC.action, channels=(scaled, *SPEC.action.channels[1:])))
    rig = Rig(spec=spec)
    assert rig.command(np.array([1.5, 0, 0, 0], np.float32))[0] == 1.0  # one unit is 0.05 m


def test_overspeed_latches_until_the_reset():
    rig = Rig(ServoLimits(max_speed=0.2))
    for _ in range(20):
        try:
            rig.command()
        except BodyFault:
            break
        rig.run(0.05)
    assert "limit is 0.2 m/s" in rig.servo.telemetry()["fault"]
    rig.run(0.5)
    assert rig.servo.telemetry()["stopped"]
    with pytest.raises(BodyFault, match="reset"):
        rig.command()
    rig.servo.reset({})
    rig.command()


def test_a_reset_is_no_time_simulated_but_time_passed():
    rig = Rig()
    rig.run(0.1)
    substeps = rig.servo.telemetry()["real_time_factor"]
    rig.now += 3.0  # as long as the scene takes
    rig.servo.reset({"at": [0.1, 0.0, 0.0]})
    assert rig.servo.time == pytest.approx(3.1, abs=0.003) and rig.servo.speed == 0.0
    assert rig.servo.telemetry()["real_time_factor"] == pytest.approx(substeps, abs=0.03)
    assert rig.servo.observe(images=False)["state"][0] == pytest.approx(0.1)


def test_time_that_cannot_be_made_up_for_is_counted():
    rig = Rig()
    rig.run(1.0)
    rig.now += 1.0
    rig.servo.advance()
    telemetry = rig.servo.telemetry()
    assert telemetry["slipped"] == pytest.approx(1.0, abs=0.01) and rig.log[-1]["what"] == "slip"
    assert telemetry["real_time_factor"] == pytest.approx(0.5, abs=0.01)
    assert telemetry["lag"] == pytest.approx(0.0, abs=0.003)


def test_limits_are_checked():
    with pytest.raises(ConfigError, match="command_timeout"):
        ServoLimits(command_timeout=0.0)


class Seen(PointWorld):
    """A point that says that it has the Panda's joints, the first of which moves as x does."""

    joint_limits = JOINTS
    stretch = 1.0

    def joints(self):
        share = np.array([1.0, 0, 0, 0, 0, 0, 0])
        middle = 0.5 * (np.array(JOINTS.low) + np.array(JOINTS.high))
        return middle + self.stretch * self.position[0] * share, self.stretch * self.velocity[0] * share


def seen(limits=None, stretch=1.0):
    rig = Rig(limits)
    rig.world = world = Seen()
    world.stretch = stretch
    rig.servo = Servo(rig.world, limits or ServoLimits(), clock=lambda: rig.now, log=rig.log.append)
    return rig


def moved(rig, commands=20):
    path = []
    for _ in range(commands):
        rig.command()
        rig.run(0.05)
        path.append([*rig.world.position, *rig.world.velocity])
    return np.array(path)


def test_watched_joints_within_their_limits_change_nothing():
    assert isinstance(Seen(), WatchedWorld) and not isinstance(PointWorld(), WatchedWorld)
    plain, watched = Rig(), seen()
    assert np.array_equal(moved(plain), moved(watched))
    assert not watched.servo.rules and not watched.servo.telemetry()["fault"]


@pytest.mark.parametrize(("stretch", "rule"), [(40.0, "joint_velocity"), (5.5, "joint_position")])
def test_a_watched_joint_beyond_its_limit_stops_the_arm_until_the_reset(stretch, rule):
    rig = seen(stretch=stretch)
    assert isinstance(rig.world, Seen)
    most, slack = (HURRY * JOINTS.velocity[0], 0.0) if rule == "joint_velocity" else (JOINTS.high[0], STOP_GIVE)
    with pytest.raises(BodyFault, match=r"joint 1 (was measured at|is) .*; reset the scene to go on"):
        for _ in range(400):
            rig.command()
            for _ in range(25):
                was = rig.servo.mode
                position, velocity = (abs(each[0]) for each in rig.world.joints())
                over = (velocity if rule == "joint_velocity" else position) > most + slack
                assert not (over and was == "tracking"), "it brakes within the step that broke the limit"
                rig.run(0.002)
    begin = rig.servo.time
    assert rig.servo.rules[rule] == 1 and rig.servo.mode == "braking"
    rig.run(0.3)
    trace = rig.servo.trace()
    assert rig.servo.telemetry()["stopped"] and trace["time"][trace["speed"] >= 0.01][-1] - begin < 0.2
    with pytest.raises(BodyFault, match="reset the scene"):
        rig.command()
    rig.servo.reset({})
    rig.command()
    free = seen(ServoLimits(joints=False), stretch)
    moved(free, 30)
    assert not free.servo.rules, "switched off to show what it is for"
