"""Shared fixtures: where real data lie, a cache of one's own, the command, and quiet numeric libraries."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # modules that tests and their worker processes share

settings.register_profile("any machine", deadline=None)  # how long an example takes depends on who else runs
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; Ctrl-C is tested
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data: ``$VLA_SHARED_DATA``, else ``../shared/data`` beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VLA_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set VLA_SHARED_DATA)")
    return folder


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> None:
    """Indexes and statistics of this test are in no other's way, nor in the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def vla(capsys):
    """Runs the command in this process: exit code, standard output, standard error."""
    from vla import cli

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, " ".join(captured.err.split())

    return run


@pytest.fixture
def point(tmp_path) -> Path:
    """A description of the tiny Gymnasium environment (``gym_point.py``), to be changed."""
    path = tmp_path / "point.toml"
    path.write_text((Path(__file__).parent / "data" / "point.toml").read_text())
    return path


@pytest.fixture
def lerobot_dataset(tmp_path, monkeypatch) -> Any:
    """LeRobot's own class, its cache in a temporary folder."""
    import datasets.config
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    return LeRobotDataset
