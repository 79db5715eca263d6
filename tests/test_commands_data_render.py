"""Rendering from end to end: real files, an interrupted run, and what cannot be drawn."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rich.console import Console

from vla.commands.data_render import Render
from vla.commands.source import SourceOptions
from vla.embodiments.libero_panda import STATE
from vla.errors import ConfigError, DataError
from vla.plugins import open_source
from vla.quirks import QuirksFound
from vla.sim.state_replay import StateReplay

SIZE = 48


@pytest.fixture
def lift(shared_data, tmp_path, monkeypatch) -> Path:
    """The real file's three demonstrations, each cut to its first 12 steps."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
    path = tmp_path / "lift.hdf5"
    with h5py.File(shared_data / "robosuite_lift_hdf5" / "demo.hdf5") as source, h5py.File(path, "w") as target:
        data: Any = target.create_group("data")
        data.attrs.update(source["data"].attrs)
        groups: Any = source["data"]
        for name, demo in groups.items():
            data.create_group(name).attrs.update(demo.attrs)
            for field in ("states", "actions"):
                data[f"{name}/{field}"] = demo[field][:12]
    return path


def render(path: Path, out: Path, **options: Any) -> dict[str, Any]:
    tolerate = options.pop("tolerate", ("actions-out-of-range",))
    split = options.pop("split", "train")
    source = SourceOptions(str(path), split=split, tolerate=tolerate, instruction="lift the cube")
    command = Render(source, out, camera_size=SIZE, **options)
    return command.run(Console(quiet=True))


def test_states_become_a_lerobot_set_with_pictures_and_state(lift, tmp_path):
    out = tmp_path / "out"
    summary = render(lift, out, workers=1)
    assert summary["episodes"] == 3 and summary["steps"] == 36 and summary["resumed"] == 0
    made, source = open_source(out), open_source(lift, tolerate=("all",))
    assert made.spec.state == STATE and made.spec.action == source.spec.action
    assert made.spec.camera_names == ("agentview", "robot0_eye_in_hand")
    with h5py.File(lift) as file:
        demo: Any = file["data/demo_2"]
        replay, states = StateReplay(demo.attrs["model_file"], "test"), demo["states"][()]
    episode = made[1]
    np.testing.assert_array_equal(episode.action, source[1].action)
    np.testing.assert_allclose(episode.time, source[1].time, atol=1e-6)
    assert episode.instruction == "lift the cube"
    assert episode.source == "lift.hdf5[demo_2]" and episode.info["rendered"] == "decimated"
    for step in (0, 7):
        replay.set_state(states[step], lag=step > 0)
        np.testing.assert_array_equal(episode.state[step], replay.state())
        for name in made.spec.camera_names:
            np.testing.assert_array_equal(episode.images[name][step], replay.picture(name, SIZE))
    replay.close()


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was_and_ends_alike(lift, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    code = f"""
from pathlib import Path
from rich.console import Console
import vla.commands.data_render as data_render
from vla.commands.source import SourceOptions
data_render._FILE_BYTES = 1
Path({str(tmp_path)!r}, "started").touch()
options = SourceOptions({str(lift)!r}, tolerate=("all",), instruction="lift the cube")
if __name__ == "__main__":
    command = data_render.Render(options, Path({str(out)!r}), (), {SIZE}, workers=1)
    command.run(Console(quiet=True))
"""
    script = tmp_path / "run.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    journal, deadline = tmp_path / ".out.partial" / "journal", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= 2:  # its head, and one episode
            break
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if out.exists():
        pytest.skip("it was done before it could be killed")
    summary = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True)
    assert not summary.returncode and not (tmp_path / ".out.partial").exists()
    render(lift, whole, workers=1)
    resumed, straight = open_source(out), open_source(whole)
    assert len(resumed) == len(straight) == 3
    for one, other in zip((resumed[i] for i in range(3)), (straight[i] for i in range(3)), strict=True):
        np.testing.assert_array_equal(one.state, other.state)
        np.testing.assert_array_equal(one.images["agentview"][11], other.images["agentview"][11])


def test_what_cannot_be_drawn_is_named_and_left_out_only_when_asked(lift, tmp_path):
    with h5py.File(lift, "r+") as file:
        attributes: Any = file["data/demo_3"].attrs
        attributes["model_file"] = str(attributes["model_file"]).replace("meshes/link0.stl", "meshes/gone.stl")
    with pytest.raises(QuirksFound, match=r"missing-asset.*demo_3.*found \S*/meshes/gone\.stl; reading"):
        render(lift, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    tolerate = ("actions-out-of-range", "missing-asset")
    assert render(lift, tmp_path / "out", tolerate=tolerate, episodes=("2", "0"))["episodes"] == 1
    assert open_source(tmp_path / "out")[0].source == "lift.hdf5[demo_1]"
    with pytest.raises(DataError, match="none can be drawn"):
        render(lift, tmp_path / "none", tolerate=tolerate, episodes=("2",))


def test_wrong_arguments_are_refused_before_anything_is_made(lift, tmp_path):
    with pytest.raises(ConfigError, match="episode 3 is not there"):
        render(lift, tmp_path / "out", episodes=("3",))
    with pytest.raises(ConfigError, match="episode 1 is not there: there are 1"):
        render(lift, tmp_path / "out", episodes=("1",), split="train[:1]")
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        render(lift, tmp_path / "there")
    with pytest.raises(DataError, match="HDF5"):
        render(tmp_path / "there", tmp_path / "out2")
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.glob(".out*"))
