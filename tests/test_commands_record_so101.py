"""``vla teleop``, ``record`` and ``replay`` with an SO-101 pair at two emulated buses."""

import json

import numpy as np
import pytest
from emulated_arms import patient_buses

from vla.embodiments.so101 import so101
from vla.plugins import open_source
from vla.robot_driver.feetech_emulator import spawn

pytest.importorskip("scservo_sdk", reason="the extra so101 is not installed")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A leader that a hand moves to and fro, and a follower, both calibrated; the options that name them."""
    folder = tmp_path_factory.mktemp("calibration")
    with (
        patient_buses(),
        spawn(sway=0.3, calibration=folder / "leader.json") as leader,
        spawn(calibration=folder / "follower.json") as follower,
    ):
        robot = ["--robot", "lerobot_robot", "--robot-set", f"port={follower.port}", "name=follower"]
        silent = folder / "keys.txt"
        silent.write_text("# nothing is pressed\n")
        hand = ["--teleop", "lerobot_leader", "--teleop-set", f"port={leader.port}", "name=leader"]
        hand += ["buttons=scripted", f"keys={silent}"]
        where = f"calibration={folder}"
        yield follower, [*robot, where], [*hand, where, "--joint", "2"]


def test_record_by_a_leader_and_replay(vla, tmp_path, pair, own_cache):
    follower, robot, hand = pair
    words = ["--instruction", "wave", "--episodes", "1", "--seconds", "2"]
    code, out, err = vla("--json", "record", "--out", tmp_path / "set", *robot, *hand, *words)
    assert code == 0, err
    assert json.loads(out)["episodes"] == 1
    episode = open_source(tmp_path / "set")[0]
    assert episode.spec == so101() and episode.instruction == "wave"
    assert 30 <= len(episode) <= 60  # until the leader has spoken for the first time nothing is sent
    assert (np.ptp(episode.state, axis=0) > 0.1).all()
    assert not any(follower.powered().values())

    code, out, err = vla("--json", "replay", tmp_path / "set", *robot, "--out", tmp_path / "again")
    assert code == 0, err
    found = json.loads(out)
    assert found["steps"] == len(episode) and found["status"] == "failure"  # it ended; nobody said that it succeeded
    assert set(found["channels"]) == set(so101().state_names)
    # where it began is where the first replay begins only roughly: limits bring it there
    assert all(channel["end"] < 0.15 for channel in found["channels"].values())


def test_a_leader_that_is_not_there_is_one_error(vla, tmp_path, pair):
    _, robot, _ = pair
    hand = ["--teleop", "lerobot_leader", "--teleop-set", f"port={tmp_path}/tty", "buttons=none"]
    code, _, err = vla("teleop", *robot, *hand)
    assert code == 2 and "nobody could press an emergency stop: lerobot_leader" in err
    code, _, err = vla("teleop", *robot, *hand, "--unsafe")
    assert code == 2 and f"there is no port {tmp_path}/tty" in err
