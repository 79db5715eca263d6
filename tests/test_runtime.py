"""The run loop on a body that is a counter: it moves by what it is told and is solved at a position."""

import time
from dataclasses import replace

import numpy as np
import pytest

from vla.chunking import Decision
from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec
from vla.errors import BodyFault, SpecMismatch
from vla.experience import ActionChunk, Observation
from vla.runtime import Pace, run_episode

SPEC = EmbodimentSpec(
    "slider",
    (Channel("x", "m", "position"),),
    None,
    ActionSpec((Channel("dx", "m", "position"),), "delta", "base", None, None, 100.0),
    (CameraSpec("front", 2, 2),),
)


class Slider:
    """Body and task in one: solved when x reaches 1 m."""

    spec = SPEC
    instruction = "go right"
    max_steps = 30

    def __init__(self, broken_at=None):
        self.x, self.looks, self.commands, self.stops, self.broken_at = 5.0, 0, 0, 0, broken_at

    def reset(self):
        self.x = 0.0

    def succeeded(self):
        return self.x >= 1.0 - 1e-6

    def observe(self, *, images=True):
        self.looks += images
        pictures = {"front": np.zeros((2, 2, 3), np.uint8)} if images else {}
        return Observation(pictures, np.array([self.x], np.float32), "", self.commands * 0.01)

    def command(self, action):
        if self.commands == self.broken_at:
            raise BodyFault("the slider no longer answers")
        self.commands += 1
        sent = np.clip(action, -0.1, 0.1)
        self.x += float(sent[0])
        return sent

    def stop(self):
        self.stops += 1

    def close(self):
        self.stop()


class Pusher:
    def __init__(self, step=0.2, horizon=4, spec=SPEC):
        self.step, self.horizon, self.spec, self.seen, self.seed = step, horizon, spec, [], None

    def reset(self, instruction, *, seed):
        self.seed = seed

    def act(self, observation):
        self.seen.append(observation)
        return ActionChunk(np.full((self.horizon, 1), self.step, np.float32), observation.time, 0.01)


class Watcher:
    def __init__(self, wants_images=False):
        self.wants_images, self.steps, self.outcomes = wants_images, [], []

    def start(self, spec, instruction):
        self.spec, self.instruction = spec, instruction

    def step(self, step):
        self.steps.append(step)

    def finish(self, outcome):
        self.outcomes.append(outcome)


def test_an_episode_that_succeeds():
    body, policy, watcher = Slider(), Pusher(), Watcher()
    outcome = run_episode(body, body, policy, seed=7, execute=2, observers=[watcher])
    assert (outcome.status, outcome.steps, policy.seed) == ("success", 10, 7)
    assert len(policy.seen) == 5 and policy.seen[0].instruction == "go right"
    assert body.looks == 5  # a picture only where the policy looks
    assert [step.chunk is not None for step in watcher.steps] == [True, False] * 5
    assert np.allclose([step.action for step in watcher.steps], 0.1)  # what was sent, not what was asked for
    assert watcher.outcomes == [outcome] and body.stops == 1


def test_observers_may_ask_for_pictures_at_every_step():
    body, watcher = Slider(), Watcher(wants_images=True)
    run_episode(body, body, Pusher(), seed=0, observers=[watcher])
    assert all(step.observation.images for step in watcher.steps) and body.looks == 10


def test_the_limit_of_steps_is_a_failure():
    body = Slider()
    assert run_episode(body, body, Pusher(step=0.0), seed=0).status == "failure"


def test_a_fault_is_an_error_and_stops_the_body():
    body, watcher = Slider(), Watcher()
    outcome = run_episode(body, body, Pusher(step=float("nan")), seed=0, observers=[watcher])
    assert outcome.status == "error" and "nan" in outcome.error and body.commands == 0 and body.stops == 1
    body = Slider(broken_at=3)
    outcome = run_episode(body, body, Pusher(), seed=0, observers=[watcher])
    assert outcome.status == "error" and "no longer answers" in outcome.error and outcome.steps == 3
    assert len(watcher.outcomes) == 2


def test_a_bug_is_not_swallowed_and_still_stops_the_body():
    class Buggy(Pusher):
        def act(self, observation):
            raise ZeroDivisionError("a bug")

    body, watcher, policy = Slider(), Watcher(), Buggy()
    with pytest.raises(ZeroDivisionError):
        run_episode(body, body, policy, seed=0, observers=[watcher])
    assert body.stops == 1 and watcher.outcomes[0].status == "error"


def test_a_body_that_cannot_be_stopped_does_not_keep_the_observers_waiting():
    class Deaf(Slider):
        def stop(self):
            raise BodyFault("no answer")

    body, watcher = Deaf(), Watcher()
    with pytest.raises(BodyFault, match="no answer"):
        run_episode(body, body, Pusher(), seed=0, observers=[watcher])
    assert len(watcher.outcomes) == 1


def test_nothing_moves_where_policy_and_body_do_not_fit():
    body = Slider()
    wrong = replace(SPEC, action=replace(SPEC.action, mode="absolute"))
    with pytest.raises(SpecMismatch):
        run_episode(body, body, Pusher(spec=wrong), seed=0)
    assert body.x == 5.0 and body.commands == 0


def test_a_step_without_an_action_stops_the_body_and_is_not_recorded():
    class Late:
        """Has an action in every other step."""

        def __init__(self, policy, adapter):
            self.asked, self.closed = 0, 0

        def begin(self, instruction, *, seed):
            self.begun = (instruction, seed)

        def looks(self):
            return False

        def step(self, observation):
            self.asked += 1
            return Decision(np.full(1, 0.1, np.float32) if self.asked % 2 else None)

        def report(self):
            return {"asked": self.asked}

        def close(self):
            self.closed += 1

    made = []

    def executor(policy, adapter):
        made.append(Late(policy, adapter))
        return made[0]

    body, watcher = Slider(), Watcher()
    outcome = run_episode(body, body, Pusher(), seed=3, executor=executor, observers=[watcher])
    assert (outcome.status, outcome.steps, outcome.info) == ("success", 19, {"asked": 19})
    assert (body.commands, body.stops, body.looks) == (10, 10, 0)
    assert [step.index for step in watcher.steps] == list(range(0, 19, 2))
    assert made[0].begun == ("go right", 3) and made[0].closed == 1


def test_a_pace_is_kept_and_not_made_up_for():
    pace = Pace(100.0)
    begin = time.perf_counter()
    for _ in range(5):
        pace.wait()
    assert time.perf_counter() - begin >= 0.0499
    time.sleep(0.1)
    pace.wait()
    begin = time.perf_counter()
    pace.wait()
    assert time.perf_counter() - begin > 0.005  # the next tick is a full period later, not at once
