"""A watcher in its own thread: nothing waits for it, nothing is lost silently, its errors reach whom they concern."""

import threading
from typing import Any

import numpy as np
import pytest
from test_recorder import SPEC, Slider

from vla.background import BackgroundObserver
from vla.datasets.encoded_frames import EncodedFrames
from vla.embodiment import CameraSpec
from vla.errors import BodyFault, ConfigError, DataError
from vla.protocols import Observer, Outcome, Step
from vla.recorder import Recorder, human_steps
from vla.runtime import run_episode

DONE = Outcome("failure", 3, 0.1)


class Keeps:
    """Notes what it is told, when it is let; breaks at a step."""

    wants_images = False

    def __init__(self, breaks_at=None):
        self.open, self.breaks_at = threading.Event(), breaks_at
        self.seen: list[Any] = []
        self.open.set()

    def start(self, spec, instruction):
        self.seen.append(instruction)

    def step(self, step):
        assert self.open.wait(30)
        if step.index == self.breaks_at:
            raise BodyFault("no picture from wrist")
        self.seen.append(step.index)

    def finish(self, outcome):
        self.seen.append(outcome)


def step(index):
    return Step(index, Slider().observe(), None, np.zeros(1, np.float32))


def test_everything_arrives_in_order():
    inner = Keeps()
    observer = BackgroundObserver(inner)
    assert isinstance(observer, Observer) and not observer.wants_images
    for name in ("one", "two"):
        observer.start(SPEC, name)
        for index in range(3):
            observer.step(step(index))
        observer.finish(DONE)
    observer.flush()
    assert inner.seen == ["one", 0, 1, 2, DONE, "two", 0, 1, 2, DONE] and observer.dropped == 0
    observer.close()
    observer.close()


def test_a_slow_watcher_loses_steps_and_they_are_counted():
    inner = Keeps()
    observer = BackgroundObserver(inner, capacity=2)
    observer.start(SPEC, "go")
    inner.open.clear()
    for index in range(5):
        observer.step(step(index))  # returns, though nobody works
    observer.finish(DONE)
    inner.open.set()
    observer.flush()
    assert observer.dropped == 3
    assert inner.seen[:3] == ["go", 0, 1] and inner.seen[3].info == {"dropped_steps": 3}
    observer.start(SPEC, "again")
    observer.step(step(0))
    observer.finish(DONE)
    observer.close()
    assert inner.seen[-1].info == {}


def test_an_essential_watcher_s_error_stops_the_run_once():
    inner = Keeps(breaks_at=1)
    observer = BackgroundObserver(inner)
    observer.start(SPEC, "go")
    observer.step(step(0))
    observer.step(step(1))
    with pytest.raises(BodyFault, match="wrist"):
        observer.flush()
    observer.step(step(2))
    observer.finish(DONE)
    observer.flush()
    assert inner.seen == ["go", 0]  # half an episode is none
    observer.start(SPEC, "again")
    observer.finish(DONE)
    observer.close()
    assert inner.seen[2:] == ["again", DONE]


def test_another_watcher_s_error_is_kept_to_itself():
    inner = Keeps(breaks_at=0)
    observer = BackgroundObserver(inner, essential=False)
    slider = Slider()
    outcome = run_episode(slider, slider, slider, seed=0, observers=[observer])
    observer.close()
    assert outcome.success and inner.seen == ["go right"] and "wrist" in str(observer.error)
    with pytest.raises(ConfigError):
        BackgroundObserver(inner, capacity=0)


@pytest.mark.parametrize("storage", ["image", "jpeg"])
def test_pictures_are_encoded_as_they_come(storage):
    camera = CameraSpec("front", 6, 8)
    frames = EncodedFrames(camera, storage)
    picture = np.full((6, 8, 3), 70, np.uint8)
    frames.append(picture)
    frames.append(picture + 90)
    assert len(frames) == 2 and frames.encoded(0)[:2] == (b"\x89P" if storage == "image" else b"\xff\xd8")
    np.testing.assert_allclose(frames[1], 160, atol=2)
    assert [int(each[0, 0, 0]) // 10 for each in frames[:]] == [7, 16]
    with pytest.raises(IndexError):
        frames[2]
    with pytest.raises(DataError, match="camera front"):
        frames.append(picture[:5])


def test_steps_that_a_person_decided_on_are_labelled():
    got = []
    recorder = Recorder(lambda episode, _: got.append(episode), source="test", frames=EncodedFrames)
    recorder.start(SPEC, "go")
    for index, human in enumerate([False, True, True, False, True]):
        recorder.step(Step(index, Slider().observe(), None, np.zeros(1, np.float32), human=human))
    recorder.finish(DONE)
    (episode,) = got
    assert episode.info["human"] == [[1, 3], [4, 5]] and isinstance(episode.images["front"], EncodedFrames)
    assert human_steps(episode).tolist() == [False, True, True, False, True]
    with pytest.raises(ConfigError, match="the episode has 2"):
        human_steps(episode.take(np.arange(2)))
