"""``vla record``, ``replay``, ``teleop`` on an arm in a process of its own: what is kept, what a crash may cost."""

import dataclasses
import errno
import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from vla.datasets.lerobot_v3 import Config, Writer
from vla.datasets.partial_folder import PartialFolder
from vla.experience import Episode
from vla.recorder import human_steps
from vla.robot_driver.mujoco_arm_process import spawn
from vla.robot_driver.point_world import SPEC, Factory

SCRIPT = """
0.1 w 0.3
0.4 enter
---
0.1 w 0.2
0.2 backspace
---
0.0 n
0.1 s 0.3
0.2 g
0.4 y
---
0.0 w 0.2
0.2 x
"""


@pytest.fixture(scope="module")
def port():
    with spawn(Factory()) as handle:
        yield handle.address[1]


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(SCRIPT)
    return path


def arm(port):
    return ["--robot", "mujoco_arm", "--robot-set", f"port={port}"]


def by_hand(port, script):
    return [*arm(port), "--teleop", "scripted", "--keys", script]


def record(vla, port, script, out, *more):
    words = ["--instruction", "go right", "go left"]
    return vla("--json", "record", "--out", out, *by_hand(port, script), *words, *more)


def test_what_is_kept_is_what_was_done(vla, tmp_path, port, script, own_cache):
    code, out, err = record(vla, port, script, tmp_path / "set")
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["episodes"], summary["kept"], summary["discarded"]) == (3, 3, 2)  # the last one was quit
    assert summary["dropped_steps"] == 0 and summary["ended"] == "quit"
    source = Config(tmp_path / "set").make()
    first, second = source[0], source[1]
    assert source.spec == SPEC and [episode.success for episode in source] == [None, True, False]
    assert (first.instruction, second.instruction) == ("go right", "go left")
    assert first.info["safety"] == "on" and first.info["device"] == "scripted" and human_steps(first).all()
    np.testing.assert_allclose(first.action[:6, 0], 0.0125, atol=1e-6)
    assert len(first) == 6 and second.action[-1, 3] == 0.0
    assert first.state[-1, 0] > first.state[0, 0] and (np.diff(first.time) > 0).all()
    assert first.images["front"][3].shape == (16, 16, 3)

    code, out, err = vla("--json", "replay", tmp_path / "set", "--episode", 0, *arm(port), "--out", tmp_path / "again")
    assert code == 0, err
    summary = json.loads(out)
    assert summary["steps"] == summary["recorded_steps"] == 6 and summary["changed_actions"] == 0
    x = summary["channels"]["x"]
    moved = first.state[-1, 0] - first.state[0, 0]
    assert abs(x["end"] - x["start"]) < moved  # it went the same way, from wherever it stood
    replayed = Config(tmp_path / "again" / "episodes").make()[0]
    np.testing.assert_array_equal(replayed.action, first.action)
    assert json.loads((tmp_path / "again" / "comparison.json").read_text())["channels"]["x"] == x


def test_a_recording_in_other_numbers_is_compared_in_its_own(vla, tmp_path, port, own_cache):
    def scaled(channels, scale):
        return tuple(dataclasses.replace(c, scale=scale) if c.unit == "m" else c for c in channels)

    action = dataclasses.replace(SPEC.action, channels=scaled(SPEC.action.channels, 0.05))
    spec = dataclasses.replace(SPEC, state=scaled(SPEC.state, 0.001), action=action, cameras=())
    moves = np.tile(np.array([0.25, 0, 0, 1], np.float32), (5, 1))  # 12.5 mm each
    states = np.zeros((5, 4), np.float32)
    states[:, 0] = 12.5 * np.arange(5)  # mm
    with Writer(tmp_path / "set", spec) as writer:
        writer.add(Episode(spec, states, moves, {}, np.arange(5) / 20, "go right"))
    code, out, err = vla("--json", "replay", tmp_path / "set", *arm(port))
    assert code == 0, err
    summary = json.loads(out)
    assert summary["changed_actions"] == 0 and summary["steps"] == 5
    x = summary["channels"]["x"]
    assert x["unit"] == "m" and x["max"] < 5  # wherever it stood; in metres, not in millimetres


def test_a_full_disk_costs_the_open_episode(vla, tmp_path, port, script, monkeypatch, own_cache):
    commit, done = PartialFolder.commit, []

    def full(self, files, rows):
        if done:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(1)
        commit(self, files, rows)

    with monkeypatch.context() as patch:
        patch.setattr(PartialFolder, "commit", full)
        code, _, err = record(vla, port, script, tmp_path / "set")
    assert code == 2 and "No space left" in err and "kept as episode 0" in err and "the same command goes on" in err
    assert not (tmp_path / "set").exists()
    code, out, err = record(vla, port, script, tmp_path / "set", "--episodes", 2)
    assert code == 0 and "going on after 1 episode" in err
    assert json.loads(out)["episodes"] == 2
    assert [len(episode) for episode in Config(tmp_path / "set").make()] == [6, 6]


def test_a_killed_session_loses_the_open_episode_at_most(vla, tmp_path, port, script, own_cache):
    words = ["record", "--out", tmp_path / "set", *by_hand(port, script), "--instruction", "go right"]
    command = [sys.executable, "-m", "vla.cli", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        for line in session.stdout:
            if "kept as episode 0" in line:
                break
        assert session.stdout.readline().startswith("ready")
        session.send_signal(signal.SIGKILL)
    assert not (tmp_path / "set").exists()
    code, out, err = record(vla, port, script, tmp_path / "set", "--episodes", 1)
    assert code == 0 and json.loads(out) | {"episodes": 1, "kept": 0} == json.loads(out), err
    (episode,) = Config(tmp_path / "set").make()
    assert len(episode) == 6


def test_an_emergency_stop_ends_the_session_and_keeps_what_was_kept(vla, tmp_path, port, own_cache):
    script = tmp_path / "stop.txt"
    script.write_text("0 w 0.2\n0.2 enter\n---\n0 w 0.5\n0.2 esc")
    code, out, err = record(vla, port, script, tmp_path / "set")
    assert code == 0 and "emergency stop" in err
    assert json.loads(out) | {"episodes": 1, "kept": 1, "discarded": 1, "ended": "estop"} == json.loads(out)
    code, out, err = vla("--json", "teleop", *by_hand(port, script))
    assert code == 0 and json.loads(out) | {"episodes": 2, "ended": "estop"} == json.loads(out), err


def test_nothing_kept_is_nothing_written(vla, tmp_path, port):
    script = tmp_path / "none.txt"
    script.write_text("0 w 0.1\n0.1 backspace")
    code, out, _ = record(vla, port, script, tmp_path / "set")
    assert code == 0 and json.loads(out)["recording"] is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["none.txt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--robot", "mujoco_am"], "unknown robot"),
        (["--robot", "mujoco_arm", "--robot-set", "prt=1", "--instruction", "x"], "closest: port"),
        (["--robot", "mujoco_arm"], "--instruction"),
        (["--robot", "mujoco_arm", "--robot-set", "port=1", "--instruction", "x"], "cannot be reached"),
        (["--robot", "libero", "--robot-set", "port=1"], "for drivers by name"),
        (["--teleop", "joystick"], "unknown plug-in of robot_driver/teleop"),
        (["--keys", "x"], "--keys is for"),
        (["--linear", "0"], "must be above 0"),
        (["--seconds", "0"], "seconds above 0"),
        (["--tasks", "99"], "has no task 99: its tasks are 0 to 9"),
    ],
)
def test_what_does_not_fit_leaves_nothing_behind(vla, tmp_path, options, said):
    code, _, err = vla("record", "--out", tmp_path / "set", *options)
    assert code == 2 and said in err, err
    assert not list(tmp_path.iterdir())
