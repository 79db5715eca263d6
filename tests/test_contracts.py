"""What every plug-in promises: a frozen, documented ``Config`` with ``make``, found by its file's name."""

import dataclasses
import inspect
import re
from typing import Any

import pytest

from vla.embodiment import EmbodimentSpec
from vla.errors import UnknownName
from vla.plugins import plugin, plugin_names, plugins
from vla.rows import Simulator

FOLDERS = ("datasets", "sim", "policies", "robot_driver", "robot_driver/teleop")
ALL = [(folder, name) for folder in FOLDERS for name in plugin_names(folder)]


def test_the_plugins_that_must_be_there():
    assert {"rlds", "lerobot_v3"} <= set(plugin_names("datasets"))
    assert "libero" in plugin_names("sim")
    assert {"vla_policy", "hold", "replay"} <= set(plugin_names("policies"))
    assert "mujoco_arm" in plugin_names("robot_driver")
    assert {"keyboard", "scripted", "gamepad", "spacemouse"} <= set(plugin_names("robot_driver/teleop"))


@pytest.mark.parametrize(("folder", "name"), ALL, ids=lambda value: value)
def test_a_plugin_is_a_frozen_documented_config_that_makes(folder, name):
    config: Any = plugin(folder, name).Config
    parameters = getattr(config, "__dataclass_params__", None)
    assert parameters is not None and parameters.frozen
    assert callable(config.make) and inspect.getdoc(config.make)
    text = inspect.getdoc(config) or ""
    for field in dataclasses.fields(config):
        assert re.search(rf"^\s*{field.name}: ", text, re.MULTILINE), f"{folder}/{name}: {field.name} is not documented"


@pytest.mark.parametrize("name", ["libero", "robosuite_env", "gym_env"])
def test_a_simulator_is_a_benchmark_that_says_what_its_bodies_are(name):
    if name == "gym_env":
        pytest.importorskip("metaworld", reason="the extra metaworld is not installed")
    benchmark: Any = plugin("sim", name).Config().make()
    assert isinstance(benchmark.spec, EmbodimentSpec)
    assert isinstance(benchmark, Simulator)
    with pytest.raises(UnknownName):
        benchmark.tasks("no_such_suite")
    benchmark.close()


def test_every_data_set_says_what_it_accepts():
    for name, module in plugins("datasets").items():
        assert callable(module.accepts), name


def test_an_unknown_plugin_is_answered_with_the_closest():
    with pytest.raises(UnknownName, match="closest: mujoco_arm"):
        plugin("robot_driver", "mujoco-arm")
