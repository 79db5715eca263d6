"""Windows read together are the windows read one by one, whatever the format, the cameras and the fixes."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hdf5_files
import numpy as np
import pytest
from lerobot_files import all_of, write_arm
from random_episodes import SPEC, episode
from rlds_files import episode as record
from rlds_files import picture, shard, write_set

from vla.datasets import lerobot_v3, rlds_writer
from vla.datasets.mixture import Mixture
from vla.datasets.views import Chosen, Concatenated
from vla.datasets.window_reader import one_by_one, read_windows
from vla.errors import DataError, SpecMismatch
from vla.experience import Episode, Window
from vla.plugins import open_source
from vla.protocols import EpisodeSource, Gathers
from vla.window_batch import DecodesInto, Scattered, WindowBatch, batched, pictures_into

pytestmark = pytest.mark.usefixtures("own_cache")


def check_alike(have: Window, want: Window) -> None:
    assert have.spec == want.spec
    assert have.observation.instruction == want.observation.instruction
    assert have.observation.time == want.observation.time
    assert list(have.observation.images) == list(want.observation.images)
    pairs = [(have.observation.state, want.observation.state), (have.actions, want.actions), (have.valid, want.valid)]
    for one, two in pairs + [(have.observation.images[name], image) for name, image in want.observation.images.items()]:
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


def check(sources: Sequence[EpisodeSource], count: int = 40, horizon: int = 4) -> list[WindowBatch]:
    """Batches of a mixture are its windows; decoded together they are what they are one by one."""
    mixture = Mixture(sources, horizon=horizon, seed=3)
    indices = list(range(7, 7 + count))
    batches = mixture.batch(indices)
    assert sorted(np.concatenate([batch.rows for batch in batches]).tolist()) == list(range(count))
    for batch in batches:
        for place, row in enumerate(batch.rows.tolist()):
            check_alike(batch[place], mixture[indices[row]])
        for name, frames in batch.images.items():
            want = np.stack([frames[number] for number in range(len(batch))])
            have = np.full_like(want, 7)
            pictures_into(frames, 0, list(have[:3]))
            pictures_into(frames, 3, list(have[3:]))
            np.testing.assert_array_equal(have, want, err_msg=name)
    return batches


def rlds(tmp_path: Path, description: str = "", **settings: Any) -> Any:
    """Two splits, shards of several episodes, JPEG beside PNG."""
    records = [
        record(number, 2 + number, **{"steps/observation/image": [picture(9 * step + number, kind) for step in steps]})
        for number, kind in enumerate(["JPEG", "PNG", "JPEG", "JPEG", "PNG"])
        for steps in [range(2 + number)]
    ]
    folder = write_set(tmp_path / "tiny", {"train": [records[:2], records[2:3]], "val": [records[3:]]})
    file = folder / "tiny.toml"
    file.write_text(file.read_text() + description)
    return open_source(folder, description=file, split="val+train", **settings)


@pytest.mark.parametrize("description", ["", "bgr = true\n"])
def test_rlds(tmp_path, description):
    source = rlds(tmp_path, description)
    (batch,) = check([source], 1)
    assert issubclass(type(source), Gathers)
    assert isinstance(batch.images["front"], DecodesInto)
    batches = check([source])
    assert len(batches) == 2, "one for each split"
    places = np.array([0, 4, 2]), np.array([1, 0, 1])
    for have, want in zip(read_windows(source, *places, 3), one_by_one(source, *places, 3), strict=False):
        check_alike(have[0], want[int(have.rows[0])])


def test_rlds_of_this_project_keeps_times(tmp_path):
    with rlds_writer.Writer(tmp_path / "own", SPEC) as writer:
        for seed in range(3):
            writer.add(episode(seed, 3 + seed))
    check([open_source(tmp_path / "own" / "1.0.0")])


def test_the_real_sample(shared_data):
    check([open_source(shared_data / "oxe_bridge_sample" / "bridge_dataset" / "1.0.0")], 50)


def test_lerobot_pictures_and_video(tmp_path):
    for storage in ("image", "video"):
        with lerobot_v3.Writer(tmp_path / storage, SPEC, storage) as writer:
            for seed in range(3):
                writer.add(episode(seed, 4 + seed))
        source = open_source(tmp_path / storage)
        assert issubclass(type(source), Gathers)
        (batch,) = check([source])
        kinds = {isinstance(frames, DecodesInto) for frames in batch.images.values()}
        assert kinds == {storage == "image"}


def test_lerobot_of_others_through_a_description(tmp_path):
    write_arm(tmp_path / "arm")
    check([all_of(tmp_path / "arm")], 20)


def test_hdf5(tmp_path):
    source = open_source(hdf5_files.libero(tmp_path / "a.hdf5"))
    assert not issubclass(type(source), Gathers)
    check([source], 12)


def test_mixtures_and_views(tmp_path):
    fake = Numbers((3, 5), ("front",))
    sources = [rlds(tmp_path), fake, Chosen(fake, (1,)), Concatenated((rlds(tmp_path), rlds(tmp_path)))]
    assert len(check(sources, 60)) >= 4


class Numbers:
    """Episodes in memory, every second one without a camera."""

    def __init__(self, steps: tuple[int, ...], missing: tuple[str, ...]):
        self.spec, self.content, self.quirks, self.missing = SPEC, "numbers", (), missing
        self.lengths = np.array(steps)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Episode:
        found = episode(index, int(self.lengths[index]))
        names = set(found.images) - (set(self.missing) if index % 2 else set())
        return replace(found, images={name: found.images[name] for name in found.images if name in names})


def test_episodes_without_a_camera_are_a_batch_of_their_own():
    names = list(SPEC.camera_names)
    batches = check([Numbers((4, 4, 4), (names[0],))])
    assert {tuple(batch.images) for batch in batches} == {tuple(names), tuple(names[1:])}


def test_windows_become_batches_with_their_pictures():
    source = Numbers((4, 4), tuple(SPEC.camera_names))
    windows = [source[number].window(step, 3) for number, step in [(0, 1), (1, 3), (0, 0)]]
    batches = batched(windows)
    assert [batch.rows.tolist() for batch in batches] == [[0, 2], [1]] and not batches[1].images
    check_alike(batches[0][1], windows[2])
    assert batches[1].valid.tolist() == [[True, False, False]]


def test_a_picture_of_another_size_than_its_place_is_an_error(tmp_path):
    with pytest.raises(SpecMismatch, match=r"\(4, 5, 3\) here, \(5, 4, 3\) there"):
        pictures_into(Scattered([[np.zeros((4, 5, 3), np.uint8)]], [0]), 0, [np.zeros((5, 4, 3), np.uint8)])
    (batch,) = rlds(tmp_path).windows(np.array([3]), np.array([0]), 2)
    with pytest.raises(SpecMismatch, match=r"\(8, 8, 3\) here, \(9, 9, 3\) there"):
        pictures_into(batch.images["front"], 0, [np.zeros((9, 9, 3), np.uint8)])


def test_errors_name_the_picture_as_reading_one_by_one_does(tmp_path):
    source = rlds(tmp_path)
    file = shard(tmp_path / "tiny", 0, 2)
    data = bytearray(file.read_bytes())
    (batch,) = source.windows(np.array([2, 2]), np.array([0, 1]), 2)
    offset, length = batch.images["front"].ranges[1]
    data[offset + 2 : offset + length] = bytes(length - 2)
    status = file.stat()
    file.write_bytes(bytes(data))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    np.testing.assert_array_equal(batch.images["front"][0], source[2].images["front"][0])
    with pytest.raises(DataError) as want:
        source[2].images["front"][1]
    for read in (
        lambda: batch.images["front"][1],
        lambda: pictures_into(batch.images["front"], 0, list(np.zeros((2, 8, 8, 3), np.uint8))),
    ):
        with pytest.raises(DataError) as have:
            read()
        assert str(have.value) == str(want.value)


def test_an_episode_that_is_not_there(tmp_path):
    with lerobot_v3.Writer(tmp_path / "lerobot", SPEC) as writer:
        writer.add(episode(0, 4))
        writer.add(episode(1, 4))
    for source in (rlds(tmp_path), open_source(tmp_path / "lerobot")):
        for number in (-1, len(source)):
            with pytest.raises(IndexError, match=f"of {len(source)}"):
                read_windows(source, np.array([number]), np.array([0]), 2)
