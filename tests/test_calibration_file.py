"""A camera's calibration comes back to the robot: into its embodiment, its recordings, its view; nobody else's does."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from board_pictures import HEIGHT, LENS, WIDTH, pose, wrist_views

from vla.calibration_board import Board
from vla.calibration_file import calibrated
from vla.cli import main
from vla.datasets.lerobot_v3 import Config as Source
from vla.datasets.lerobot_writer import Writer
from vla.embodiment import CameraSpec, EmbodimentSpec
from vla.embodiments.ur import ur
from vla.errors import ConfigError, DataError, SpecMismatch
from vla.experience import Episode
from vla.frames import CameraCalibration, Offset
from vla.mounting import check_calibrations, offset_matrix, offset_of
from vla.protocols import Outcome
from vla.robot_driver.arm_camera import parse_cameras
from vla.robot_driver.lerobot_make import cameras_of
from vla.rotation import from_matrix
from vla.transforms import connect
from vla.view import RerunObserver, view_episode

CAMERA_TO_TOOL = pose([0.05, -0.02, -0.08], [0.1, -0.05, 1.5])
TOOL = Offset((0.0, 0.0, 0.15))
TEXT = f"wrist=0:{WIDTH}x{HEIGHT}@30:wrist"


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """An arm whose tool is known, driven around a board; it pauses at every view."""
    spec = dataclasses.replace(ur("ur5e", cameras=(CameraSpec("wrist", HEIGHT, WIDTH, role="wrist"),)), tool=TOOL)
    board = pose([0.45, -0.1, 0.02], [0.02, 3.1, 0.3])
    views = wrist_views(Board(), CAMERA_TO_TOOL, board, np.random.default_rng(5), count=10)
    rows, frames = [], []
    for link, picture in zip(*views, strict=True):
        here = np.concatenate([link[:3, 3], from_matrix(link[:3, :3], "axis_angle"), np.zeros(6)])
        for step in range(6):  # four steps of pause, two of motion
            rows.append(here + (0.02 * (step - 3) if step > 3 else 0.0))
            frames.append(picture)
    count = len(rows)
    action = np.zeros((count, 6), np.float32)
    episode = Episode(spec, np.array(rows, np.float32), action, {"wrist": frames}, np.arange(count) / 10, "look")
    folder = tmp_path_factory.mktemp("board") / "recording"
    with Writer(folder, spec, key="test") as writer:
        writer.add(episode)
    return folder


@pytest.fixture(scope="module")
def file(recording) -> Path:
    lens = recording.parent / "lens.json"
    lens.write_text(json.dumps({"matrix": LENS.matrix.tolist(), "distortion": LENS.distortion.tolist()}))
    out = recording.parent / "camera.json"
    with pytest.raises(SystemExit) as ended:
        main(["robot", "calibrate", str(recording), "--lens", str(lens), "--out", str(out)])
    assert ended.value.code == 0
    return out


def test_what_was_calibrated_is_in_the_embodiment_the_recording_and_the_view(file, tmp_path):
    (camera,) = parse_cameras(f"{TEXT}:{file}")
    assert (camera.device, camera.spec.role) == ("0", "wrist")
    seen = camera.spec.calibration
    assert seen is not None and seen.parent == "tool" and seen.tool == TOOL
    np.testing.assert_allclose(offset_matrix(seen.pose), CAMERA_TO_TOOL, atol=2e-3)
    assert (seen.focal, seen.centre) == ((560.0, 558.0), (322.0, 238.0))
    assert cameras_of([f"{TEXT}:{file}"])[0] == (camera.spec,), "lerobot's robots take it too"

    spec = dataclasses.replace(ur("ur5e", cameras=(camera.spec,)), tool=TOOL)
    check_calibrations(spec)
    assert EmbodimentSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    state = np.tile(np.array([0.4, 0.1, 0.3, 0, 0, 0, *[0] * 6], np.float32), (3, 1))
    pictures = {"wrist": [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 3}
    with Writer(tmp_path / "demos", spec, key="test") as writer:
        writer.add(Episode(spec, state, np.zeros((3, 6), np.float32), pictures, np.arange(3) / 10, "go"))
    source = Source(tmp_path / "demos").make()
    assert source.spec == spec

    view_episode(source[0], tmp_path / "shown.rrd")
    found = entities(tmp_path / "shown.rrd")["/plan/hand/camera_wrist"]
    assert np.ravel(found["image_from_camera"][0]).tolist() == [560.0, 0, 0, 0, 558.0, 0, 322.0, 238.0, 1]
    np.testing.assert_allclose(np.ravel(found["translation"][0]), CAMERA_TO_TOOL[:3, 3], atol=2e-3)


def entities(path: Path) -> dict:
    from rerun.chunk import RrdReader

    found: dict = {}
    reader = RrdReader(path)
    for chunk in reader.stream(store=reader.recordings()[0]):
        batch = chunk.to_record_batch()
        for name in batch.schema.names:
            if ":" in name:
                values = [value for value in batch.column(name).to_pylist() if value is not None]
                found.setdefault(chunk.entity_path, {}).setdefault(name.rsplit(":", 1)[1], []).extend(values)
    return found


def test_a_camera_beside_the_arm_is_shown_there_and_one_nobody_measured_nowhere(tmp_path):
    front = CameraCalibration("base", Offset((1.0, 0.2, 0.5)), (300.0, 300.0), (31.5, 23.5))
    cameras = (CameraSpec("front", 48, 64, calibration=front), CameraSpec("side", 48, 64))
    observer = RerunObserver(tmp_path / "run.rrd")
    observer.start(ur("ur5e", cameras=cameras), "go")
    observer.finish(Outcome("success", 0, 0.0))
    shown = [name for name in entities(tmp_path / "run.rrd") if "camera_" in name]
    assert shown == ["/plan/camera_front"]


def test_a_file_of_another_camera_another_size_or_none_is_refused_with_both_named(file, tmp_path):
    camera = CameraSpec("wrist", HEIGHT, WIDTH)
    for other, said in (
        (dataclasses.replace(camera, name="hand"), "camera: expected 'hand', found 'wrist'"),
        (dataclasses.replace(camera, height=240), "size: expected 640 x 240 pixels, found 640 x 480 pixels"),
    ):
        with pytest.raises(DataError, match=said):
            calibrated(other, file)
    value = json.loads(file.read_text())
    for change in (
        {"lens": {}},
        {"camera_in": "hand"},
        {"position_m": [0, 0]},
        {"position_m": [0, 0, "x"]},
        {"size": 3},
    ):
        (tmp_path / "bad.json").write_text(json.dumps(value | change))
        with pytest.raises(DataError, match=r"bad\.json.*calibration: expected what vla robot calibrate writes"):
            calibrated(camera, tmp_path / "bad.json")
    with pytest.raises(DataError, match=r"none\.json"):
        parse_cameras(f"{TEXT}:{tmp_path / 'none.json'}")


def test_a_camera_on_the_tool_is_refused_with_another_tool(file):
    spec = ur("ur5e", cameras=(calibrated(CameraSpec("wrist", HEIGHT, WIDTH), file),))
    with pytest.raises(SpecMismatch, match=r"camera wrist: \(0.0, 0.0, 150.0\) mm.*the robot does not state its own"):
        check_calibrations(spec)
    longer = dataclasses.replace(spec, tool=Offset((0.0, 0.0, 0.2)))
    with pytest.raises(SpecMismatch, match=r"\(0.0, 0.0, 150.0\) mm.*\(0.0, 0.0, 200.0\) mm.*now: 50.0 mm and 0.0"):
        check_calibrations(longer)


def test_calibrating_anew_is_another_recording_and_the_same_robot(file):
    camera = calibrated(CameraSpec("wrist", HEIGHT, WIDTH), file)
    assert camera.calibration is not None
    moved = offset_matrix(camera.calibration.pose) @ pose([0.0, 0.0, 0.03], [0.0, 0.0, 0.0])
    elsewhere = dataclasses.replace(camera.calibration, pose=offset_of(moved))
    plain = dataclasses.replace(ur("ur5e", cameras=(CameraSpec("wrist", HEIGHT, WIDTH),)), tool=TOOL)
    here, there = (
        dataclasses.replace(plain, cameras=(dataclasses.replace(camera, calibration=each),))
        for each in (camera.calibration, elsewhere)
    )
    assert len({each.fingerprint for each in (plain, here, there)}) == 1
    assert len({each.identity for each in (plain, here, there)}) == 3
    assert connect(here, here).notes == connect(plain, here).notes == ()
    assert connect(there, here).notes == (
        "camera wrist: it sits elsewhere than the policy's, 30.0 mm and 0.0 degrees apart",
    )


def test_numbers_of_a_calibration_are_finite_and_complete():
    for wrong in ({"focal": (0.0, 1.0)}, {"centre": (1.0,)}, {"distortion": (float("nan"),) * 5}, {"parent": "wrist"}):
        with pytest.raises(ConfigError, match="camera"):
            CameraCalibration(
                **{"parent": "base", "pose": Offset(), "focal": (1.0, 1.0), "centre": (0.0, 0.0), **wrong}
            )
