"""Plug-ins are found by file name, data by what lies in the folder."""

import dataclasses
import re
from types import SimpleNamespace

import pytest

from vla.errors import ConfigError, DataError, UnknownName
from vla.plugins import open_source, plugin, plugin_names, plugins


def test_data_set_formats_are_found_and_helpers_are_not():
    assert {"rlds", "lerobot_v3"} <= set(plugin_names("datasets"))
    assert not {"tfrecord", "mixture", "checksum"} & set(plugin_names("datasets"))


def test_every_data_set_format_can_be_asked_and_made():
    for name, module in plugins("datasets").items():
        assert dataclasses.is_dataclass(module.Config), name
        assert callable(getattr(module.Config, "make", None)) and callable(module.accepts) and module.LAYOUT, name


def test_an_unknown_name_is_answered_with_the_closest():
    with pytest.raises(UnknownName, match="lerobot_v3"):
        plugin("datasets", "lerobot_v4")


def test_a_path_that_is_no_data_set(tmp_path):
    with pytest.raises(DataError, match=r"RLDS .*found nothing there"):
        open_source(tmp_path / "no")
    (tmp_path / "1.0.0").mkdir()
    with pytest.raises(DataError, match=r"found a folder with 1\.0\.0/"):
        open_source(tmp_path)
    (tmp_path / "1.0.0/demos.hdf5").touch()
    with pytest.raises(DataError, match=f"found a folder that holds one: {re.escape(str(tmp_path))}/1.0.0"):
        open_source(tmp_path)


def test_options_that_a_format_does_not_have(tmp_path):
    path = tmp_path / "demos.hdf5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ConfigError, match="no option cameras"):
        open_source(path, cameras=("a",))


def test_a_format_without_splits(tmp_path, monkeypatch):
    whole = SimpleNamespace(accepts=lambda path: True, Config=dataclasses.make_dataclass("Config", ["path"]))
    monkeypatch.setattr("vla.plugins.plugins", lambda folder: {"whole": whole})
    with pytest.raises(ConfigError, match=r"is whole, which has no splits: 'train\[:5\]' cannot be chosen"):
        open_source(tmp_path, split="train[:5]")
