"""An SO-101 pair: calibrate as lerobot does, follow the leader, record, replay; lerobot's own classes on both sides."""

import math
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from emulated_arms import MIDDLE, calibrate, patient_buses, wait_for

from vla.chunking import Decision
from vla.datasets.lerobot_v3 import Writer
from vla.embodiments.so101 import GOAL, JOINTS
from vla.errors import BodyFault, ConfigError
from vla.jogging import Jog, Speeds, jog
from vla.plugins import open_source
from vla.policies.replay import ReplayPolicy
from vla.protocols import Body
from vla.recorder import Recorder
from vla.robot_driver import lerobot_robot
from vla.robot_driver.feetech_emulator import Emulator, spawn
from vla.robot_driver.so101_servos import REACH
from vla.robot_driver.teleop.lerobot_leader import Config, LerobotLeader
from vla.runtime import Pace, run_episode
from vla.teleoperation import Joints, Teleoperator

pytest.importorskip("scservo_sdk", reason="the extra so101 is not installed")

TICK = 2 * np.pi / 4095
SECONDS, RATE = 2.0, 30.0


@dataclass
class Pair:
    leader_arm: Emulator
    follower_arm: Emulator
    leader: LerobotLeader
    follower: lerobot_robot.LerobotRobot


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    with patient_buses(), spawn() as leader_arm, spawn() as follower_arm:
        calibrate(leader_arm, "teleoperators", "so101_leader", "leader", folder)
        calibrate(follower_arm, "robots", "so101_follower", "follower", folder)
        leader = Config(leader_arm.port, name="leader", calibration=folder, buttons="none").make()
        leader.start()
        follower = lerobot_robot.Config(follower_arm.port, name="follower", calibration=folder).make()
        yield Pair(leader_arm, follower_arm, leader, follower)
        leader.close()
        follower.close()


def test_a_leader_says_where_its_joints_are(pair):
    assert isinstance(pair.leader, Teleoperator)
    place = dict(MIDDLE)
    place[1], place[4], place[6] = MIDDLE[1] + 300, MIDDLE[4] - 200, REACH[5][1]
    pair.leader_arm.hand(place)
    command = pair.leader.read()
    assert isinstance(command.motion, Joints)
    expected = dict.fromkeys(JOINTS, 0.0) | {"shoulder_pan": 300 * TICK, "wrist_flex": -200 * TICK}
    assert command.motion.values == pytest.approx({n + GOAL: v for n, v in expected.items()}, abs=1.5 * TICK)
    assert command.gripper == pytest.approx(1.0)
    assert not any(pair.leader_arm.powered().values())  # a hand can move it


def test_a_leaders_buttons_are_keys_of_a_script(tmp_path, pair):
    script = tmp_path / "keys.txt"
    script.write_text("0.1 enter\n")
    other = Config(pair.leader_arm.port, buttons="scripted", keys=script, rate=10.0).make()
    other._device, other._meaning = pair.leader._device, pair.leader._meaning
    assert other._buttons is not None
    other._buttons.start()
    other.begin()
    first, second = other.read(), other.read()
    assert not first.pressed and second.pressed == {"keep"}
    assert isinstance(second.motion, Joints)
    with pytest.raises(ConfigError, match="give both, or neither"):
        Config(pair.leader_arm.port, buttons="scripted")


def test_a_leader_that_fails_is_named(pair):
    pair.leader_arm.fault("drop", motor=6, count=None)
    with pytest.raises(BodyFault, match=r"so101_leader leader: motor gripper \(id 6\) does not answer"):
        pair.leader.read()
    pair.leader_arm.mend()
    with pytest.raises(BodyFault, match="was not started"):
        Config(pair.leader_arm.port, buttons="none").make().read()


@dataclass
class Following:
    """The leader as an executor of the run loop."""

    leader: LerobotLeader
    body: Body
    _jog: Jog = field(default_factory=lambda: Jog(speeds=Speeds(joint=3.0)))

    def begin(self, instruction, *, seed):
        self.leader.begin()

    def looks(self):
        return False

    def step(self, observation):
        action, self._jog = jog(self.body.spec, self.leader.read(), observation, self._jog)
        return Decision(action)

    def report(self):
        return {}

    def close(self): ...


@dataclass
class Wave:
    """A task of so many steps that nobody solves."""

    max_steps: int
    instruction: str = "wave"

    def reset(self): ...

    def succeeded(self):
        return False


@dataclass
class Seen:
    """An observer that keeps the observations, whose times the recorder counts from its first."""

    observations: list = field(default_factory=list)
    wants_images = False

    def start(self, spec, instruction): ...

    def step(self, step):
        self.observations.append(step.observation)

    def finish(self, outcome): ...


def recorded(body, executor, policy, steps, *observers):
    got = []
    recorder = Recorder(lambda episode, outcome: got.append((episode, outcome)), source="so101")
    watching = [recorder, *observers]
    outcome = run_episode(body, Wave(steps), policy, seed=0, executor=executor, observers=watching, pace=Pace(RATE))
    assert outcome.status == "failure", outcome.error  # it ran to its end: nobody says it succeeded
    return got[0][0]


def test_teleoperate_record_reload_and_replay(pair, tmp_path, lerobot_dataset):
    follower, arm = pair.follower, pair.follower_arm
    pair.leader_arm.hand(MIDDLE)
    settle(follower, pair.leader)
    over = threading.Event()

    def hand() -> None:
        begin = time.monotonic()
        while not over.is_set():
            phase = 2 * math.pi * (time.monotonic() - begin) / SECONDS
            place = {motor: MIDDLE[motor] + 400 * math.sin(phase) for motor in (1, 2, 3)}
            pair.leader_arm.hand(place | {6: MIDDLE[6] + 300 * math.sin(phase)})
            time.sleep(0.01)

    thread = threading.Thread(target=hand)
    thread.start()
    policy = ReplayPolicy(_still(follower))
    steps, seen = round(SECONDS * RATE), Seen()
    episode = recorded(follower, lambda *_: Following(pair.leader, follower), policy, steps, seen)
    over.set()
    thread.join()

    # what is recorded is where the emulated arm's shafts were at those times, and it really moved
    moved = np.ptp(episode.state, axis=0)
    assert (moved[:3] > 0.8).all() and moved[5] > 0.3 and (moved[3:5] < 0.02).all()
    trace, times = arm.trace(), np.array([observation.time for observation in seen.observations])
    np.testing.assert_allclose(episode.time, times - times[0], atol=1e-6)
    for joint in range(5):
        true = (np.interp(times, trace[:, 0], trace[:, joint + 1]) - MIDDLE[joint + 1]) * TICK
        assert np.median(np.abs(episode.state[:, joint] - true)) < 0.01

    path = tmp_path / "set"
    with Writer(path, follower.spec) as writer:
        writer.add(episode)
    ours = open_source(path)[0]
    np.testing.assert_array_equal(ours.state, episode.state)
    np.testing.assert_array_equal(ours.action, episode.action)
    theirs = lerobot_dataset("local/so101", root=path)
    assert len(theirs) == len(episode)
    assert theirs.meta.features["observation.state"]["names"] == list(follower.spec.state_names)
    np.testing.assert_array_equal(np.stack([row["action"].numpy() for row in theirs]), episode.action)
    np.testing.assert_array_equal(np.stack([row["observation.state"].numpy() for row in theirs]), episode.state)

    go_to(follower, ours.action[0])
    again = recorded(follower, None, ReplayPolicy(ours), len(ours))
    np.testing.assert_allclose(again.action, ours.action, atol=1e-5)
    # the same commands lead along the same path, to what an arm that lags behind its goals moves within a late step
    assert np.ptp(again.state, axis=0) == pytest.approx(moved, abs=0.1)
    rms = np.sqrt(np.mean((again.state - ours.state) ** 2, axis=0))
    assert (rms < 0.2 * np.maximum(moved, 0.05)).all(), rms


def settle(follower, leader):
    """The follower goes where its leader is."""
    spec = follower.spec
    begin, state = time.monotonic(), Jog(speeds=Speeds(joint=3.0))
    while time.monotonic() - begin < 20.0:
        seen = follower.observe()
        action, state = jog(spec, leader.read(), seen, state)
        follower.command(action)
        if np.abs(action - seen.state).max() < 0.01:
            return
        time.sleep(0.02)
    raise TimeoutError("the follower did not come to where its leader is")


def go_to(follower, action):
    follower.command(action)
    wait_for(lambda: np.abs(follower.observe().state - action).max() < 0.01)


def _still(follower):
    """An episode that gives a policy its spec; it is never asked."""
    from vla.experience import Episode

    zeros = np.zeros((1, 6), np.float32)
    return Episode(follower.spec, zeros, zeros, {}, np.zeros(1), "none")
