"""LIBERO's and robomimic's files when damaged, changed, or with something missing."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import SIZE, STEPS, damaged, libero, stored

from vla.datasets.hdf5_sandbox import Sandbox
from vla.errors import DataError
from vla.plugins import open_source
from vla.quirks import QuirksFound


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def test_a_file_that_changes_is_indexed_anew_and_not_read_by_the_old_index(tmp_path, cache):
    path = libero(tmp_path / "x_demo.hdf5")
    source = open_source(path, cache=cache)
    content, frames = source.content, source[0].images["agentview"]
    libero(path, num_demos=2)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="as it was opened"):
        copy.deepcopy(frames)[0]
    assert open_source(path, cache=cache).content != content


def test_a_folder_with_a_broken_file_is_read_only_without_it(tmp_path, cache):
    folder = tmp_path / "set"
    folder.mkdir()
    libero(folder / "a.hdf5")
    data = libero(folder / "b.hdf5").read_bytes()
    (folder / "b.hdf5").write_bytes(data[: len(data) // 2])
    with pytest.raises(QuirksFound, match=r"broken-file.*b\.hdf5"):
        open_source(folder, cache=cache)
    source = open_source(folder, cache=cache, tolerate=("broken-file",))
    assert len(source) == 2 and [quirk.kind for quirk in source.quirks] == ["broken-file"]
    (folder / "a.hdf5").write_bytes(b"")
    with pytest.raises(DataError, match="no file can be read"):
        open_source(folder, cache=cache, tolerate=("all",))


def test_totals_that_are_wrong_are_told(tmp_path, cache):
    with pytest.raises(QuirksFound, match=r"num_demos: expected 2, found 50"):
        open_source(libero(tmp_path / "x.hdf5", num_demos=50), cache=cache)


def _nan(file: Any) -> None:
    file["data/demo_1/actions"][3, 2] = np.nan


def _inf_state(file: Any) -> None:
    file["data/demo_0/obs/ee_pos"][0, 0] = np.inf


def _short(file: Any) -> None:
    del file["data/demo_1/obs/ee_pos"]
    file["data/demo_1/obs/ee_pos"] = np.zeros((STEPS - 1, 3))


def _narrow(file: Any) -> None:
    for demo in file["data"].values():
        del demo["actions"]
        demo["actions"] = np.zeros((STEPS, 8))


def _no_actions(file: Any) -> None:
    del file["data/demo_1/actions"]


def _elsewhere(file: Any) -> None:
    del file["data/demo_0/actions"]
    file["data/demo_0/actions"] = h5py.ExternalLink("other.hdf5", "/x")


def _outside(file: Any) -> None:
    del file["data/demo_0/actions"]
    file["data/demo_0"].create_dataset("actions", (STEPS, 7), "f8", external=[("raw.bin", 0, h5py.h5f.UNLIMITED)])


def _one_pixel_more(file: Any) -> None:
    del file["data/demo_1/obs/agentview_rgb"]
    file["data/demo_1/obs/agentview_rgb"] = np.zeros((STEPS, SIZE + 1, SIZE, 3), np.uint8)


def _plug_in_filter(file: Any) -> None:
    del file["data/demo_1/obs/agentview_rgb"]
    pictures = np.zeros((STEPS, SIZE, SIZE, 3), np.uint8)
    file["data/demo_1"].create_dataset("obs/agentview_rgb", data=pictures, compression="lzf")


def _not_json(file: Any) -> None:
    file["data"].attrs["env_args"] = "{"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_nan, r"demo_1/actions: expected finite numbers, found nan in step 3"),
        (_short, r"demo_1/obs/ee_pos: expected 6 steps as in actions, found 5"),
        (_narrow, r"7 numbers a step"),
        (_no_actions, r"demo_1: expected numbers called actions"),
        (_elsewhere, r"demo_0: expected numbers called actions"),
        (_outside, r"links to other files"),
        (_one_pixel_more, r"demo_1/obs/agentview_rgb: expected \|u1 \(16, 16, 3\)"),
        (_plug_in_filter, r"h5repack"),
        (_not_json, r"env_args: expected JSON"),
    ],
)
def test_damage_is_named(tmp_path, cache, change, said):
    path = damaged(libero(tmp_path / "x_demo.hdf5"), change)
    with pytest.raises(DataError, match=said):
        open_source(path, cache=cache)


def test_damage_in_an_episode_is_named_when_it_is_read(tmp_path, cache):
    source = open_source(damaged(libero(tmp_path / "x_demo.hdf5"), _inf_state), cache=cache)
    assert len(source[1]) == STEPS - 1
    with pytest.raises(DataError, match=r"demo_0/obs/ee_pos: expected finite numbers, found inf in step 0"):
        source[0]


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\xff" * 4096, b"text"])
def test_what_is_no_hdf5_is_refused(tmp_path, cache, content):
    path = tmp_path / "x.hdf5"
    path.write_bytes(content)
    with pytest.raises(DataError, match="file"):
        open_source(path, cache=cache)


def test_arrays_that_share_bytes_or_end_outside_are_refused(tmp_path, cache):
    """What a damaged offset looks like: no checksum guards it."""
    path = libero(tmp_path / "x_demo.hdf5")
    with h5py.File(path) as file:
        array: Any = file["data/demo_0/actions"]
        offset, length = array.id.get_offset(), array.id.get_storage_size()
    data = path.read_bytes()
    assert data.count(offset.to_bytes(8, "little") + length.to_bytes(8, "little")) == 1
    for wrong in (offset + 64, len(data) - 8):
        old, new = (value.to_bytes(8, "little") + length.to_bytes(8, "little") for value in (offset, wrong))
        path.write_bytes(data.replace(old, new))
        with pytest.raises(DataError):
            open_source(path, cache=cache)


def test_a_file_that_keeps_libhdf5_busy_ends_its_process_only(tmp_path):
    path = libero(tmp_path / "x_demo.hdf5")
    with Sandbox(file_seconds=0.0) as sandbox:
        with pytest.raises(DataError, match="nothing in 0 s"):
            sandbox.scan(path)
        sandbox._file_seconds = 30.0
        assert len(sandbox.scan(path).demos) == 2


def test_a_camera_that_one_demonstration_lacks_is_not_lost_silently(tmp_path, cache):
    def _lost(file: Any) -> None:
        del file["data/demo_1/obs/eye_in_hand_rgb"]

    path = damaged(libero(tmp_path / "x.hdf5"), _lost)
    with pytest.raises(
        QuirksFound, match=r"partial-field.*data/demo_1/obs/eye_in_hand_rgb: expected an array as 1 of 2"
    ):
        open_source(path, cache=cache)
    assert len(open_source(path, cache=cache, tolerate=("partial-field",)).spec.cameras) == 1


def _cut(demo: str, steps: int) -> Callable[[Any], None]:
    """Leaves so many steps of a demonstration, and totals that say so."""

    def change(file: Any) -> None:
        group = file[f"data/{demo}"]
        names = [name for name in ("states", "actions", "rewards", "dones") if name in group]
        for name in (*names, *(f"obs/{each}" for each in group["obs"])):
            values = group[name][:steps]
            del group[name]
            group[name] = values
        group.attrs["num_samples"] = steps
        file["data"].attrs["total"] = STEPS + steps

    return change


@pytest.mark.parametrize(("steps", "said"), [(0, "expected at least one step, found none"), (1, "more than 1 steps")])
def test_a_demonstration_of_which_nothing_is_left_is_named_and_read_around(tmp_path, cache, steps, said):
    """LIBERO's own files pair an action with the observation of the row before: one row is no episode."""
    path = damaged(libero(tmp_path / "x_demo.hdf5"), _cut("demo_0", steps))
    with pytest.raises(QuirksFound, match=rf"short-demonstration: .*data/demo_0.*{said}"):
        open_source(path, cache=cache)
    source: Any = open_source(path, cache=cache, tolerate=("short-demonstration",))
    assert [episode.source for episode in source] == ["x_demo.hdf5[demo_1]"]
    assert source.lengths.tolist() == [STEPS - 1]
    np.testing.assert_array_equal(source.states(0), stored(path, "states", 1))


def test_a_file_of_which_nothing_is_left(tmp_path, cache):
    path = damaged(damaged(libero(tmp_path / "x_demo.hdf5"), _cut("demo_0", 1)), _cut("demo_1", 1))
    with pytest.raises(DataError, match="at least one episode, found none with more than 1 steps"):
        open_source(path, cache=cache, tolerate=("all",))
    assert open_source(path, cache=cache, fixes=False, tolerate=("all",)).lengths.tolist() == [1, 1]
    path = damaged(damaged(libero(tmp_path / "y_demo.hdf5"), _cut("demo_0", 0)), _cut("demo_1", 0))
    with pytest.raises(DataError, match="data: expected demonstrations with a step, found none"):
        open_source(path, cache=cache, tolerate=("all",))
