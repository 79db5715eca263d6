"""``vla rollout`` of a policy behind a server: an address as people type it, an arm that needs no simulator."""

import json
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from served import SPEC as SLIDER
from served import KnownTogether, observation, served

from vla.commands import robot_choice
from vla.datasets.lerobot_v3 import Config, Writer
from vla.embodiments.libero_panda import libero_panda
from vla.recorder import human_steps
from vla.robot_driver.mujoco_arm_process import spawn
from vla.robot_driver.point_world import SPEC as POINT
from vla.robot_driver.point_world import Factory
from vla.safety import SafetyLimits

SPEC = libero_panda(32)


class Steady:
    """An arm that stays where it is, and its task."""

    spec, instruction, max_steps = SPEC, "reach", 3

    def __init__(self):
        self.commands: list[np.ndarray] = []

    def observe(self, *, images: bool = True):
        return observation(spec=SPEC, instruction=self.instruction, time=len(self.commands) / SPEC.action.rate)

    def command(self, action):
        self.commands.append(action)
        return action

    def stop(self):
        """It stands still."""

    def close(self):
        """Nothing to give back."""

    def task(self, scene):
        return self

    def reset(self):
        """Its scene is always set."""

    def succeeded(self):
        return False

    def telemetry(self):
        return {}


@pytest.mark.parametrize("chunking", ["synchronous", "asynchronous"])
def test_a_server_s_policy_moves_the_arm(vla, tmp_path, monkeypatch, chunking):
    arm, scenes = Steady(), []

    def connected(stack: Any, options: Any, first: Any, out: Any, camera_size: int):
        scenes.append(camera_size)
        return robot_choice.Robot("mujoco-arm", arm, lambda *_: arm, paced=True), SafetyLimits()

    monkeypatch.setattr(robot_choice, "_simulated", connected)
    options = ["--tasks", 0, "--inits", 1, "--execute", 2, "--recordings", 0, "--unsafe", "--chunking", chunking]
    with served(KnownTogether(spec=SPEC), max_clients=1) as server:
        for name in ("one", "two"):  # the server's only place is free again after the first
            code, out, err = vla("--json", "rollout", server.address, "--out", tmp_path / name, *options)
            assert code == 0, err
            total = json.loads(out.splitlines()[-1])["total"]
            assert (total["n"], total["errors"]) == (1, 0), err
    assert scenes == [32, 32] and len(arm.commands) == 6
    assert np.ptp(arm.commands, axis=0).max() > 0


def test_what_was_running_at_ctrl_c_is_kept_however_long_it_takes_to_write(vla, tmp_path, monkeypatch, own_cache):
    class Interrupted(Steady):
        def command(self, action):
            if len(self.commands) == 2:
                raise KeyboardInterrupt
            return super().command(action)

    arm, add = Interrupted(), Writer.add

    def slow(self, episode):
        time.sleep(0.3)
        add(self, episode)

    def connected(*_: Any):
        return robot_choice.Robot("mujoco-arm", arm, lambda *_: arm, paced=True), SafetyLimits()

    monkeypatch.setattr(robot_choice, "_simulated", connected)
    monkeypatch.setattr(Writer, "add", slow)
    options = ["--tasks", 0, "--inits", 1, "--recordings", 0, "--unsafe"]
    vla("rollout", "hold", "--out", tmp_path / "run", *options)
    episodes = Config(tmp_path / "run" / "episodes").make()
    assert len(episodes) == 1 and len(episodes[0]) == 2 and episodes[0].success is None


def test_what_a_killed_run_recorded_is_completed_on_request(vla, tmp_path, own_cache):
    run, keys = tmp_path / "run", ["--instruction", "go right", "--inits", 500, "--seconds", 0.3, "--recordings", 0]
    with spawn(Factory()) as handle:
        arm = ["--robot", "mujoco_arm", "--robot-set", f"port={handle.address[1]}"]
        words = [*map(str, ["rollout", "hold", "--out", run, *arm, *keys])]
        command = [sys.executable, "-m", "vla.cli", *words]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as session:
            assert session.stdout is not None
            assert any(line.startswith("2/500") for line in session.stdout)
            code, _, err = vla("rollout", "hold", "--out", run, "--complete")
            assert code == 2 and "being written by another process" in err
            session.send_signal(signal.SIGKILL)
    assert not (run / "episodes").exists()
    code, _, err = vla(*words)
    assert code == 2 and "--complete" in err
    code, out, err = vla("--json", "rollout", "hold", "--out", run, "--complete")
    assert code == 0, err
    episodes = Config(run / "episodes").make()
    assert len(episodes) == json.loads(out)["episodes"] >= 2 and episodes.spec == POINT
    assert [path.name for path in run.iterdir()] == ["episodes"]
    code, _, err = vla("rollout", "hold", "--out", run, "--complete")
    assert code == 2 and "no run was killed here" in err


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        (SLIDER, [], "SpecMismatch"),
        (SPEC, ["--chunking", "realtime"], "can continue a chunk"),
        (SPEC, ["--execute", 0], "at least one action"),
        (SPEC, ["--ode-steps", 3], "no option ode_steps"),
    ],
    ids=["another arm", "realtime", "execute", "an option of the model"],
)
def test_what_does_not_fit_leaves_nothing_behind(vla, tmp_path, spec, options, said):
    with served(KnownTogether(spec=spec)) as server:
        code, _, err = vla("rollout", server.address, "--out", tmp_path / "out", "--tasks", 0, *options)
    assert code == 2 and said in err
    assert not (tmp_path / "out").exists()


def test_a_person_corrects_a_policy_on_an_arm_in_a_process_of_its_own(vla, tmp_path, own_cache):
    script = tmp_path / "keys.txt"
    script.write_text(
        "0.2 t\n0.3 w 0.3\n0.7 t\n---\n0.1 backspace\n---\n---\n0.1 x\n---\n0.1 enter\n---\n0.1 y\n---\n0.2 q"
    )
    with spawn(Factory()) as handle:
        options = ["--robot", "mujoco_arm", "--robot-set", f"port={handle.address[1]}", "--instruction", "go right"]
        options += ["--inits", 8, "--seconds", 1.2, "--recordings", 0, "--execute", 1]
        keys = ["--teleop", "scripted", "--keys", script]
        code, out, err = vla("--json", "rollout", "hold", "--out", tmp_path / "run", *options, *keys)
    assert code == 0, err
    summary = json.loads(out)
    assert summary["takeovers"] == 1 and summary["dropped_steps"] == 0
    # help enters no rate, nor what was thrown away, kept unjudged or open when the person quit; the last is not begun
    total = summary["total"]
    assert (total["n"], total["successes"], total["errors"], summary["ended"]) == (3, 1, 4, "quit")
    assert "with help: a person moved the arm in" in err and "did not say whether it succeeded" in err
    episodes = Config(tmp_path / "run" / "episodes").make()
    assert [episodes[place].success for place in range(1, len(episodes))] == [False, False, None, True]
    corrected, plain = episodes[0], episodes[1]
    label = human_steps(corrected)
    assert label.any() and not label.all() and not human_steps(plain).any()
    np.testing.assert_allclose(corrected.action[label][:4, 0], 0.0125, atol=1e-6)
    assert not corrected.action[~label][:, :3].any()
    assert corrected.info["safety"] == "on" and corrected.instruction == "go right"
