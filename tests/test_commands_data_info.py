"""``vla data info`` and its kin print what a data set says as it is, whatever brackets it has."""

import dataclasses

import numpy as np
import pytest

from vla.cli import main
from vla.datasets.lerobot_writer import Writer
from vla.embodiments.libero_panda import libero_panda
from vla.experience import Episode


@pytest.fixture
def bracketed(tmp_path, monkeypatch):
    """A data set whose path and instruction look like rich's markup."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = dataclasses.replace(libero_panda(16), cameras=())
    rng = np.random.default_rng(0)
    state, action = (rng.uniform(0, 0.01, (5, n)).astype(np.float32) for n in (8, 7))
    path = tmp_path / "set [bold]"
    with Writer(path, spec) as writer:
        writer.add(Episode(spec, state, action, {}, np.arange(5) / 20, "take [the] cup [/x]"))
    return path


@pytest.mark.parametrize("command", ["info", "stats", "check"])
def test_brackets_are_printed_as_they_are(bracketed, capsys, command):
    with pytest.raises(SystemExit) as left:
        main(["data", command, str(bracketed)])
    said = capsys.readouterr()
    assert left.value.code in (0, 1) and "[bold]" in said.out, said.err
    assert command != "info" or "take [the] cup [/x]" in said.out


@pytest.mark.parametrize(("storage", "loss"), [("image", ""), ("jpeg", "not JPEG before"), ("video", "encoded anew")])
def test_convert_says_what_pictures_lost(bracketed, tmp_path, capsys, storage, loss):
    with pytest.raises(SystemExit) as left:
        main(["data", "convert", str(bracketed), "--out", str(tmp_path / "[/x]"), "--storage", storage])
    said = capsys.readouterr()
    assert left.value.code == 0 and loss in said.out and ("loss" in said.out) == bool(loss), said.err


def test_check_names_the_file_of_a_quirk(shared_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main(["data", "check", str(shared_data / "robosuite_lift_hdf5")])
    assert "demo.hdf5: data/demo_1/actions: 41 of 482 steps" in capsys.readouterr().out
