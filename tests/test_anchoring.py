"""A chunk's deltas lead to the poses that the policy meant, however far the arm is behind its target."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vla.anchoring import Anchored, CountsFrom, anchored
from vla.arm_channels import arm
from vla.asynchronous import Asynchronous
from vla.chunking import Decision, Ensemble, Synchronous
from vla.errors import ConfigError
from vla.experience import ActionChunk, Observation
from vla.operated import BareTask
from vla.runtime import run_episode
from vla.safety import SafeBody, SafetyLimits
from vla.tool_pose import Pose, change_to, poses_after
from vla.transforms import connect

RANGES = ((-3.0, 3.0),) * 6
SPEC = arm("lags", RANGES, joints=False, gripper=True, rate=10.0, speed=0.5, turn=2.0)
STEP = 0.05  # largest along an axis, of an action


class Lags:
    """Goes half of the way to its target in each period, as arms do; a stopped one stands where it is."""

    def __init__(self, spec=SPEC):
        self.spec, self.time, self.opening = spec, 0.0, 1.0
        self.here = self.target = Pose(np.array([0.4, 0.0, 0.3]), np.eye(3))
        self.targets, self.seen, self.counts = [], [], True

    def observe(self, *, images=True):
        turn = Rotation.from_matrix(self.here.matrix).as_rotvec()
        state = np.concatenate([self.here.position, turn, np.zeros(6), [self.opening]]).astype(np.float32)
        self.seen.append(self.here)
        return Observation({}, state, "", self.time)

    def counts_from(self):
        return self.target if self.counts else None

    def command(self, action):
        low, high = (np.array([getattr(one, end) for one in self.spec.action.channels]) for end in ("low", "high"))
        sent = np.clip(action, low, high)
        turn = Rotation.from_rotvec(sent[3:6]).as_matrix()
        self.target = Pose(self.target.position + sent[:3], turn @ self.target.matrix)
        self.targets.append(self.target)
        between = Rotation.from_matrix(self.target.matrix @ self.here.matrix.T).as_rotvec() / 2
        middle = (self.here.position + self.target.position) / 2
        self.here = Pose(middle, Rotation.from_rotvec(between).as_matrix() @ self.here.matrix)
        self.opening, self.time = float(sent[6]), self.time + 0.1
        return sent

    def stop(self):
        self.target = self.here

    def close(self):
        pass


class Says:
    """The same rows for every observation; its first three numbers shift, the next three turn."""

    spec = SPEC
    continues = False

    def __init__(self, rows):
        self.rows, self.asked = np.array(rows, np.float32), []

    def reset(self, instruction, *, seed):
        self.asked.clear()

    def act(self, observation):
        self.asked.append(observation.time)
        return ActionChunk(self.rows, observation.time, 0.1)


class Heads:
    """Goes from where it sees the tool to a place, at most a step in each row."""

    spec = SPEC

    def __init__(self, goal):
        self.goal = np.array(goal)

    def reset(self, instruction, *, seed):
        pass

    def act(self, observation):
        rows, here = np.zeros((8, 7), np.float32), observation.state[:3].astype(np.float64)
        for row in rows:
            row[:3] = np.clip(self.goal - here, -0.02, 0.02)
            here = here + row[:3]
        return ActionChunk(rows, observation.time, 0.1)


def rows_of(count, seed=0):
    draw = np.random.default_rng(seed)
    rows = np.zeros((count, 7))
    rows[:, :3], rows[:, 3:6] = draw.uniform(-0.01, 0.01, (count, 3)), draw.uniform(-0.05, 0.05, (count, 3))
    rows[:, 6] = draw.integers(0, 2, count)
    return rows


def expected(start, rows):
    """Each pose by itself, in SciPy's terms."""
    found, position, turn = [], start.position.copy(), Rotation.from_matrix(start.matrix)
    for row in rows:
        position, turn = position + row[:3], Rotation.from_rotvec(row[3:6]) * turn
        found.append(Pose(position, turn.as_matrix()))
    return found


def assert_same(one, two, atol=1e-6):
    np.testing.assert_allclose(one.position, two.position, atol=atol)
    np.testing.assert_allclose(one.matrix, two.matrix, atol=atol)


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("anchor", ["target", "measured"])
def test_a_chunk_s_targets_are_what_the_policy_meant(anchor, safe):
    body, policy = Lags(), Says(rows_of(4))
    limits = SafetyLimits(max_translation=0.5, max_rotation=1.0)
    moved = SafeBody(body, limits, clock=lambda: 0.0) if safe else body
    outcome = run_episode(moved, BareTask("go", 12), policy, seed=0, anchor=anchor)
    assert outcome.error == "" and len(body.targets) == 12
    assert isinstance(SafeBody(Lags(), limits), CountsFrom)
    for chunk in range(3):
        start = body.seen[4 * chunk] if anchor == "measured" or not chunk else body.targets[4 * chunk - 1]
        for target, meant in zip(body.targets[4 * chunk :], expected(start, policy.rows), strict=False):
            assert_same(target, meant)
    assert np.linalg.norm(body.targets[3].position - body.seen[4].position) > 1e-4, "the arm was behind its target"


def test_a_policy_that_heads_for_a_place_from_where_the_arm_is_does_not_pass_it():
    """What the arm is behind its target would be gone through twice."""
    goal = [0.46, 0.0, 0.3]

    def farthest(anchor):
        body = Lags()
        run_episode(body, BareTask("go", 24), Heads(goal), seed=0, execute=3, anchor=anchor)
        return max(target.position[0] for target in body.targets), body.here.position[0]

    most, last = farthest("measured")
    assert most <= goal[0] + 1e-6 and abs(last - goal[0]) < 1e-3
    assert farthest("target")[0] > goal[0] + 0.01


class Slow:
    """Answers when it was looked at some times."""

    def __init__(self, looks):
        self.looks, self.left, self.work = looks, 0, float

    def start(self, work):
        self.work, self.left = work, self.looks

    def done(self):
        self.left -= 1
        return self.left <= 0

    def result(self):
        return self.work()

    def close(self):
        pass


@pytest.mark.parametrize("anchor", ["target", "measured"])
def test_rows_that_were_too_late_are_part_of_the_way_all_the_same(anchor):
    """The chunk that is there after d other actions counts from its own observation, rows 0 to d - 1 included."""
    body, policy = Lags(), Says(rows_of(8))
    executor = Anchored(Asynchronous(policy, connect(SPEC, SPEC), execute=3, worker=Slow(5)), body, SPEC, anchor)
    executor.begin("go", seed=0)
    places = []
    for _ in range(20):
        executor.looks()
        observation = body.observe()
        decision = executor.step(observation)
        places.append(decision.row)
        body.command(decision.action)
    begun = [number for number, (one, two) in enumerate(pairwise(places), 1) if one[0] != two[0]]
    assert begun and all(places[number][1] >= 2 for number in begun), "answers came late"
    for (asked, row), target in zip(places, body.targets, strict=True):
        number = round(asked * 10)
        start = body.seen[number] if anchor == "measured" or not number else body.targets[number - 1]
        assert_same(target, expected(start, policy.rows)[row])


def test_what_a_limit_took_off_is_made_up_for():
    rows = np.zeros((4, 7))
    rows[0, 0] = 2 * STEP  # more than the body takes at once
    body = Lags()
    run_episode(body, BareTask("go", 4), Says(rows), seed=0)
    np.testing.assert_allclose([one.position[0] - 0.4 for one in body.targets], [STEP, *[2 * STEP] * 3], atol=1e-6)


def test_an_ensemble_and_a_person_are_left_alone():
    class Person:
        def begin(self, instruction, *, seed):
            pass

        def looks(self):
            return True

        def step(self, observation):
            return Decision(rows_of(1)[0].astype(np.float32), human=True, row=(0.0, 0))

        def report(self):
            return {"held": 1}

        def close(self):
            pass

    body = Lags()
    ensemble = Anchored(Synchronous(Says(rows_of(4)), connect(SPEC, SPEC), 1, Ensemble()), body, SPEC)
    ensemble.begin("", seed=0)
    decision = ensemble.step(body.observe())
    np.testing.assert_array_equal(decision.action, rows_of(4)[0].astype(np.float32))
    person = Anchored(Person(), body, SPEC)
    np.testing.assert_array_equal(person.step(body.observe()).action, rows_of(1)[0].astype(np.float32))
    assert person.report() == {"held": 1}


def test_a_body_without_a_target_is_left_alone_and_one_that_measures_no_pose_has_only_a_target():
    body, blind = Lags(), replace(SPEC, state=SPEC.state[6:], state_rotation=None)
    body.counts = False
    free = Anchored(Synchronous(Says(rows_of(4)), connect(SPEC, SPEC)), body, SPEC)
    free.begin("", seed=0)
    np.testing.assert_array_equal(free.step(body.observe()).action, rows_of(4)[0].astype(np.float32))
    assert isinstance(anchored(free, Lags(), blind), Anchored)
    with pytest.raises(ConfigError, match="does not measure the tool's pose"):
        anchored(free, Lags(), blind, "measured")


def test_an_answer_to_nobody_s_observation_stops_the_arm():
    class Old(Says):
        def act(self, observation):
            return ActionChunk(self.rows, observation.time - 5.0, 0.1)

    outcome = run_episode(Lags(), BareTask("go", 4), Old(rows_of(4)), seed=0)
    assert outcome.status == "error" and "-5.000000 s that nobody made" in outcome.error


@pytest.mark.parametrize("frame", ["base", "tool"])
def test_a_change_leads_where_it_says(frame):
    draw = np.random.default_rng(1)
    spec = replace(SPEC.action, frame=frame)
    start, end = (Pose(draw.normal(size=3), Rotation.from_rotvec(draw.normal(size=3)).as_matrix()) for _ in range(2))
    action = change_to(np.full(7, 0.5, np.float32), spec, start, end)
    assert action[6] == 0.5
    assert_same(poses_after(action[None], spec, start)[0], end, atol=1e-5)
