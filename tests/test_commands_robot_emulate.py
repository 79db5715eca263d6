"""``vla robot emulate``: Feetech's library finds the servos at the port; ended, the port is gone."""

import json
import os
import signal
import subprocess
import sys

import pytest
from emulated_arms import wait_for

scs = pytest.importorskip("scservo_sdk", reason="the extra so101 is not installed")


def ping(port, library, number):
    """The model of a servo, 0 if it is silent; a busy machine may be late for the library, which waits 50 ms."""
    port.ser.reset_input_buffer()
    try:
        return library.ping(port, number)[0]
    except IndexError:  # it took a late answer for another one's
        return 0


def test_an_arm_that_is_software(tmp_path):
    link, file = tmp_path / "arm", tmp_path / "cal" / "follower.json"
    command = [
        sys.executable,
        "-m",
        "vla.cli",
        "--json",
        "robot",
        "emulate",
        "so101",
        "--link",
        link,
        "--calibration",
        file,
    ]
    process = subprocess.Popen([*map(str, command), "--sway", "0.5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(link.exists, 60.0)
        port, library = scs.PortHandler(str(link)), scs.PacketHandler(0)
        assert port.openPort()
        found = [next((n for _ in range(5) if (n := ping(port, library, number))), 0) for number in range(1, 8)]
        assert found == [777] * 6 + [0]
        places = [library.read2ByteTxRx(port, 1, 56)[0] for _ in range(200)]
        assert max(places) - min(place for place in places if place) > 3  # somebody's hand moves it
        port.closePort()
        table = json.loads(file.read_text())
        assert list(table)[-1] == "gripper" and table["gripper"]["id"] == 6
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["damaged_packets"] == 0
    assert f"so101 at {link}" in err.decode() and not os.path.lexists(link)


def test_a_name_that_is_taken_and_a_share_that_is_none(vla, tmp_path):
    (tmp_path / "arm").touch()
    code, _, err = vla("robot", "emulate", "--link", tmp_path / "arm")
    assert code == 2 and "is there already" in err
    code, _, err = vla("robot", "emulate", "--sway", "2")
    assert code == 2 and "from 0 to 1" in err
