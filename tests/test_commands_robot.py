"""``vla robot``: check, calibrate and board, as a person types them."""

import json
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
from board_pictures import HEIGHT, LENS, WIDTH, pose, wrist_views
from PIL import Image

from vla.calibration_board import Board
from vla.calibration_pairs import pairs_in_folder, pairs_in_recording
from vla.cli import main
from vla.commands.robot_check import hardware
from vla.commands.robot_choice import RobotOptions
from vla.embodiment import CameraSpec
from vla.embodiments.ur import ur
from vla.errors import ConfigError, DataError, UnknownName
from vla.experience import Episode
from vla.rotation import from_matrix

BOARD = Board()
CAMERA_TO_TOOL = pose([0.05, -0.02, -0.08], [0.1, -0.05, 1.5])
BOARD_TO_BASE = pose([0.45, -0.1, 0.02], [0.02, 3.1, 0.3])


def vla(capsys, *arguments) -> tuple[Any, Any, str]:
    with pytest.raises(SystemExit) as ended:
        main(["--json", *map(str, arguments)])
    out, err = capsys.readouterr()
    return ended.value.code, json.loads(out) if out.strip() else None, err


@pytest.fixture(scope="module")
def views():
    return wrist_views(BOARD, CAMERA_TO_TOOL, BOARD_TO_BASE, np.random.default_rng(5), count=10)


@pytest.fixture
def folder(views, tmp_path):
    entries = []
    for number, (link, picture) in enumerate(zip(*views, strict=True)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        turn = from_matrix(link[:3, :3], "axis_angle").tolist()
        entries.append({"picture": f"{number}.png", "position": link[:3, 3].tolist(), "rotation": turn})
    (tmp_path / "poses.json").write_text(json.dumps({"poses": entries}))
    lens = {"matrix": LENS.matrix.tolist(), "distortion": LENS.distortion.tolist()}
    (tmp_path / "lens.json").write_text(json.dumps(lens))
    return tmp_path


def test_a_folder_of_pictures_gives_the_cameras_place(folder, capsys):
    out = folder / "camera.json"
    code, said, _ = vla(capsys, "robot", "calibrate", folder, "--lens", folder / "lens.json", "--out", out)
    assert code == 0
    np.testing.assert_allclose(said["matrix"], CAMERA_TO_TOOL, atol=1e-3)
    assert said["reprojection_px"] < 0.5 and said["pictures"] == 10
    assert json.loads(out.read_text())["position_m"] == said["position_m"]
    again, _, _ = vla(capsys, "robot", "calibrate", folder, "--lens", out)
    assert again == 0, "a result is a lens too"


def test_a_wrong_board_does_not_fit_and_says_so(folder, capsys):
    # half as large again: the camera's way and the arm's do not agree
    wrong = ("--square", "0.06", "--marker", "0.045", "--lens", folder / "lens.json")
    code, said, err = vla(capsys, "robot", "calibrate", folder, *wrong)
    assert code == 1 and said["reprojection_px"] > 1.5
    assert "wrong board size" in err


def test_what_is_missing_or_damaged_is_named(folder, capsys):
    text = (folder / "poses.json").read_text()
    for change, what in (
        (lambda poses: poses[0].pop("rotation"), "pose 0"),
        (lambda poses: poses[1].update(position=[1, 2]), "pose 1"),
        (lambda poses: poses[2].update(picture="../secret.png"), "pose 2"),
        (lambda poses: poses[3].update(picture="none.png"), r"none\.png"),
        (lambda poses: poses.insert(0, "000.png"), "pose 0"),
    ):
        value = json.loads(text)
        change(value["poses"])
        (folder / "poses.json").write_text(json.dumps(value))
        with pytest.raises(DataError, match=what):
            list(pairs_in_folder(folder))
    (folder / "poses.json").write_text("[]")
    code, _, err = vla(capsys, "robot", "calibrate", folder)
    assert code == 2 and "poses.json" in err
    (folder / "poses.json").write_text(json.dumps({"poses": json.loads(text)["poses"][:4]}))
    code, _, err = vla(capsys, "robot", "calibrate", folder, "--lens", folder / "lens.json")
    assert code == 2 and "6 or more poses, found 4" in err
    (folder / "lens.json").write_text(json.dumps({"matrix": [[1]], "distortion": []}))
    code, _, err = vla(capsys, "robot", "calibrate", folder, "--lens", folder / "lens.json")
    assert code == 2 and "3 x 3" in err


class Recording(list):
    """Episodes in memory."""

    def __init__(self, spec, episodes):
        super().__init__(episodes)
        self.spec = spec


def test_of_a_recording_each_pause_gives_one_picture(views):
    spec = ur("ur5e", cameras=(CameraSpec("wrist", HEIGHT, WIDTH, "turned_180"),))
    rows, frames = [], []
    for link, picture in zip(*views, strict=True):
        here = np.concatenate([link[:3, 3], from_matrix(link[:3, :3], "axis_angle"), np.zeros(6)])
        for step in range(8):  # five steps of pause, three of motion
            rows.append(here + (0.02 * (step - 4) if step > 4 else 0.0))
            frames.append(picture[::-1, ::-1])
    count = len(rows)
    action = np.zeros((count, 6), np.float32)
    episode = Episode(spec, np.array(rows, np.float32), action, {"wrist": frames}, np.arange(count) / 10, "")
    pairs = list(pairs_in_recording(Recording(spec, [episode]), "wrist"))  # pyright: ignore[reportArgumentType]
    assert len(pairs) == 10
    for pair, link, picture in zip(pairs, *views, strict=True):
        np.testing.assert_allclose(pair.pose, link, atol=1e-5)
        assert np.array_equal(pair.picture, picture), "upright again"
    assert len(list(pairs_in_recording(Recording(spec, [episode]), "wrist", most=4))) == 4  # pyright: ignore[reportArgumentType]
    moving = episode.take(np.arange(4, 8))
    with pytest.raises(ConfigError, match="never stands still"):
        list(pairs_in_recording(Recording(spec, [moving]), "wrist"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnknownName):
        list(pairs_in_recording(Recording(spec, [episode]), "front"))  # pyright: ignore[reportArgumentType]


def test_no_driver_claims_hardware_that_its_text_does_not(monkeypatch):
    assert hardware(RobotOptions(robot="ur")) == "this driver was NOT RUN ON HARDWARE"
    assert {hardware(RobotOptions(robot=name)) for name in ("libero", "mujoco_arm")} == {"simulated"}
    for text, said in (("A driver.", "does not say"), ("Not run\non hardware.", "NOT RUN"), (None, "does not say")):
        module = types.ModuleType("own", text)
        monkeypatch.setattr("vla.plugins.plugin", lambda folder, name, module=module: module)
        assert said in hardware(RobotOptions(robot="own"))


def test_a_board_is_written_at_its_true_size(tmp_path, capsys):
    code, said, _ = vla(capsys, "robot", "board", tmp_path / "board.png", "--kind", "apriltag")
    assert code == 0
    with Image.open(tmp_path / "board.png") as picture:
        width = (picture.width - 2 * round(0.01 * 300 / 0.0254)) / picture.info["dpi"][0] * 25.4
        assert width == pytest.approx(said["width_mm"], abs=0.2)
        corners = Board("apriltag").detect(np.asarray(picture.convert("RGB")))
    assert corners is not None and len(corners.points) == 4 * 35


def test_a_ur_is_checked_through_the_command(capsys):
    pytest.importorskip("rtde_control", reason="the extra ur (ur-rtde) is not installed")
    host = "127.0.1.6"
    command = [sys.executable, "-m", "vla.robot_driver.ur_emulator", "--host", host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        try:
            assert emulator.stdout is not None and "emulated" in emulator.stdout.readline()
            given = ("--robot", "ur", "--robot-set", f"host={host}", "watchdog=5.0")
            code, said, _ = vla(capsys, "robot", "check", *given, "--seconds", "0.5", "--move")
        finally:
            emulator.kill()
    checks = {one["name"]: one for one in said["checks"]}
    assert "NOT RUN ON HARDWARE" in checks["hardware"]["found"]
    assert checks["the tool centre point"]["found"].startswith("(0.0, 0.0, 0.0) mm")
    assert checks["limits"]["value"]["low"] == [-0.85, -0.85, 0.0]
    assert code == 0 and checks["motion"]["status"] in ("ok", "warning")
    code, said, err = vla(capsys, "robot", "check", *given)
    assert code == 2 and said is None and f"{host} cannot be reached" in err
