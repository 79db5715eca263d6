"""What the robot check sees in bodies that are well, and in bodies that are not."""

import dataclasses

import numpy as np
import pytest

from vla.embodiment import ActionSpec, Channel, EmbodimentSpec
from vla.errors import BodyFault, ConfigError
from vla.experience import Observation
from vla.robot_check import Finding, check_robot, histogram
from vla.robot_driver import mujoco_arm
from vla.robot_driver.mujoco_arm_process import spawn
from vla.robot_driver.point_world import SPEC, Factory


class Clock:
    """Time passes only where somebody sleeps, and a little with every look at it."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        self.now += 1e-5
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Arm:
    """A point that adds up what it is told, with two cameras; faults on request."""

    def __init__(self, clock, **faults):
        self.clock, self.faults, self.spec = clock, faults, faults.get("spec", SPEC)
        self.position, self.commands, self.stops, self.readings = np.zeros(3), [], 0, 0
        self.picture_times = {}
        self.exposures = {"front": 0.012, "wrist": None}

    def observe(self, *, images=True):
        self.readings += 1
        if self.readings > self.faults.get("dies_after", 10**9):
            raise BodyFault("the arm is gone")
        self.clock.sleep(self.faults.get("slow", 0.0))
        stamp = 5.0 if "stuck" in self.faults else self.clock.now * self.faults.get("speed", 1.0)
        state = np.array([*self.position, 1.0], np.float32)
        state[0] += self.faults.get("offset", 0.0)
        state[1] += self.faults.get("noise", 0.0) * (-1) ** self.readings
        pictures = {}
        for camera in self.spec.cameras if images else ():
            shade = 0 if self.faults.get("black") == camera.name else 100 + self.readings % 50
            height = camera.height + (2 if self.faults.get("size") == camera.name else 0)
            pictures[camera.name] = np.full((height, camera.width, 3), shade, np.uint8)
            self.picture_times[camera.name] = self.clock.now - 0.03
        return Observation(pictures, state, "", stamp)

    def command(self, action):
        self.commands.append(action)
        self.position = self.position + action[:3] * self.faults.get("gain", 1.0)
        return action

    def stop(self):
        self.stops += 1

    def close(self):
        pass


def check(move=False, **faults):
    clock = Clock()
    arm = Arm(clock, **faults)
    return arm, {one.name: one for one in check_robot(arm, move=move, tells=arm, clock=clock, sleep=clock.sleep)}


def test_a_sound_robot_is_read_and_not_moved():
    arm, found = check()
    assert {one.status for one in found.values()} <= {"ok", "note"}
    assert not arm.commands
    assert found["rate of numbers"].value["fresh"] == pytest.approx(100, rel=0.1)
    assert found["clock"].value["ratio"] == pytest.approx(1.0, abs=0.02)
    assert found["camera front"].value["exposure_s"] == 0.012
    assert found["camera front"].value["age_s"] == pytest.approx(0.03, abs=0.005)
    assert "exposure unknown" in found["camera wrist"].found


@pytest.mark.parametrize(
    ("faults", "name", "status"),
    [
        ({"stuck": True}, "rate of numbers", "error"),
        ({"speed": -1.0}, "clock", "error"),
        ({"speed": 0.8}, "clock", "warning"),
        ({"slow": 0.2}, "latency of numbers", "error"),
        ({"noise": 0.01}, "at rest", "warning"),
        ({"black": "wrist"}, "camera wrist", "error"),
        ({"size": "front"}, "camera front", "error"),
        ({"dies_after": 50}, "connection", "error"),
    ],
)
def test_what_is_wrong_is_named(faults, name, status):
    arm, found = check(move=True, **faults)
    assert found[name].status == status
    if status == "error":
        assert not arm.commands, "a robot with errors is not moved"


def test_a_number_out_of_its_range_is_named_with_what_was_expected():
    state = (dataclasses.replace(SPEC.state[0], low=-0.5, high=0.5), *SPEC.state[1:])
    _, found = check(spec=dataclasses.replace(SPEC, state=state), offset=0.7)
    assert "x is 0.7 m, expected -0.5 to 0.5" in found["range of x"].found
    _, found = check(offset=np.nan)
    assert found["range of x"].status == "error"


def test_a_small_motion_on_request_comes_back():
    arm, found = check(move=True)
    motion = found["motion"]
    assert motion.status == "ok" and motion.value["channel"] == "z"
    assert 0.004 <= motion.value["reached"] <= 0.006 and abs(motion.value["left"]) < 0.001
    assert {tuple(action[:2]) for action in arm.commands} == {(0.0, 0.0)}
    assert {action[3] for action in arm.commands} == {1.0}, "the gripper stays open"
    assert arm.stops == 1


@pytest.mark.parametrize("gain", [0.0, -1.0])
def test_an_arm_that_does_not_follow_is_an_error(gain):
    _, found = check(move=True, gain=gain)
    assert found["motion"].status == "error"


def test_joints_are_moved_by_the_last_one():
    joints = tuple(Channel(f"joint_{n}", "rad", "joint", -1.0, 1.0) for n in range(3))
    goals = tuple(dataclasses.replace(one, name=f"{one.name}_goal") for one in joints)
    action = ActionSpec((*goals,), "absolute", "joint", None, None, 10.0)
    spec = EmbodimentSpec("joints", (*joints, Channel("x", "m", "other")), None, action, ())

    class Joints(Arm):
        def command(self, action):
            self.commands.append(action)
            self.position = action[:3].astype(np.float64)
            return action

    clock = Clock()
    arm = Joints(clock, spec=spec)
    arm.position = np.array([0.3, -0.2, 0.1])
    found = {one.name: one for one in check_robot(arm, move=True, clock=clock, sleep=clock.sleep)}
    assert found["motion"].status == "ok" and found["motion"].value["channel"] == "joint_2"
    np.testing.assert_allclose(np.array(arm.commands)[:, :2], [[0.3, -0.2]] * len(arm.commands), atol=1e-6)
    assert np.ptp(np.array(arm.commands)[:, 2]) == pytest.approx(0.02, abs=1e-3)


def moved(arm, clock):
    return {one.name: one for one in check_robot(arm, move=True, clock=clock, sleep=clock.sleep)}


def test_changes_of_joints_do_not_add_up_to_more_than_was_asked_for():
    joints = tuple(Channel(f"joint_{n}", "rad", "joint", -3.0, 3.0) for n in range(3))
    goals = tuple(dataclasses.replace(one, name=f"{one.name}_change") for one in joints)
    action = ActionSpec(goals, "delta", "joint", None, None, 20.0)
    clock = Clock()
    arm = Arm(clock, spec=EmbodimentSpec("joints", (*joints, Channel("x", "m", "other")), None, action, ()))
    motion = moved(arm, clock)["motion"]
    assert motion.status == "ok" and abs(motion.value["left"]) < 0.002
    assert motion.value["reached"] == pytest.approx(0.02, abs=0.002)


def test_an_arm_whose_z_does_not_say_how_far_it_went_is_not_moved():
    clock = Clock()
    action = dataclasses.replace(SPEC.action, frame="tool")
    arm = Arm(clock, spec=dataclasses.replace(SPEC, action=action))
    assert moved(arm, clock)["motion"].status == "note" and not arm.commands


def test_an_arm_that_runs_away_is_stopped_at_once():
    arm, found = check(move=True, gain=-1.0)
    assert "stopped" in found["motion"].found and arm.stops == 1
    assert abs(arm.position[2]) < 0.03


def test_metres_are_not_compared_with_radians():
    state = (Channel("x", "m", "position"), Channel("y", "m", "position"), Channel("q", "rad", "joint"))
    spec = EmbodimentSpec("both", (*state, Channel("rest", "1", "other")), None, SPEC.action, ())
    clock = Clock()
    arm = Arm(clock, spec=spec, noise=0.0015)  # y varies by 3 mm: too much
    observe = arm.observe

    def turning(*, images=True):
        seen = observe(images=images)
        seen.state[2] += 0.004 * (arm.readings % 2)  # q by 0.004 rad: not too much, though a larger number
        return seen

    arm.observe = turning
    found = {one.name: one for one in check_robot(arm, clock=clock, sleep=clock.sleep)}
    assert found["at rest"].status == "warning" and found["at rest"].found.startswith("y ")


def test_latencies_are_counted_by_what_they_are_below():
    counts = histogram(np.array([0.5, 1.5, 1.6, 700.0]))
    assert (counts["1"], counts["2"], counts["more"], sum(counts.values())) == (1, 2, 1, 4)
    assert Finding("a", "note", "b", counts).to_json()["value"] == counts


def test_a_time_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="above 0 s"):
        check_robot(Arm(Clock()), seconds=0)


def test_the_simulated_arm_in_its_own_process_passes():
    with spawn(Factory()) as process:
        arm = mujoco_arm.Config(*process.address).make()
        arm.task({"at": [0.1, 0.0, 0.0]}).reset()
        found = check_robot(arm, seconds=0.5, move=True)
        arm.close()
    bad = [one for one in found if one.status == "error" and not one.name.startswith("latency")]
    assert not bad
    assert {"rate of numbers", "clock", "camera front", "camera wrist", "motion"} <= {one.name for one in found}
