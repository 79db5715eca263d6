"""Rerun recordings read back: every entity is there, with its values, at its times."""

import dataclasses
import io
import socket
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import fake_benchmark as fake
import numpy as np
import pytest
from fake_recordings import SPEC, changed, clean
from PIL import Image

from vla import rotation
from vla.background import BackgroundObserver
from vla.embodiment import Channel
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, DependencyMissing
from vla.experience import ActionChunk, Episode, Observation
from vla.protocols import Observer, Outcome, Step
from vla.rows import Row
from vla.runtime import run_episode
from vla.safety import SafetyEvent
from vla.view import RerunObserver, stream_episode, view_episode, view_episodes
from vla.view_pose import commanded, hands, pose, predicted_path
from vla.view_server import ViewerProcess


def read(path, place=0):
    """Entity to {component: (steps, values)} of one recording, static data at step None."""
    from rerun.chunk import RrdReader

    entities = {}
    reader = RrdReader(path)
    for chunk in reader.stream(store=reader.recordings()[place]):
        batch = chunk.to_record_batch()
        steps = batch.column("step").to_pylist() if "step" in batch.schema.names else [None] * batch.num_rows
        for name in batch.schema.names:
            if ":" in name:
                table = entities.setdefault(chunk.entity_path, {}).setdefault(name.rsplit(":", 1)[1], [])
                table += [(s, v) for s, v in zip(steps, batch.column(name).to_pylist(), strict=True) if v is not None]
    return entities


def run(path, *, images, size=32, horizon=16):
    observer = RerunObserver(path, images=images, facts={"seed": 3})
    assert isinstance(observer, Observer)
    body, task = fake.Config(size=size, max_steps=20).make().open(Row("points", "reach left", 0, 0))
    steps = []

    class Keeps:
        wants_images = False

        def start(self, spec, instruction):
            pass

        def step(self, step):
            steps.append(step)

        def finish(self, outcome):
            pass

    policy = fake.PolicyConfig(size=size, horizon=horizon).make()
    run_episode(body, task, policy, seed=0, execute=8, observers=[observer, Keeps()])
    return steps


@pytest.mark.parametrize("images", [False, True])
def test_a_run_reads_back(tmp_path, images):
    path = tmp_path / "new" / "run.rrd"
    steps = run(path, images=images)
    assert [entry.name for entry in path.parent.iterdir()] == ["run.rrd"]
    found = read(path)
    spec = libero_panda(32)
    assert found.keys() >= {f"/state/{name}" for name in spec.state_names}
    assert found.keys() >= {f"/{root}/{name}" for name in spec.action.names for root in ("action", "predicted")}
    assert found.keys() >= {"/plan/path", "/plan/predicted", "/inference/latency", "/instruction", "/log"}
    for place, name in enumerate(spec.action.names):
        values = dict(found[f"/action/{name}"]["scalars"])
        assert values == {step.index: [pytest.approx(step.action[place])] for step in steps}
        predicted = sorted(found[f"/predicted/{name}"]["scalars"])
        wanted = [(s.index + row, [s.chunk.actions[row, place]]) for s in steps if s.chunk for row in range(16)]
        assert predicted == sorted(wanted)
    for name in spec.camera_names:
        pictures = dict(found[f"/camera/{name}"]["blob"])
        assert list(pictures) == list(range(20) if images else (0, 8, 16))
    text = found["/instruction"]["text"][0][1][0]
    assert "move the point to its place" in text and "seed: 3" in text
    assert "failure after 20 steps" in found["/log"]["text"][0][1][0]


def test_pictures_are_upright(tmp_path):
    run(tmp_path / "run.rrd", images=True, size=64)
    blob = dict(read(tmp_path / "run.rrd")["/camera/agentview"]["blob"])[5][0]
    picture = np.asarray(Image.open(io.BytesIO(bytes(blob))).convert("RGB"))
    assert picture.shape == (64, 64, 3)
    row, column = np.unravel_index(np.argmax(picture[:, :, 0]), (64, 64))
    assert column < 30 and abs(row - 16) < 4  # the point went right in the stored, mirrored picture


def test_a_chunk_that_comes_late_is_shown_at_the_steps_it_is_meant_for(tmp_path):
    spec = libero_panda(8)
    actions = np.zeros((5, 7), np.float32)
    actions[:, 0] = [0.01, 0.02, 0.03, 0.04, 0.05]
    observer = RerunObserver(tmp_path / "run.rrd")
    observer.start(spec, "")
    for index in range(6):
        seen = Observation({}, np.zeros(len(spec.state), np.float32), "", 7.0 + index / 20)
        chunk = ActionChunk(actions, 7.0 + 2 / 20, 1 / 20) if index == 5 else None  # of the observation at step 2
        observer.step(Step(index, seen, chunk, actions[0]))
    observer.finish(Outcome("success", 6, 0.0))
    found = read(tmp_path / "run.rrd")
    rows = {step: values[0] for step, values in found[f"/predicted/{spec.action.names[0]}"]["scalars"]}
    assert rows == {2 + row: pytest.approx(value) for row, value in enumerate(actions[:, 0])}
    ((_, strips),) = found["/plan/predicted"]["strips"]
    np.testing.assert_allclose(np.array(strips[0])[:, 0], [0, 0.04, 0.09], atol=1e-6)  # what is left of it


def test_an_unfinished_run_leaves_nothing(tmp_path):
    observer = RerunObserver(tmp_path / "run.rrd")
    observer.start(libero_panda(32), "")
    observer.abandon()
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="not started"):
        observer.finish(fake)  # type: ignore[arg-type]


def test_any_episode_can_be_viewed(tmp_path):
    spec = bridge_widowx(("image_0", "image_1"), 24, 32)
    rng = np.random.default_rng(0)
    state, action = rng.normal(size=(2, 6, 7)).astype(np.float32)
    pictures = rng.integers(0, 255, (6, 24, 32, 3), dtype=np.uint8)
    times = np.arange(6) / 5
    episode = Episode(
        spec, state, action, {"image_0": list(pictures)}, times, "put it there", True, "somewhere[3]", {"init": 4}
    )
    view_episode(episode, tmp_path / "episode.rrd")
    found = read(tmp_path / "episode.rrd")
    assert dict(found["/state/yaw_z"]["scalars"]) == {i: [pytest.approx(state[i, 5])] for i in range(6)}
    assert len(found["/camera/image_0"]["blob"]) == 6 and "/camera/image_1" not in found
    assert found["/state/yaw_z"]["names"][0][1] == ["yaw_z [rad]"]
    text = found["/instruction"]["text"][0][1][0]
    assert all(part in text for part in ("put it there", "somewhere[3]", "init: 4", "bridge_widowx, 5 Hz"))


def test_a_picture_that_cannot_be_read_leaves_nothing(tmp_path):
    class Broken(Sequence):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise ValueError("damaged")

    spec = bridge_widowx()
    numbers = np.zeros((2, 7), np.float32)
    episode = Episode(spec, numbers, numbers, {"image_0": Broken()}, np.zeros(2), "")
    with pytest.raises(ValueError, match="damaged"):
        view_episode(episode, tmp_path / "episode.rrd")
    assert not list(tmp_path.iterdir())


def test_a_plan_adds_up_scaled_moves():
    spec = libero_panda()
    actions = np.zeros((3, 7), np.float32)
    actions[:, 1] = 0.01
    path = predicted_path(spec, np.array([1.0, 2.0, 3.0]), ActionChunk(actions, 0.0, 0.05))
    np.testing.assert_allclose(path[:, 1], [2.0, 2.01, 2.02, 2.03], atol=1e-6)
    np.testing.assert_allclose(path[:, [0, 2]], [[1.0, 3.0]] * 4)


@pytest.mark.parametrize("form", ["axis_angle", "axis_angle_2pi", "euler_xyz", "quat_xyzw", "rot6d"])
def test_the_hands_pose_is_shown_whatever_the_form(tmp_path, form):
    episode = clean(1, steps=8)[0]
    size = {"quat_xyzw": 4, "rot6d": 6}.get(form, 3)
    turned = tuple(dataclasses.replace(SPEC.state[3], name=f"r{i}", unit="1") for i in range(size))
    spec = dataclasses.replace(SPEC, state=(*SPEC.state[:3], *turned, SPEC.state[6]), state_rotation=form)
    angles = episode.state[:, 3:6]
    values = angles if form == "axis_angle_2pi" else rotation.convert(angles, "axis_angle", form)
    state = np.column_stack([episode.state[:, :3], values, episode.state[:, 6]]).astype(np.float32)
    view_episode(changed(episode, spec=spec, state=state), tmp_path / "e.rrd")
    found = read(tmp_path / "e.rrd")
    assert {f"/state/r{i}" for i in range(size)} <= found.keys()
    hand = found["/plan/hand"]
    np.testing.assert_allclose([place[0] for _, place in hand["translation"]], state[:, :3], atol=1e-6)
    stored = np.array([matrix[0] for _, matrix in hand["mat3x3"]]).reshape(-1, 3, 3).swapaxes(1, 2)  # by columns
    np.testing.assert_allclose(stored, rotation.to_matrix(angles, "axis_angle"), atol=1e-5)
    assert f"state {form}" in found["/instruction"]["text"][0][1][0]


def test_a_pose_that_is_none_is_left_out():
    spec = dataclasses.replace(SPEC, state=SPEC.state[:6])
    (hand,) = hands(spec)
    assert pose(spec, hand, np.full(6, np.nan, np.float32)) is None
    channels = tuple(dataclasses.replace(SPEC.state[3], name=f"q{i}", unit="1") for i in range(4))
    spec = dataclasses.replace(SPEC, state=(*SPEC.state[:3], *channels), state_rotation="quat_xyzw")
    assert pose(spec, hands(spec)[0], np.zeros(7, np.float32)) is None
    assert hands(dataclasses.replace(SPEC, state=SPEC.state[3:])) == ()


def test_several_episodes_are_recordings_of_one_file(tmp_path):
    from rerun.chunk import RrdReader

    path = tmp_path / "set.rrd"
    view_episodes(clean(3, steps=5), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.rrd"]
    assert len(RrdReader(path).recordings()) == 3
    places = {read(path, place)["/instruction"]["text"][0][1][0].split("source: ")[1][:7] for place in range(3)}
    assert places == {"fake[0]", "fake[1]", "fake[2]"}
    for place in range(3):
        assert len(read(path, place)["/camera/front"]["blob"]) == 5


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_page_is_served_on_this_machine_only():
    port, web_port = free_port(), free_port()
    with ViewerProcess("web", port=port, web_port=web_port) as viewer:
        stream_episode(clean(1, steps=3)[0], viewer.address)
        with urllib.request.urlopen(f"http://127.0.0.1:{web_port}") as answer:
            assert answer.status == 200 and b"html" in answer.read()[:200].lower()
        addresses = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        bound = {address.split(":")[0] for address in addresses if int(address.split(":")[1], 16) in (port, web_port)}
        assert bound == {"0100007F"}
        with pytest.raises(ConfigError, match=str(port)), ViewerProcess("web", port=port, web_port=free_port()):
            pass
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_window_without_a_display_says_so(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DependencyMissing, match="display"), ViewerProcess("native", port=free_port()) as viewer:
        viewer.wait()


def test_what_is_commanded_is_a_pose(tmp_path):
    spec = libero_panda(32)
    state = np.array([0.1, 0.2, 1.0, np.pi, 0, 0, 0, 0], np.float32)
    action = np.array([0.01, 0.02, 0.03, 0, 0, 0.1, 1], np.float32)
    seen = Observation({}, state, "", 0.0)
    place, matrix = must(commanded(spec, seen, action))
    np.testing.assert_allclose(place, [0.11, 0.22, 1.03], atol=1e-6)
    turned = rotation.to_matrix(action[3:6], "axis_angle") @ rotation.to_matrix(state[3:6], "axis_angle")
    np.testing.assert_allclose(matrix, turned, atol=1e-6)
    channels = tuple(dataclasses.replace(channel, low=-9, high=9) for channel in spec.action.channels)
    there = dataclasses.replace(spec, action=dataclasses.replace(spec.action, mode="absolute", channels=channels))
    place, matrix = must(commanded(there, seen, action))
    np.testing.assert_allclose(place, action[:3], atol=1e-6)
    np.testing.assert_allclose(matrix, rotation.to_matrix(action[3:6], "axis_angle"), atol=1e-6)
    assert (
        commanded(dataclasses.replace(spec, action=dataclasses.replace(spec.action, frame="tool")), seen, action)
        is None
    )
    assert commanded(dataclasses.replace(spec, state=(Channel("q"),), state_rotation=None), seen, action) is None


def must(value):
    assert value is not None
    return value


def test_safety_events_links_and_what_was_dropped_are_told(tmp_path):
    observer = RerunObserver(tmp_path / "run.rrd", skeleton=lambda state: np.array([[0, 0, 0], state[:3]], np.float64))
    body = fake.PointBody(32)
    observer.start(body.spec, "go")
    for index in range(3):
        seen = body.observe(images=False)
        if index == 1:
            observer.event(SafetyEvent(seen.time, "workspace", "target 0.1 m outside", 0.1))
        observer.step(Step(index, seen, None, body.command(np.array([0.01, 0, 0, 0, 0, 0, 1], np.float32))))
    observer.finish(Outcome("failure", 3, 0.1, info={"dropped_steps": 4}))
    found = read(tmp_path / "run.rrd")
    assert found["/log"]["text"][0] == (1, ["safety, workspace: target 0.1 m outside"])
    assert "4 steps are not shown" in str(found["/log"]["text"])
    assert len(found["/plan/arm"]["strips"]) == len(found["/plan/commanded"]["translation"]) == 3
    periods = [value for _, (value,) in found["/inference/period"]["scalars"]]
    assert periods == pytest.approx([50.0, 50.0])


def test_a_run_is_shown_while_it_happens():
    with ViewerProcess("web", port=free_port(), web_port=free_port()) as viewer:
        live = RerunObserver(viewer.address, images=True)
        assert isinstance(live, Observer) and live.wants_images
        observer = BackgroundObserver(live, capacity=10, essential=False)
        body, task = fake.Config(size=32, max_steps=5).make().open(Row("points", "reach left", 0, 0))
        outcome = run_episode(body, task, fake.PolicyConfig(size=32).make(), seed=0, observers=[observer])
        observer.close()
    assert outcome.steps == 5 and observer.error is None and observer.dropped == 0


def test_a_viewer_that_is_gone_stops_nobody():
    with ViewerProcess("web", port=free_port(), web_port=free_port()) as viewer:
        address = viewer.address
    observer = BackgroundObserver(RerunObserver(address, images=True), capacity=10, essential=False)
    body, task = fake.Config(size=32, max_steps=5).make().open(Row("points", "reach left", 0, 0))
    outcome = run_episode(body, task, fake.PolicyConfig(size=32).make(), seed=0, observers=[observer])
    observer.close(0.5)
    assert outcome.steps == 5
