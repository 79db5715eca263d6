"""Slices of splits mean the same episodes in every format."""

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import LIBERO_NAMES, write
from lerobot_files import LENGTHS, write_arm
from random_episodes import SPEC, episode

from vla.datasets import lerobot_writer, rlds_writer
from vla.datasets.window_reader import one_by_one, read_windows
from vla.errors import ConfigError, DataError, UnknownName
from vla.plugins import open_source

COUNT = 11
EPISODES = {
    "train": range(11),
    "all": range(11),
    "train[:90%]": range(10),  # 9.9
    "train[90%:]": [10],
    "train[10%:50%]": range(1, 6),  # 1.1 and 5.5
    "train[-20%:]": [9, 10],  # 11 - 2.2
    "train[3:5]": [3, 4],
    "train[-2:]": [9, 10],
    "train[4:6]+train[:2]": [4, 5, 0, 1],
}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """Eleven episodes in each format."""
    folder = tmp_path_factory.mktemp("sets")
    hdf5 = folder / "KITCHEN_SCENE4_close_the_bottom_drawer_demo.hdf5"
    found = {"lerobot": folder / "lerobot", "rlds": folder / "rlds/1.0.0"}
    for name, writer in (("lerobot", lerobot_writer.Writer), ("rlds", rlds_writer.Writer)):
        with writer(folder / name, SPEC) as out:
            for number in range(COUNT):
                out.add(episode(number, steps=2 + number))
    return found | {"hdf5": write(hdf5, LIBERO_NAMES, {}, demos=COUNT)}


@pytest.fixture
def cache(tmp_path) -> dict[str, Any]:
    return {"cache": tmp_path / "cache"}


@pytest.mark.parametrize("name", ["lerobot", "rlds", "hdf5"])
def test_a_slice_has_the_episodes_that_tfds_would_give(places, cache, name):
    whole: Any = open_source(places[name], **cache)
    assert len(whole) == COUNT
    for split, numbers in EPISODES.items():
        source: Any = open_source(places[name], split=split, **cache)
        assert [one.source for one in source] == [whole[number].source for number in numbers], split
        assert source.lengths.tolist() == [whole.lengths[number] for number in numbers]
        assert (source.content == whole.content) == (list(numbers) == list(range(COUNT)))
        np.testing.assert_array_equal(source[-1].state, whole[list(numbers)[-1]].state)


@pytest.mark.parametrize("name", ["lerobot", "rlds", "hdf5"])
def test_what_is_no_slice_is_said(places, cache, name):
    with pytest.raises(ConfigError, match=r"'train\[:12\]': train has 11 episodes"):
        open_source(places[name], split="train[:12]", **cache)
    with pytest.raises(ConfigError, match="percentages go from -100 to 100"):
        open_source(places[name], split="train[:101%]", **cache)
    with pytest.raises(ConfigError, match=r"is not written as train, train\[:90%\]"):
        open_source(places[name], split="train[:5", **cache)
    with pytest.raises(UnknownName, match=r"unknown split of .*'trian'; closest: train"):
        open_source(places[name], split="trian[:5]", **cache)
    with pytest.raises(DataError, match=r"split train\[5:5\]: expected at least one episode"):
        open_source(places[name], split="train[5:5]", **cache)
    if name != "rlds":
        with pytest.raises(ConfigError, match="shards are files of RLDS data sets"):
            open_source(places[name], split="train[:1shard]", **cache)


@pytest.mark.parametrize("name", ["lerobot", "hdf5"])
def test_windows_of_a_slice_are_those_of_its_episodes_also_in_another_process(places, cache, name):
    opened = open_source(places[name], split="train[8:]+train[:1]", **cache)
    source: Any = pickle.loads(pickle.dumps(opened))  # noqa: S301
    numbers = np.array([3, 0, 2]), np.array([1, 0, 1])
    (have,), (want,) = read_windows(source, *numbers, 2), one_by_one(source, *numbers, 2)
    whole: Any = open_source(places[name], **cache)
    for row, number in enumerate([0, 8, 10]):
        np.testing.assert_array_equal(have.state[row], whole[number].state[numbers[1][row]])
        np.testing.assert_array_equal(have.state[row], want.state[row])


def test_slices_of_a_split_count_from_where_it_begins(tmp_path, cache):
    write_arm(tmp_path / "set")  # train is 0:2, test 2:3
    options = cache | {"description": tmp_path / "arm.toml"}
    both = open_source(tmp_path / "set", split="test[:100%]+train[1:]", **options)
    assert both.lengths.tolist() == [LENGTHS[2], LENGTHS[1]]
    with pytest.raises(ConfigError, match="test has 1 episodes"):
        open_source(tmp_path / "set", split="test[:2]", **options)


def test_a_split_of_any_name_is_known_by_it(tmp_path, cache):
    write_arm(tmp_path / "set")
    info = tmp_path / "set/meta/info.json"
    value = json.loads(info.read_text())
    info.write_text(json.dumps(value | {"splits": {"train": "0:2", "held out": "2:3"}}))
    source = open_source(tmp_path / "set", split="held out", description=tmp_path / "arm.toml", **cache)
    assert source.lengths.tolist() == [LENGTHS[2]]


def test_a_demonstration_outside_the_slice_is_not_looked_at(tmp_path, cache):
    path = write(tmp_path / "KITCHEN_SCENE4_close_the_bottom_drawer_demo.hdf5", LIBERO_NAMES, {}, demos=3)
    with h5py.File(path, "r+") as file:
        actions: Any = file["data/demo_2/actions"]
        actions[1, 0] = 3.0
    assert not open_source(path, split="train[:2]", **cache).quirks
    (quirk,) = open_source(path, split="train[1:]", tolerate=("all",), **cache).quirks
    assert quirk.kind == "actions-out-of-range" and "demo_2" in quirk.field
