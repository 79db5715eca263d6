from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from vla.commands import robot_choice
from vla.commands.robot_choice import RobotOptions, opened_robot
from vla.errors import ConfigError


@dataclass(frozen=True)
class Unlimited:
    """A driver's settings that say nothing of limits."""

    def make(self):
        return SimpleNamespace(close=lambda: None)


def test_a_driver_without_limits_is_not_run_unless_somebody_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(robot_choice, "plugin", lambda *_: SimpleNamespace(Config=Unlimited))
    with pytest.raises(ConfigError, match=r"declares no limits.*--unsafe"), opened_robot(RobotOptions("mujoco_arm")):
        pass
    with opened_robot(RobotOptions("mujoco_arm", unsafe=True)) as robot:
        assert robot.safety == "off"
