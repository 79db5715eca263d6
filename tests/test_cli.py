"""The command as users and programs meet it: help, JSON, exit codes, and one clear error for each wrong input."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vla.commands import choices
from vla.errors import ConfigError, UnknownName


@pytest.fixture
def bridge(shared_data, tmp_path, monkeypatch):
    """A copy of the Bridge sample that may be damaged."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "bridge_dataset" / "1.0.0"
    shutil.copytree(shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0", folder)
    return folder


@pytest.mark.parametrize("command", ["data", "demos", "train", "eval", "rollout", "quickstart"])
def test_every_command_has_help_and_needs_no_torch_for_it(command):
    code = f"import sys, vla.cli\ntry: vla.cli.main(['{command}', '--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--json" in done.stdout and done.stdout.rstrip().endswith("False")


def test_a_wrong_option_is_answered_with_the_right_one(vla):
    code, _, err = vla("train", "--data", "x", "--out", "y", "--stps", "3")
    assert code == 2 and "--steps" in err


def test_info_and_stats_of_real_data(vla, bridge):
    code, out, _ = vla("data", "info", bridge, "--raw", "--json")
    facts = json.loads(out)
    assert code == 0 and (facts["episodes"], facts["steps"]) == (25, 250)
    assert len(facts["instructions"]) == 4 and len(facts["cameras"]) == 4
    target = bridge.parent / "stats.json"
    code, out, _ = vla("data", "stats", bridge, "--out", target, "--json")
    assert code == 0 and json.loads(out) == json.loads(target.read_text())
    assert json.loads(out)["gripper"]["count"] == 200  # without the no-op first and the relabelled last steps


def test_a_folder_that_is_no_data_set(vla, tmp_path):
    code, _, err = vla("data", "info", tmp_path)
    assert code == 2 and "DataError" in err and "RLDS" in err and "LeRobot" in err


def test_a_truncated_record_is_named(vla, bridge):
    shard = next(bridge.glob("*train.tfrecord*"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    code, _, err = vla("data", "stats", bridge)
    assert code == 2 and shard.name in err and "expected" in err and "found" in err


def test_features_that_do_not_match_the_records(vla, bridge):
    path = bridge / "features.json"
    path.write_text(path.read_text().replace('"state"', '"proprio"'))
    code, _, err = vla("data", "stats", bridge)
    assert code == 2 and "DataError" in err and ("state" in err or "proprio" in err)


def test_a_full_disk_leaves_nothing(vla, bridge, monkeypatch, tmp_path):
    def full(self, text, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    out = tmp_path / "out"
    code, _, err = vla("data", "stats", bridge, "--out", out / "stats.json")
    assert code == 2 and "No space left" in err
    assert list(out.iterdir()) == []


def test_an_episode_that_is_not_there(vla, bridge):
    code, _, err = vla("data", "view", bridge, "--episodes", "25")
    assert code == 2 and "there are 25, counted from 0" in err


def test_an_unknown_task_is_answered_with_the_closest(vla, tmp_path):
    name = "pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plat"
    code, _, err = vla("demos", "--out", tmp_path / "x", "--tasks", name)
    assert code == 2 and "UnknownName" in err and name + "e" in err.replace(" ", "")
    code, _, err = vla("demos", "--out", tmp_path / "x", "--suite", "libero_spatia")
    assert code == 2 and "libero_spatial" in err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_preset_and_a_missing_budget(vla, bridge, tmp_path):
    code, _, err = vla("train", "--data", bridge, "--out", tmp_path / "run", "--preset", "nanno", "--steps", "1")
    assert code == 2 and "closest: nano" in err
    code, _, err = vla("train", "--data", bridge, "--out", tmp_path / "run")
    assert code == 2 and "either steps or minutes" in err
    assert not (tmp_path / "run").exists()


NO_GL = """
import ctypes, ctypes.util
find, init = ctypes.util.find_library, ctypes.CDLL.__init__
def gl(name): return any(part in str(name) for part in ("EGL", "OSMesa", "OpenGL", "libGL"))
ctypes.util.find_library = lambda name: None if gl(name) else find(name)
def __init__(self, name, *args, **kwargs):
    if gl(name):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")
    init(self, name, *args, **kwargs)
ctypes.CDLL.__init__ = __init__
"""


@pytest.fixture(scope="module")
def foreign_checkpoint(tmp_path_factory):
    """An untrained policy of an arm that is not LIBERO's."""
    from vla.model.checkpoint import save
    from vla.model.config import ExpertConfig, NanoConfig, VlaConfig, fit_to
    from vla.model.encode import Encoder
    from vla.model.text import Text, word_tokenizer
    from vla.model.vla_model import build
    from vla.training.fake import FakeWindows

    data = FakeWindows(count=8)
    nano = NanoConfig(image_size=32, width=32, layers=1, heads=2, mlp=32, channels=8, keypoints=4, vocabulary=32)
    config = fit_to(VlaConfig(nano, ExpertConfig(width=16, mlp=16), horizon=8), data.specs)
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    text = Text(word_tokenizer(["reach red"], 32), 40)
    save(folder, build(config), Encoder(config, data.specs, data.statistics(), text, 32))
    return folder


def test_a_policy_for_another_embodiment_lists_what_differs(vla, foreign_checkpoint, tmp_path):
    code, _, err = vla("eval", foreign_checkpoint, "--out", tmp_path / "eval", "--tasks", "0")
    assert code == 2 and "SpecMismatch" in err and "camera" in err and "channel" in err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_statistics_key_is_named(vla, foreign_checkpoint, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(foreign_checkpoint, broken)
    path = broken / "statistics.json"
    numbers = json.loads(path.read_text())
    body, channel = next((body, next(iter(value))) for body, value in numbers.items())
    del numbers[body][channel]["std"]
    path.write_text(json.dumps(numbers))
    code, _, err = vla("rollout", broken, "--out", tmp_path / "rollout", "--tasks", "0")
    assert code == 2 and "StatisticsMissing" in err and channel in err and "std" in err
    assert not (tmp_path / "rollout").exists()


def test_no_gl_library_names_the_remedy(tmp_path):
    """On a machine without EGL and OSMesa, played by a loader that does not find them, in every process."""
    (tmp_path / "sitecustomize.py").write_text(NO_GL)
    environment = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run(
        [sys.executable, "-m", "vla.cli", "demos", "--out", tmp_path / "x", "--tasks", "0", "--per-task", "1"],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
    )
    assert done.returncode == 2, done.stderr
    assert "DependencyMissing" in done.stderr and "apt-get install" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if "pycache" not in path.name) == ["sitecustomize.py"]


def test_rows_are_fixed_by_their_arguments():
    tasks = ["a", "b"]
    rows = choices.make_rows("s", tasks, inits=3, sampled=0, widen=1.0, seed=5)
    assert [(row.task, row.init, row.seed) for row in rows[:4]] == [("a", 0, 5), ("a", 1, 6), ("a", 2, 7), ("b", 0, 5)]
    wide = choices.make_rows("s", tasks, inits=3, sampled=2, widen=3.0, seed=0)
    assert {row.init for row in wide} == {-1} and {row.widen for row in wide} == {3.0} and len(wide) == 4
    with pytest.raises(ConfigError, match="at least one"):
        choices.make_rows("s", tasks, inits=0, sampled=0, widen=1.0, seed=0)
    with pytest.raises(ConfigError, match="seeds"):
        choices.make_rows("s", tasks, inits=1, sampled=0, widen=1.0, seed=10**6)


def test_tasks_by_number_and_name():
    names = choices.task_names("libero_spatial", ())
    assert len(names) == 10
    assert choices.task_names("libero_spatial", ("3", names[3], names[1])) == [names[3], names[1]]
    with pytest.raises(ConfigError, match="no task 10: its tasks are 0 to 9"):
        choices.task_names("libero_spatial", ("10",))
    with pytest.raises(UnknownName, match="place_it_on_the_plate"):
        choices.task_names("libero_spatial", (names[3] + "s",))
