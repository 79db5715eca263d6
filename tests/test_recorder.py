"""What happened is what is recorded: through the run loop, and step by step."""

from dataclasses import replace

import numpy as np
import pytest

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec
from vla.errors import BodyFault
from vla.experience import ActionChunk, Observation
from vla.protocols import Observer, Outcome, Step
from vla.recorder import Recorder
from vla.runtime import run_episode

SPEC = EmbodimentSpec(
    "slider",
    (Channel("x", "m", "position"),),
    None,
    ActionSpec((Channel("dx", "m", "position"),), "delta", "base", None, None, 10.0),
    (CameraSpec("front", 2, 3), CameraSpec("wrist", 2, 2)),
)


class Slider:
    """Body, task and policy in one; clips what it is sent, starts its clock at 100 s."""

    spec = SPEC
    instruction = "go right"
    max_steps = 5

    def __init__(self, goal=0.3, breaks_at=None):
        self.goal, self.breaks_at, self.steps = goal, breaks_at, 0
        self.x = np.zeros(1, np.float32)

    def reset(self, *_, **__):
        self.x[:] = 0.0
        self.steps = 0

    def succeeded(self):
        return self.x[0] >= self.goal - 1e-6

    def observe(self, *, images=True):
        pictures = {c.name: np.full((c.height, c.width, 3), self.steps, np.uint8) for c in SPEC.cameras if images}
        return Observation(pictures, self.x.copy(), "", 100.0 + self.steps * 0.11)

    def act(self, observation):
        return ActionChunk(np.full((2, 1), 0.9, np.float32), observation.time, 0.1)

    def command(self, action):
        if self.steps == self.breaks_at:
            raise BodyFault("gone")
        self.steps += 1
        sent = np.clip(action, -0.1, 0.1)
        self.x += sent
        return sent

    def stop(self):
        pass

    close = stop


def record(slider, **options):
    got = []
    recorder = Recorder(lambda episode, outcome: got.append((episode, outcome)), source="test", **options)
    assert isinstance(recorder, Observer)
    outcome = run_episode(slider, slider, slider, seed=0, observers=[recorder])
    return got, outcome


def test_a_run_becomes_an_episode():
    got, outcome = record(Slider(), info={"init": 3})
    ((episode, told),) = got
    assert told == outcome and episode.spec is SPEC and episode.source == "test" and episode.success is True
    assert episode.instruction == "go right" and len(episode) == outcome.steps == 3
    np.testing.assert_allclose(episode.state[:, 0], [0.0, 0.1, 0.2], atol=1e-6)  # before each action
    np.testing.assert_allclose(episode.action[:, 0], [0.1] * 3)  # sent, not asked for
    np.testing.assert_allclose(episode.time, [0.0, 0.11, 0.22], atol=1e-9)  # measured, from the start
    assert [int(picture[0, 0, 0]) for picture in episode.images["front"]] == [0, 1, 2]
    assert episode.images["wrist"][0].shape == (2, 2, 3)
    assert episode.info["init"] == 3 and episode.info["status"] == "success"
    assert episode.window(1, 4).valid.tolist() == [True, True, False, False]


def test_failure_and_error_are_told_apart():
    ((failed, _),), _ = record(Slider(goal=9.0))
    assert failed.success is False and len(failed) == 5
    ((broken, outcome),), _ = record(Slider(breaks_at=2))
    assert broken.success is None and len(broken) == 2 and outcome.status == "error"
    assert "gone" in broken.info["error"]
    assert record(Slider(breaks_at=0))[0] == []  # nothing happened, nothing to hand on


def test_episodes_do_not_leak_into_each_other():
    got = []
    recorder = Recorder(lambda episode, _: got.append(episode), source="test")
    for _ in range(2):
        slider = Slider()
        run_episode(slider, slider, slider, seed=0, observers=[recorder])
    assert [len(episode) for episode in got] == [3, 3]
    assert got[0].images["front"] is not got[1].images["front"]


def test_a_blind_camera_is_an_error():
    recorder = Recorder(lambda *_: None, source="test")
    with pytest.raises(RuntimeError, match="not started"):
        recorder.finish(Outcome("failure", 0, 0.0))
    recorder.start(SPEC, "")
    seen = Slider().observe()
    with pytest.raises(BodyFault, match="no picture from wrist"):
        images = {"front": seen.images["front"]}
        recorder.step(Step(0, replace(seen, images=images), None, np.zeros(1, np.float32)))


def test_without_pictures():
    got, _ = record(Slider(), images=False)
    assert got[0][0].images == {}
