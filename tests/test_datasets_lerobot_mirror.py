"""Data sets behind URLs: copied once, taken up again where it broke off, and never read half."""

import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from vla.datasets import lerobot_mirror
from vla.datasets.lerobot_mirror import local_folder, version_at
from vla.datasets.lerobot_v3 import Config, Writer
from vla.embodiments.libero_panda import libero_panda
from vla.errors import DataError
from vla.experience import Episode
from vla.plugins import open_source

SPEC = libero_panda(16)


def episode(seed: int, steps: int = 5) -> Episode:
    rng = np.random.default_rng(seed)
    pictures = {name: list(rng.integers(0, 256, (steps, 16, 16, 3), dtype=np.uint8)) for name in SPEC.camera_names}
    state, action = (rng.normal(size=(steps, size)).astype(np.float32) for size in (len(SPEC.state), SPEC.action.size))
    return Episode(SPEC, state, action, pictures, np.arange(steps) / 20, "wipe", True, f"here[{seed}]")


@pytest.fixture
def written(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Writer(tmp_path / "set", SPEC) as writer:
        for seed in range(3):
            writer.add(episode(seed))
    return tmp_path / "set"


@pytest.fixture
def memory(written) -> Any:
    system = fsspec.filesystem("memory")
    system.put(str(written), "/bucket/set", recursive=True)
    yield system
    system.rm("/bucket", recursive=True)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_url_gives_the_same_episodes(written, memory):
    told: list[tuple[int, int]] = []
    source = open_source("memory://bucket/set", progress=lambda done, total: told.append((done, total)))
    local = open_source(written)
    assert source.lengths.tolist() == [5, 5, 5] and source.spec == SPEC
    for index in range(3):
        assert source[index].action.tobytes() == local[index].action.tobytes()
        assert np.array_equal(source[index].images["agentview"][3], local[index].images["agentview"][3])
    size = sum(len(data) for data in contents(written).values())
    assert (size, size) in told


def test_file_urls_are_read_where_they_are(written, tmp_path):
    assert local_folder(f"file://{written}", tmp_path / "cache") == written
    assert len(open_source(f"file://{written}")) == 3


def test_meta_comes_first_and_alone_if_asked(written, memory, tmp_path, monkeypatch):
    order: list[str] = []
    real = lerobot_mirror._fetch
    monkeypatch.setattr(
        lerobot_mirror, "_fetch", lambda system, file, *rest: (order.append(file.name), real(system, file, *rest))
    )
    folder = local_folder("memory://bucket/set", tmp_path / "c", only_meta=True)
    assert set(contents(folder)) == {name for name in contents(written) if name.startswith("meta/")}
    local_folder("memory://bucket/set", tmp_path / "c")
    assert contents(folder) == contents(written) and len(order) == len(contents(written))
    meta = [name.startswith("meta/") for name in order]
    assert meta == sorted(meta, reverse=True)
    order.clear()
    local_folder("memory://bucket/set", tmp_path / "c")
    assert order == []  # nothing twice


def test_a_copy_broken_off_goes_on(written, memory, tmp_path, monkeypatch):
    from fsspec.implementations.memory import MemoryFile

    monkeypatch.setattr(lerobot_mirror, "_CHUNK", 1000)
    largest = max(contents(written), key=lambda name: len(contents(written)[name]))
    real, sought, count = MemoryFile.read, [], [0]

    def breaks_off(self, *arguments):
        count[0] += 1
        if count[0] == 25:
            raise OSError("connection reset")
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFile, "read", breaks_off)
        with pytest.raises(DataError, match="expected an answer, found connection reset"):
            local_folder("memory://bucket/set", tmp_path / "c")
    (part,) = (tmp_path / "c").rglob(".part-*")
    have = part.stat().st_size
    assert have % 1000 == 0 and have > 0
    seek = MemoryFile.seek
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFile, "seek", lambda self, *place: (sought.append(place[0]), seek(self, *place))[1])
        folder = local_folder("memory://bucket/set", tmp_path / "c")
    assert have in sought, largest
    assert contents(folder) == contents(written) and not list(folder.rglob(".part-*"))


def test_what_changed_is_copied_anew_and_what_went_is_removed(written, memory, tmp_path):
    folder = local_folder("memory://bucket/set", tmp_path / "c")
    old = contents(folder)
    lines = old["meta/vla_episodes.jsonl"].replace(b"here[", b"hear[")
    memory.pipe("/bucket/set/meta/vla_episodes.jsonl", lines)
    memory.rm("/bucket/set/meta/stats.json")
    local_folder("memory://bucket/set", tmp_path / "c")
    new = contents(folder)
    assert new.pop("meta/vla_episodes.jsonl") == lines
    del old["meta/vla_episodes.jsonl"], old["meta/stats.json"]
    assert new == old


def test_a_file_of_another_size_than_listed_is_refused(written, memory, tmp_path, monkeypatch):
    real = lerobot_mirror._listing

    def wrong(*arguments):
        import dataclasses

        return [dataclasses.replace(file, size=file.size + 1) for file in real(*arguments)]

    monkeypatch.setattr(lerobot_mirror, "_listing", wrong)
    with pytest.raises(DataError, match=r"size: expected \d+ bytes as listed, found only"):
        local_folder("memory://bucket/set", tmp_path / "c")
    assert not contents(tmp_path / "c")


def test_a_name_of_the_hub_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="hf://datasets/lerobot/aloha_sim"):
        Config("lerobot/aloha_sim").make()
    with pytest.raises(DataError, match="hf://datasets/"):
        open_source("lerobot/aloha_sim")


def test_what_is_no_data_set(memory, tmp_path):
    assert version_at("memory://bucket/set") == "v3.0" and version_at(str(tmp_path / "set")) == "v3.0"
    assert version_at("memory://bucket/other") is None and version_at(str(tmp_path)) is None
    memory.pipe("/bucket/strange/meta/info.json", b"{")
    assert version_at("memory://bucket/strange") == ""
    with pytest.raises(DataError, match="expected a LeRobot data set, found 0 other files"):
        local_folder("memory://bucket/other", tmp_path / "c")
    with pytest.raises(DataError, match="URL: expected a kind that fsspec knows, found Protocol not known"):
        version_at("nosuchsystem://bucket/set")


def test_names_that_lead_out_of_the_folder_are_not_written(written, memory, tmp_path):
    memory.pipe("/bucket/set/data/../../../evil.parquet", b"x")
    memory.pipe("/bucket/set/.git/config", b"x")
    folder = local_folder("memory://bucket/set", tmp_path / "c")
    assert contents(folder) == contents(written)
    assert not list(tmp_path.rglob("evil*"))


def test_a_cache_that_cannot_be_written(written, memory, tmp_path):
    (tmp_path / "c").write_text("a file")
    with pytest.raises(DataError, match="writable cache folder"):
        local_folder("memory://bucket/set", tmp_path / "c")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
