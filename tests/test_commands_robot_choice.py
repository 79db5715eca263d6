from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from vla.commands import robot_choice
from vla.commands.name_value import make_config
from vla.commands.robot_choice import RobotOptions, opened_robot
from vla.embodiment import CameraSpec
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, SpecMismatch
from vla.frames import CameraCalibration, Offset


@dataclass(frozen=True)
class Unlimited:
    """A driver's settings that say nothing of limits."""

    def make(self):
        return SimpleNamespace(close=lambda: None, spec=libero_panda(32))


def test_a_driver_without_limits_is_not_run_unless_somebody_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(robot_choice, "plugin", lambda *_: SimpleNamespace(Config=Unlimited))
    with pytest.raises(ConfigError, match=r"declares no limits.*--unsafe"), opened_robot(RobotOptions("mujoco_arm")):
        pass
    with opened_robot(RobotOptions("mujoco_arm", unsafe=True)) as robot:
        assert robot.safety == "off"


@dataclass(frozen=True)
class Filed:
    """Settings with a file."""

    file: Path | None = None
    name: str = ""


def test_a_file_on_the_command_line_is_a_path():
    assert make_config(Filed, "own", {"file": "a.toml", "name": "b"}, "--robot-set") == Filed(Path("a.toml"), "b")
    assert make_config(Filed, "own", {"file": None}, "--robot-set") == Filed()
    with pytest.raises(ConfigError, match="own: file is of type"):
        make_config(Filed, "own", {"file": 3}, "--robot-set")


def test_a_robot_with_another_tool_than_its_camera_was_calibrated_with_is_let_go(monkeypatch: pytest.MonkeyPatch):
    seen = CameraCalibration("tool", Offset(), (1.0, 1.0), (0.0, 0.0), tool=Offset((0.0, 0.0, 0.1)))
    camera = CameraSpec("wrist", 8, 8, calibration=seen)
    spec = replace(libero_panda(8), cameras=(camera,), tool=Offset((0.0, 0.0, 0.2)))
    closed = []
    body = SimpleNamespace(close=lambda: closed.append(1), spec=spec)
    driven = robot_choice.Robot("own", body, lambda *_: None, paced=True)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(robot_choice, "_driven", lambda *_: (driven, None))
    with pytest.raises(SpecMismatch, match=r"100\.0 mm and 0\.0 degrees"), opened_robot(RobotOptions("mujoco_arm")):
        pass
    assert closed
