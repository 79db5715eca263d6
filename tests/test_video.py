"""Films: upright, whole or not there, with every step in them."""

from dataclasses import replace

import av
import fake_benchmark as fake
import numpy as np
import pytest

from vla.embodiment import CameraSpec
from vla.embodiments.libero_panda import libero_panda
from vla.errors import BodyFault
from vla.experience import Observation
from vla.protocols import Observer, Outcome, Step
from vla.rows import Row
from vla.runtime import run_episode
from vla.video import VideoObserver, side_by_side


def observation(spec, **pictures):
    return Observation(pictures, np.zeros(len(spec.state), np.float32), "", 0.0)


def test_pictures_are_upright_and_side_by_side():
    spec = replace(
        libero_panda(),
        cameras=(CameraSpec("a", 40, 60, "mirrored"), CameraSpec("b", 21, 20, "turned_180")),
    )
    a, b = np.zeros((40, 60, 3), np.uint8), np.zeros((21, 20, 3), np.uint8)
    a[:10, :10] = 255  # upright: top right
    b[-6:, -6:] = 255  # upright: top left
    picture = side_by_side(spec, observation(spec, a=a, b=b))
    assert picture.shape == (40, 60 + 38, 3)
    assert picture[:10, 50:60].min() == 255 and picture[:10, :50].max() == 0 and picture[10:, :60].max() == 0
    assert picture[:8, 60:68].min() > 200 and picture[20:, 60:].max() == 0
    with pytest.raises(BodyFault, match="no picture from b"):
        side_by_side(spec, observation(spec, a=a))


def film(path, *, observers=(), size=33):
    benchmark = fake.Config(size=size).make()
    body, task = benchmark.open(Row("points", "reach left", 0, 0))
    policy = fake.PolicyConfig(size=size).make()
    return run_episode(body, task, policy, seed=0, execute=8, observers=[VideoObserver(path), *observers])


def test_a_film_has_every_step_at_the_robots_rate(tmp_path):
    path = tmp_path / "new" / "film.mp4"
    assert isinstance(VideoObserver(path), Observer)
    outcome = film(path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.average_rate == 20
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == outcome.steps == 30
    assert frames[0].shape == (34, 68, 3)
    column = [int(np.argmax(frame[:, :34, 0].max(0))) for frame in (frames[0], frames[10])]
    assert column[1] < column[0]  # the point moves right in a stored, mirrored picture
    assert path.stat().st_size < 20_000
    assert [entry.name for entry in path.parent.iterdir()] == ["film.mp4"]


def test_a_film_that_breaks_off_leaves_nothing(tmp_path):
    class Breaks:
        wants_images = False

        def start(self, spec, instruction):
            pass

        def step(self, step):
            raise RuntimeError("full")

        def finish(self, outcome):
            pass

    path = tmp_path / "film.mp4"
    observer = VideoObserver(path)
    spec = libero_panda(32)
    observer.start(spec, "")
    pictures = {name: np.zeros((32, 32, 3), np.uint8) for name in spec.camera_names}
    observer.step(Step(0, observation(spec, **pictures), None, np.zeros(7, np.float32)))
    observer.start(spec, "")
    assert not list(tmp_path.iterdir())
    observer.finish(Outcome("failure", 0, 0.0))
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="full"):
        film(path, observers=[Breaks()])
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.mp4"]  # what was seen until then
