"""The whole way of somebody with an arm: move it, record, replay, train, roll out, correct; with scripted keys."""

import json

import numpy as np
import pytest

from vla.datasets.lerobot_v3 import Config
from vla.recorder import human_steps

KEYS = """
# forward and down, the gripper closes, up, kept
0.0  w 0.8
0.3  f 0.8
1.2  g
1.6  r 0.5
2.2  enter
---
0.0  s 0.5
0.5  backspace
---
0.0  a 0.6
0.4  f 0.6
1.1  g
1.5  r 0.5
2.1  y
"""

CORRECTION = """
1.0  t
1.0  r 1.0
2.0  t
3.0  enter
"""


@pytest.mark.slow
@pytest.mark.parametrize("robot", ["mujoco-arm", "libero"])
def test_teleoperate_record_replay_train_roll_out(vla, tmp_path, own_cache, robot):
    keys, corrections = tmp_path / "keys.txt", tmp_path / "corrections.txt"
    keys.write_text(KEYS)
    corrections.write_text(CORRECTION)
    arm = ["--robot", robot, "--tasks", 0]

    def run(*arguments):
        code, out, err = vla("--json", *arguments)
        assert code == 0, err
        return json.loads(out.splitlines()[-1]), err

    record = [*arm, "--teleop", "scripted", "--keys", keys, "--camera-size", 64]
    view = ["--view", "save", "--view-out", tmp_path / "view"]
    summary, _ = run("record", "--out", tmp_path / "demos", *record, *view)
    assert (summary["kept"], summary["dropped_steps"], summary["safety_events"]) == (2, 0, 0)
    assert (tmp_path / "view" / "000.rrd").stat().st_size > 10_000
    first, second = Config(tmp_path / "demos").make()
    assert (first.success, second.success) == (None, True) and "bowl" in first.instruction
    assert human_steps(first).all() and first.info["seed"] != second.info["seed"]
    assert first.state[-1, 0] - first.state[0, 0] > 0.05 and first.images["agentview"][0].std() > 5
    assert first.state[-1, 6] < first.state[0, 6] - 0.01  # the gripper is closed

    summary, said = run("replay", tmp_path / "demos", "--episode", 0, *arm, "--out", tmp_path / "replay")
    distance = summary["hands"]["hand"]["distance_m"]
    print(json.dumps({"robot": robot, "replay_distance_m": distance}))
    assert summary["changed_actions"] == 0 and summary["steps"] == len(first)
    assert distance["start"] < 0.005 and distance["max"] < (0.05 if robot == "mujoco-arm" else 0.002), said

    train = ["--steps", 3, "--batch-size", 2, "--preset", "nano"]
    summary, _ = run("train", "--data", tmp_path / "demos", "--out", tmp_path / "policy", *train)
    rollout = [*arm, "--inits", 1, "--recordings", 1]
    watched = ["--teleop", "scripted", "--keys", corrections]
    summary, said = run("rollout", tmp_path / "policy", "--out", tmp_path / "rollout", *rollout, *watched)
    assert summary["takeovers"] == 1 and summary["dropped_steps"] == 0, said
    (episode,) = Config(tmp_path / "rollout" / "episodes").make()
    label = human_steps(episode)
    assert 10 <= label.sum() <= 21 and not label.all()
    np.testing.assert_allclose(episode.action[label][:10, 2], 0.0125, atol=1e-6)
    assert (tmp_path / "rollout" / "rrd" / "000.rrd").exists()
    # what was corrected trains the next policy with no converter
    run("train", "--data", tmp_path / "demos", tmp_path / "rollout" / "episodes", "--out", tmp_path / "next", *train)
