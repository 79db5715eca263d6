"""A person above a policy: who decides in each step, what is dropped when they take over, how an episode ends."""

import threading
import time

import fake_benchmark as fake
import numpy as np
import pytest

from vla.asynchronous import asynchronous, asynchronous_ensembling, realtime
from vla.chunking import synchronous
from vla.embodiments.libero_panda import libero_panda
from vla.errors import BodyFault
from vla.experience import ActionChunk
from vla.operated import BareTask, Hands, Intervention, NoPolicy, OperatedTask, Operator
from vla.protocols import Policy, Task
from vla.recorder import Recorder, human_steps
from vla.robot_driver.teleop import scripted
from vla.runtime import Pace, run_episode
from vla.teleoperation import Command, Rate, Shift, Teleoperator
from vla.teleoperation_watch import Watched

SPEC = libero_panda(8)


class Stops(fake.PointBody):
    """Counts what it is told."""

    def __init__(self):
        super().__init__(8)
        self.stops = self.estops = 0

    def stop(self):
        self.stops += 1

    def estop(self):
        self.estops += 1


class Right:
    """Goes right for ever, with the gripper closed; says what it is asked."""

    spec = SPEC
    continues = True

    def __init__(self):
        self.seeds, self.asked, self.seen = [], 0, []

    def reset(self, instruction, *, seed):
        self.seeds.append(seed)

    def act(self, observation):
        self.asked += 1
        self.seen.append(round(float(observation.state[0]), 3))
        actions = np.zeros((8, 7), np.float32)
        actions[:, 0] = 0.01
        return ActionChunk(actions, observation.time, 0.05)

    def act_continuing(self, observation, left, delay):
        return self.act(observation)


def operator_of(body, text, **options):
    device = scripted.Config(text=text, then="nothing").make()
    device.start()
    return Operator(device, body.spec, body.estop, **options)


def drive(text, *, limit=30, policy=None, executor=None, body=None, pace=None, **options):
    body = body or Stops()
    operator = operator_of(body, text, **options)
    got = []
    task = OperatedTask(BareTask("go right", limit), operator)
    make = (
        (lambda p, a: Intervention(operator, executor or synchronous(4), p, a))
        if policy
        else (lambda *_: Hands(operator))
    )
    outcome = run_episode(
        body,
        task,
        policy or NoPolicy(body.spec),
        seed=5,
        executor=make,
        observers=[Recorder(lambda episode, _: got.append(episode), source="test")],
        pace=pace,
    )
    return outcome, (got[0] if got else None), operator, body


def test_roles():
    assert isinstance(NoPolicy(SPEC), Policy) and isinstance(BareTask("", 1), Task)
    assert isinstance(Watched(scripted.Config(text="0 w").make(), lambda: None), Teleoperator)
    with pytest.raises(BodyFault):
        NoPolicy(SPEC).act(Stops().observe())


def test_a_demonstration_begins_with_the_first_motion_and_ends_with_a_key():
    outcome, episode, operator, body = drive("0.5 w 0.25\n0.75 g\n0.9 y")
    assert outcome.status == "success" and operator.verdict == "success" and outcome.steps == 19
    assert episode is not None and len(episode) == 8  # steps 10 to 17
    np.testing.assert_allclose(episode.action[:, 0], [0.0125] * 5 + [0.0] * 3, atol=1e-6)
    assert episode.action[:, 6].tolist() == [1.0] * 5 + [0.0] * 3
    assert human_steps(episode).all() and outcome.info["held_steps"] == 11 and body.stops >= 10


@pytest.mark.parametrize(
    ("key", "status", "verdict"),
    [
        ("enter", "failure", "keep"),
        ("x", "failure", "failure"),
        ("backspace", "failure", "discard"),
        ("q", "failure", ""),
    ],
)
def test_the_other_ends(key, status, verdict):
    outcome, _, operator, _ = drive(f"0 w 0.2\n0.2 {key}")
    assert (outcome.status, operator.verdict, operator.quits) == ("failure", verdict, key == "q") and outcome.steps == 5


def test_an_emergency_stop_is_the_body_s_own_and_ends_everything():
    outcome, episode, operator, body = drive("0 w 0.5\n0.2 esc")
    assert body.estops == 1 and operator.stopped and operator.ended
    assert outcome.status == "error" and "emergency stop" in outcome.error
    assert episode is not None and len(episode) == 4 and episode.success is None


def test_instructions_are_gone_through():
    outcome, _, operator, _ = drive("0 w\n0.1 n\n0.2 n\n0.3 n\n0.4 y", instructions=("left", "right"))
    assert operator.instruction == "right" and outcome.success


@pytest.mark.parametrize(
    "executor",
    [synchronous(4), asynchronous(4), asynchronous_ensembling(), realtime(4)],
    ids=["synchronous", "asynchronous", "ensemble", "realtime"],
)
def test_a_person_takes_over_and_hands_back(executor):
    policy = Right()
    outcome, episode, _, _ = drive(
        "0.3 t\n0.3 s 0.3\n0.6 t", policy=policy, executor=executor, limit=40, pace=Pace(200)
    )
    assert outcome.status == "failure" and outcome.error == "" and episode is not None
    human = human_steps(episode)
    (runs,) = episode.info["human"]
    corrected = episode.action[human]
    np.testing.assert_allclose(corrected[:, 0], -0.0125, atol=1e-6, err_msg="only the person's own")
    assert len(corrected) >= 4 and not corrected[:, 6].any()  # the gripper stays closed as the policy had it
    others = episode.action[~human]
    np.testing.assert_allclose(others[:, 0], 0.01, atol=1e-6)
    assert 0 < runs[0] < runs[1] < len(episode)
    assert outcome.info["takeovers"] == 1 and outcome.info["human_steps"] == human.sum()
    assert policy.seeds == [5, 6]  # it begins anew, from what is seen then
    begun_again = round(float(episode.state[runs[1], 0]), 3)
    assert begun_again in policy.seen
    np.testing.assert_allclose(np.diff(episode.state[:, 0]), episode.action[:-1, 0], atol=1e-5)


def test_stop_holds_a_policy_still_until_it_is_handed_back():
    policy = Right()
    outcome, episode, operator, body = drive("0.3 space\n0.6 t", policy=policy, limit=20)
    assert episode is not None and not human_steps(episode).any() and not operator.in_charge
    assert outcome.info["held_steps"] == 6 and body.stops >= 6 and outcome.info["takeovers"] == 1
    assert len(episode) == 20 - 6 and policy.seeds == [5, 6]


def test_without_a_key_the_policy_is_left_alone():
    alone, watched = Right(), Right()
    body = Stops()
    plain = run_episode(body, BareTask("go", 12), alone, seed=5, executor=synchronous(4))
    outcome, episode, _, _ = drive("9 w", policy=watched, limit=12)
    assert (outcome.steps, watched.asked, watched.seeds) == (plain.steps, alone.asked, alone.seeds)
    assert episode is not None and "human" not in episode.info


class Waits(Right):
    """Its second answer takes until it is let."""

    def __init__(self):
        super().__init__()
        self.free, self.threads = threading.Event(), set()

    def act(self, observation):
        self.threads.add(threading.current_thread().name)
        chunk = super().act(observation)
        if self.asked == 2:
            assert self.free.wait(30)
        return chunk


def test_taking_over_waits_for_no_answer():
    policy, body = Waits(), Stops()
    operator = operator_of(body, "0.2 t\n0.25 s 0.3\n0.6 t")
    task = OperatedTask(BareTask("go", 16), operator)
    seen = []

    class Frees:
        wants_images = False

        def start(self, spec, instruction):
            pass

        def step(self, step):
            seen.append(step.human)
            if step.index == 3:  # the person takes over next: the second question must be under way, not only planned
                until(lambda: policy.asked == 2)
            if step.index == 9:
                policy.free.set()
                until(lambda: all(thread.name != "leaving" for thread in threading.enumerate()))

        def finish(self, outcome):
            pass

    run_episode(
        body,
        task,
        policy,
        seed=0,
        executor=lambda p, a: Intervention(operator, asynchronous(2), p, a),
        observers=[Frees()],
    )
    assert True in seen and policy.asked >= 3


def test_an_answer_that_comes_after_the_emergency_stop_is_not_sent():
    body, commands = Stops(), []

    class Pressed(Right):
        """While it thinks for the second time, somebody presses."""

        def act(self, observation):
            chunk = super().act(observation)
            if self.asked == 2:
                operator.brake()
                commands.append(len(got))
            return chunk

    class Counts:
        wants_images = False

        def start(self, spec, instruction):
            pass

        def step(self, step):
            got.append(step.index)

        def finish(self, outcome):
            pass

    got: list[int] = []
    operator = operator_of(body, "9 w")
    outcome = run_episode(
        body,
        OperatedTask(BareTask("go", 30), operator),
        Pressed(),
        seed=0,
        executor=lambda p, a: Intervention(operator, synchronous(4), p, a),
        observers=[Counts()],
    )
    assert outcome.status == "error" and "emergency stop" in outcome.error
    assert commands == [4] and len(got) == 4 and body.estops == 1 and operator.stopped


class Steady:
    """A device that always says the same, and dies on request."""

    def __init__(self, command):
        self.command, self.reads, self.dead = command, 0, False

    def start(self):
        self.reads = 0

    def begin(self):
        pass

    def read(self):
        if self.dead:
            raise BodyFault("unplugged")
        self.reads += 1
        return self.command

    def close(self):
        pass


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_watched_device_stops_at_once_and_forgets_no_press():
    stopped = threading.Event()
    device = Steady(Command(Shift(np.array([0.001, 0, 0, 0, 0, 0.01]))))
    watched = Watched(device, stopped.set, rate=1000.0)
    with pytest.raises(BodyFault, match="not started"):
        watched.read()
    watched.start()
    until(lambda: device.reads >= 5)
    moved = watched.read().motion
    assert isinstance(moved, Shift) and moved.values[0] >= 0.0049  # shifts add up
    np.testing.assert_allclose(moved.values[5] / moved.values[0], 10, rtol=1e-6)
    device.command = Command(Rate(np.eye(6)[0]), pressed=frozenset({"gripper"}))
    until(lambda: "gripper" in watched._told.pressed)
    device.command = Command(Rate(np.eye(6)[1]), pressed=frozenset({"estop", "quit"}))
    until(stopped.is_set)
    device.command = Command(Rate(np.zeros(6)))
    reads = device.reads
    until(lambda: device.reads > reads + 1)
    watched.begin()  # presses before an episode do not count, but for these
    told = watched.read()
    assert told.pressed == {"estop", "quit"} and not watched.read().pressed
    device.dead = True
    until(lambda: watched._error is not None)
    with pytest.raises(BodyFault, match="unplugged"):
        watched.read()
    watched.close()
    watched.close()


def test_a_device_that_hangs_does_not_keep_the_robot_from_being_let_go(monkeypatch):
    monkeypatch.setattr("vla.teleoperation_watch.CLOSE_S", 0.01)
    hangs, entered = threading.Event(), threading.Event()

    class Hangs(Steady):
        closed = False

        def read(self):
            entered.set()
            hangs.wait()
            return self.command

        def close(self):
            self.closed = True

    device = Hangs(Command())
    watched = Watched(device, lambda: None)
    watched.start()
    assert entered.wait(20)
    watched.close()
    assert device.closed
    hangs.set()
