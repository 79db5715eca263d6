"""``vla data view``: every format becomes recordings, and serving ends cleanly."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from fake_recordings import gr1_toml

from vla import cli

pytestmark = pytest.mark.usefixtures("own_cache")


def vla(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return stopped.value.code or 0, captured.out, " ".join(captured.err.split())


def entities(path):
    """Entity paths of each recording, by its name."""
    from rerun.chunk import RrdReader

    reader = RrdReader(path)
    return [{chunk.entity_path for chunk in reader.stream(store=store)} for store in reader.recordings()]


def test_rlds(shared_data, tmp_path, capsys):
    folder = shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"
    out = tmp_path / "some.rrd"
    code, text, _ = vla(capsys, "data", "view", folder, "--episodes", "0", "3:5", "--out", out, "--json")
    assert code == 0 and json.loads(text) == {"episodes": [0, 3, 4], "steps": 24, "file": str(out)}
    found = entities(out)
    assert len(found) == 3
    wanted = {"/camera/image_0", "/state/yaw_z", "/action/gripper", "/plan/hand", "/instruction"}
    assert all(wanted <= one for one in found)


def test_lerobot_v2(shared_data, tmp_path, capsys):
    out = tmp_path / "gr1.rrd"
    folder = shared_data / "lerobot_v20_gr1_pick_place"
    description = tmp_path / "gr1.toml"
    description.write_text(gr1_toml())
    options = ["--tolerate", "all", "--description", description, "--episodes", "4", "--out", out]
    code, _, _ = vla(capsys, "data", "view", folder, *options)
    assert code == 0
    (found,) = entities(out)
    assert any(path.startswith("/camera/") for path in found) and any(path.startswith("/state/") for path in found)


def test_hdf5(shared_data, tmp_path, capsys):
    out = tmp_path / "lift.rrd"
    code, _, _ = vla(
        capsys, "data", "view", shared_data / "robosuite_lift_hdf5", "--raw", "--tolerate", "all", "--out", out
    )
    assert code == 0
    (found,) = entities(out)
    assert {"/action/dx", "/instruction"} <= found


def test_wrong_choices(shared_data, tmp_path, capsys):
    folder = shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"
    for wrong in (["--episodes", "25"], ["--episodes", "7:3"], ["--serve", "--spawn"], ["--episodes", "x"]):
        code, _, err = vla(capsys, "data", "view", folder, *wrong, "--out", tmp_path / "x.rrd")
        assert code == 2 and "ConfigError" in err and not (tmp_path / "x.rrd").exists()


def test_serving_ends_with_ctrl_c(shared_data):
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    folder = shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0"
    command = [sys.executable, "-m", "vla.cli", "data", "view", str(folder), "--serve"]
    command += ["--port", str(ports[0]), "--web-port", str(ports[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ctrl-C" in line:
                    break
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}") as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0 and "ended" in out and "Traceback" not in err
    end = time.monotonic() + 10
    while time.monotonic() < end and any(listens(port) for port in ports):
        time.sleep(0.1)
    assert not any(listens(port) for port in ports)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
