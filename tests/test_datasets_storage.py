"""The same data set from a folder, from file:// and from memory://, and reads that many threads and processes share."""

import multiprocessing
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from rlds_files import episode, framed, send_picture, write_set

from vla.datasets import storage
from vla.datasets.rlds import Config, accepts
from vla.errors import DataError
from vla.plugins import open_source


@pytest.fixture
def folder(tmp_path) -> Path:
    shards = {"train": [[episode(2 * number), episode(2 * number + 1)] for number in range(2)]}
    return write_set(tmp_path / "set", shards)


@pytest.fixture
def url(folder) -> Iterator[str]:
    """The set in fsspec's memory."""
    place = f"memory://{uuid.uuid4()}"
    system, path = fsspec.core.url_to_fs(place)
    system.put(str(folder), path, recursive=True)
    yield place
    system.rm(path, recursive=True)


def config(folder: Path, path: str | Path) -> Config:
    return Config(path, description=folder / "tiny.toml", cache=folder.parent / "cache")


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_url_gives_what_the_folder_gives(folder, url, kind):
    path = f"file://{folder}" if kind == "file" else url
    assert accepts(path) and accepts(path + "/") and not accepts(path + "/no")
    here, there = config(folder, folder).make(), config(folder, path).make()
    assert len(there) == 4 and there.spec == here.spec and there.content == here.content
    for number in range(4):
        assert np.array_equal(there[number].action, here[number].action)
        frames = there[number].images["front"]
        assert all(np.array_equal(frames[step], here[number].images["front"][step]) for step in range(3))
        assert frames.encoded(1) == here[number].images["front"].encoded(1)  # type: ignore[attr-defined]


def test_plugins_open_urls(folder, url):
    source = open_source(url, description=folder / "tiny.toml", cache=folder.parent / "cache")
    assert len(source) == 4


def test_the_index_of_a_url_is_made_anew_when_a_shard_changes(folder, url):
    before = config(folder, url).make()
    written = before.pieces[0].index.stat().st_mtime_ns
    assert config(folder, url).make().pieces[0].index.stat().st_mtime_ns == written
    system, path = fsspec.core.url_to_fs(url)
    with system.open(f"{path}/tiny-train.tfrecord-00000-of-00002", "wb") as file:
        file.write(framed(episode(7)) + framed(episode(8)))
    assert config(folder, url).make()[0].action[0, 0] == 700


def test_urls_of_unknown_kinds():
    with pytest.raises(DataError, match="a kind that fsspec knows"):
        accepts("nonsense://there")


def test_names_and_small_files(folder, url):
    assert storage.names(url) == storage.names(folder) and "features.json" in storage.names(folder)
    assert storage.names(url + "/no") == storage.names(folder / "no") == []
    assert storage.read(storage.join(url, "tiny.toml")) == (folder / "tiny.toml").read_bytes()
    with pytest.raises(DataError, match="No such file"):
        storage.read(folder / "no")
    assert storage.stored(str(folder / "no")) is None and storage.stored(url + "/no") is None


def test_more_files_than_may_stay_open(tmp_path):
    files = []
    for number in range(storage._OPEN + 20):
        file = tmp_path / str(number)
        file.write_bytes(bytes([number]) * 10)
        files.append(storage.stored(str(file)))
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as pool:
        order = np.random.default_rng(0).integers(0, len(files), 2000).tolist()
        found = list(pool.map(lambda number: storage.read_range(files[number], 3, 4), order))
    assert found == [bytes([number]) * 4 for number in order], "no descriptor is another's while a thread reads"
    assert len(os.listdir("/proc/self/fd")) <= before + storage._OPEN + 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_worker_processes_read_what_this_one_reads(folder, method):
    source = config(folder, folder).make()
    expected = source[3].images["front"][1].tobytes()
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=send_picture, args=(source, theirs))
    child.start()
    assert ours.poll(60) and ours.recv() == expected
    child.join()
    assert source[3].images["front"][1].tobytes() == expected
