"""``vla data stats`` and the mixture options of ``vla train``, on the Bridge sample."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from vla.commands.data_stats import Stats
from vla.commands.source import SourceOptions, data_set_name
from vla.errors import ConfigError
from vla.plugins import open_source
from vla.statistics_files import read_openvla

QUIET = Console(quiet=True)


@pytest.fixture
def bridge(shared_data, tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0")


def test_pooling_and_export(bridge: str, tmp_path: Path):
    one = Stats(SourceOptions(bridge)).run(QUIET)
    out = tmp_path / "dataset_statistics.json"
    both = Stats(SourceOptions(bridge), also=(bridge,), out=out, export="openvla").run(QUIET)
    assert both["dx"]["count"] == 2 * one["dx"]["count"] and both["dx"]["mean"] == pytest.approx(one["dx"]["mean"])
    assert set(json.loads(out.read_text())) == {"bridge_dataset"}, "the folder's name is the version"
    read = read_openvla(out, open_source(bridge).spec)
    assert read.channels["gripper"].mean == both["gripper"]["mean"]
    assert list((tmp_path / "cache" / "vla").glob("statistics-*.npz"))
    with pytest.raises(ConfigError, match="--out"):
        Stats(SourceOptions(bridge), export="openpi").run(QUIET)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("bridge/1.0.0", "bridge"),
        ("bridge/1.0.0/", "bridge"),
        ("gs://bucket/bridge/0.1.0", "bridge"),
        ("hf://datasets/user/pick", "pick"),
        ("a/lift.hdf5", "lift"),
        (".", "here"),
        ("../here/", "here"),
    ],
)
def test_the_name_of_a_data_set(path, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert data_set_name(path) == name
