"""The LeRobot v3.0 writer: LeRobot itself opens what it wrote, and whoever is killed goes on."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as PilImage
from random_episodes import SPEC, episode

from vla.datasets import rlds_writer
from vla.datasets.lerobot_statistics import Pool, number_stats, picture_stats, quantiles
from vla.datasets.lerobot_writer import Writer
from vla.datasets.partial_folder import PartialFolder
from vla.datasets.video_writer import VideoOptions
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, DataError
from vla.experience import Episode


def write(path: Path, episodes: list[Episode], **options) -> Path:
    with Writer(path, episodes[0].spec, **options) as writer:
        for each in episodes:
            writer.add(each)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def smooth(steps: int, height: int, width: int) -> list[np.ndarray]:
    """Pictures as a camera sees them: no noise, something that moves."""
    y, x = np.mgrid[:height, :width]
    return [
        np.stack([x + 8 * step, y + 3 * step, 128 + 60 * np.sin((x + y + 9 * step) / 20)], -1).astype(np.uint8) // 2
        for step in range(steps)
    ]


def test_lerobot_opens_many_files_with_several_groups(tmp_path, lerobot_dataset):
    episodes = [episode(seed, 3 + seed) for seed in range(5)]
    path = write(tmp_path / "set", episodes, file_bytes=9_000, chunk_files=2)
    names = [name for name in contents(path) if name.startswith("data")]
    assert names[:3] == [f"data/chunk-00{a}/file-00{b}.parquet" for a, b in ((0, 0), (0, 1), (1, 0))]
    theirs = lerobot_dataset("local/set", root=path)
    assert theirs.num_episodes == 5 and theirs.num_frames == 25 and theirs.fps == 20
    rows = [(want, step) for want in episodes for step in range(len(want))]
    for item, (want, step) in zip((theirs[row] for row in range(25)), rows, strict=True):
        assert item["action"].numpy().tobytes() == want.action[step].tobytes()
        assert item["observation.state"].numpy().tobytes() == want.state[step].tobytes()
        assert item["time"] == np.float32(want.time[step])  # it gives float32; our own reader the bits
        assert item["task"] == want.instruction
        for camera in SPEC.camera_names:
            picture = item[f"observation.images.{camera}"].numpy().transpose(1, 2, 0)
            assert np.array_equal((picture * 255).round().astype(np.uint8), want.images[camera][step])


def test_its_statistics_are_those_of_the_data(tmp_path, lerobot_dataset):
    episodes = [episode(seed, 40) for seed in range(4)]
    stats = lerobot_dataset("local/set", root=write(tmp_path / "set", episodes)).meta.stats
    for name, values in (
        ("action", np.concatenate([each.action for each in episodes])),
        ("observation.state", np.concatenate([each.state for each in episodes])),
    ):
        spread = np.ptp(values.astype(float), axis=0)
        for field, expected in (("mean", values.mean(0)), ("std", values.std(0))):
            np.testing.assert_allclose(stats[name][field], expected, rtol=1e-4, atol=1e-5)
        assert np.array_equal(stats[name]["min"], values.min(0)) and np.array_equal(stats[name]["max"], values.max(0))
        for field, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
            exact = np.quantile(values, share, axis=0, method="inverted_cdf")
            assert (np.abs(stats[name][field] - exact) <= spread / 65536).all()
    assert stats["observation.images.agentview"]["mean"].shape == (3, 1, 1)


def test_pooled_statistics_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(count, 3)).astype(np.float32) * 10.0**count for count in (1, 4, 2)]
    pool, whole = Pool(), np.concatenate(parts).astype(np.float64)
    for part in parts:
        pool.add(json.loads(json.dumps(number_stats(part))))
    result = pool.finish(quantiles(parts, *pool.ends()))
    np.testing.assert_allclose(result["mean"], whole.mean(0))
    np.testing.assert_allclose(result["std"], whole.std(0))
    assert result["count"] == [7] and result["min"] == whole.min(0).tolist()


def test_picture_statistics():
    pictures = list(np.random.default_rng(0).integers(0, 256, (4, 10, 8, 3), dtype=np.uint8))
    stats, pixels = picture_stats(pictures, stride=1), np.stack(pictures).reshape(-1, 3) / 255.0
    for name, expected in (("mean", pixels.mean(0)), ("std", pixels.std(0)), ("max", pixels.max(0))):
        np.testing.assert_allclose(np.ravel(stats[name]), expected)
    exact = np.quantile(pixels, 0.5, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(np.ravel(stats["q50"]), exact)


@pytest.mark.parametrize(("codec", "crf", "bound"), [("libx264", 18, 35), ("libsvtav1", 30, 30)])
def test_video_is_opened_by_lerobot_within_its_stated_error(tmp_path, lerobot_dataset, codec, crf, bound):
    spec = libero_panda(64)
    frames = smooth(8, 64, 64)
    episodes = [episode(seed, 8, spec, images=dict.fromkeys(spec.camera_names, frames[:8])) for seed in range(3)]
    video = VideoOptions(codec, crf)
    path = write(tmp_path / "set", episodes, storage="video", video=video, file_bytes=17_000)
    assert len(list(path.rglob("*.mp4"))) == 4  # two episodes in the first file of each camera, one in the second
    theirs = lerobot_dataset("local/set", root=path, video_backend="pyav")
    for row in (0, 7, 8, 13, 20, 23):
        have = theirs[row]["observation.images.agentview"].numpy().transpose(1, 2, 0) * 255
        errors = [float(np.mean((have - true) ** 2)) for true in frames]
        assert int(np.argmin(errors)) == row % 8 and 10 * np.log10(255**2 / min(errors)) > bound
        assert np.array_equal(theirs[row]["action"].numpy(), episodes[row // 8].action[row % 8])


@pytest.mark.parametrize(("name", "bound"), [("bridge", 31), ("libero", 38)])
def test_real_pictures_as_video_within_the_stated_error(tmp_path, shared_data, name, bound):
    """The PSNR that video_writer.py states."""
    import av
    from rlds_files import read_records

    from vla.datasets.tfrecord import parse_example

    if name == "bridge":
        folder = shared_data / "oxe_bridge_sample/bridge_dataset/1.0.0"
        record = next(read_records(next(folder.glob("*train*")))).data
        stored = parse_example(record, "f", "r")["steps/observation/image_0"].texts(record)
        frames = [np.asarray(PilImage.open(io.BytesIO(data)).convert("RGB")) for data in stored]
    else:
        with np.load(shared_data / "libero_reference/libero_spatial_observation.npz") as given:
            frames = [value for value in given.values() if value.ndim == 3]
    spec = libero_panda(len(frames[0]))
    images = dict.fromkeys(spec.camera_names, frames)
    path = write(tmp_path / "set", [episode(0, len(frames), spec, images=images)], storage="video")
    with av.open(str(next(path.rglob("*.mp4")))) as container:
        have = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(have) == len(frames)
    for ours, true in zip(have, frames, strict=True):
        assert 10 * np.log10(255**2 / np.mean((ours.astype(float) - true) ** 2)) > bound


def test_video_options_are_checked_first(tmp_path):
    with pytest.raises(ConfigError, match="no encoder 'best'"):
        Writer(tmp_path / "set", SPEC, "video", video=VideoOptions("best"))
    with pytest.raises(ConfigError, match="even sizes"):
        Writer(tmp_path / "set", libero_panda(17), "video")
    with pytest.raises(ConfigError, match="none of image, jpeg, video"):
        Writer(tmp_path / "set", SPEC, "gif")  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [30, 3000])
def test_a_full_disk_while_videos_are_written(tmp_path, limit):
    """In a process of its own, since FFmpeg can crash when it is asked to go on after an error."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_datasets_lerobot_writer import SPEC, DataError, Path, Writer, episode
import av, pyarrow.parquet
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1))
try:
    with Writer(Path({str(tmp_path)!r}) / "set", SPEC, "video") as writer:
        for seed in range(3):
            writer.add(episode(seed, 20))
except DataError as error:
    sys.exit(7 if "a writable folder with space" in str(error) else 1)
"""
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 7, done.stderr
    assert not list(tmp_path.iterdir())


def test_pages_have_checksums(tmp_path):
    """A flipped bit within a picture's pixels is found by whoever asks for it."""
    path = write(tmp_path / "set", [episode(0)])
    file = next((path / "data").rglob("*.parquet"))
    data = bytearray(file.read_bytes())
    place = data.find(b"IDAT") + 40
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(OSError, match=r"CRC|crc|checksum"):
        pq.read_table(file, page_checksum_verification=True)


def test_large_episodes_have_several_row_groups(tmp_path, monkeypatch):
    from vla.datasets import lerobot_writer

    monkeypatch.setattr(lerobot_writer, "_GROUP_BYTES", 6000)
    path = write(tmp_path / "set", [episode(0, 12), episode(1, 1)])
    with pq.ParquetFile(next((path / "data").rglob("*.parquet"))) as file:
        rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert len(rows) > 3 and rows[-1] == 1 and sum(rows) == 13 and max(rows) <= 4


WRITERS = [
    pytest.param("vla.datasets.lerobot_writer", {"storage": "image", "file_bytes": 12_000}, id="lerobot"),
    pytest.param("vla.datasets.lerobot_writer", {"storage": "video", "file_bytes": 3_000}, id="lerobot-video"),
    pytest.param("vla.datasets.rlds_writer", {"storage": "image", "file_bytes": 12_000}, id="rlds"),
]
KILLED = """
import importlib, os, signal, sys
sys.path.insert(0, {tests!r})
from random_episodes import SPEC, episode
module, path, options, stop = importlib.import_module({module!r}), {path!r}, {options!r}, {stop}
with module.Writer(path, SPEC, key="k", **options) as writer:
    for seed in range(writer.episodes, 9):
        if seed == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        writer.add(episode(seed))
"""


@pytest.mark.parametrize(("module", "options"), WRITERS)
def test_after_sigkill_the_same_key_goes_on(tmp_path, module, options):
    import importlib

    make = importlib.import_module(module).Writer
    whole, path = tmp_path / "whole" / "set", tmp_path / "killed" / "set"
    with make(whole, SPEC, key="k", **options) as writer:
        for seed in range(9):
            writer.add(episode(seed))
    tests = str(Path(__file__).parent)
    for stop in (4, 7):
        code = KILLED.format(tests=tests, module=module, path=str(path), options=options, stop=stop)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not path.exists() and (path.parent / ".set.partial").is_dir()
        kept = [line for line in (path.parent / ".set.partial/journal").read_bytes().splitlines() if b"files" in line]
        assert kept
    with make(path, SPEC, key="k", **options) as writer:
        assert 4 <= writer.episodes <= 7
        for seed in range(writer.episodes, 9):
            writer.add(episode(seed))
    assert [file.name for file in path.parent.iterdir()] == ["set"]
    assert contents(path) == contents(whole)


@pytest.mark.parametrize("make", [Writer, rlds_writer.Writer])
def test_an_error_keeps_the_finished_files_of_a_key(tmp_path, make):
    with pytest.raises(KeyboardInterrupt), make(tmp_path / "set", SPEC, key="k", file_bytes=1) as writer:
        writer.add(episode(0))
        writer.add(episode(1))
        raise KeyboardInterrupt
    with pytest.raises(ConfigError, match="begun from other data or with other options"):
        make(tmp_path / "set", SPEC, key="other")
    with make(tmp_path / "set", SPEC, key="k", file_bytes=1) as writer:
        assert writer.episodes == 2
        with pytest.raises(ConfigError, match="another process"):
            make(tmp_path / "set", SPEC, key="k")
        writer.add(episode(2))
    assert [file.name for file in tmp_path.iterdir()] == ["set"]


def test_a_kill_at_any_write_leaves_a_prefix(tmp_path):
    """The journal cut at every byte: whole lots are kept, what they do not name is removed, going on is possible."""
    partial = PartialFolder(tmp_path / "set", "k")
    for number in range(3):
        (partial.folder / f"file-{number}").write_bytes(bytes(number + 1))
        partial.commit([partial.folder / f"file-{number}"], [{"number": number}])
    partial.abandon()
    home = tmp_path / ".set.partial"
    journal, files = (home / "journal").read_bytes(), contents(home / "set")
    for end in range(len(journal) + 1):
        (home / "journal").write_bytes(journal[:end])
        for name, data in files.items():
            (home / "set" / name).write_bytes(data)
        again = PartialFolder(tmp_path / "set", "k")
        whole = max(0, journal[:end].count(b"\n") - 1)
        assert again.commits == whole and [row["number"] for _, row in again.rows()] == list(range(whole))
        assert sorted(contents(home / "set")) == [f"file-{number}" for number in range(whole)]
        again._release()


def test_a_kill_while_files_get_their_names(tmp_path):
    partial = PartialFolder(tmp_path / "set", "k")
    for name in "ab":
        (partial.folder / name).write_text(name)
    partial.commit([partial.folder / name for name in "ab"], [])
    partial._append({"names": {"a": "1", "b": "2"}})
    (partial.folder / "a").rename(partial.folder / "1")
    partial._release()
    again = PartialFolder(tmp_path / "set", "k")
    again.finish({"a": "1", "b": "2"})
    assert contents(tmp_path / "set") == {"1": b"a", "2": b"b"}


@pytest.mark.parametrize("damage", ["shorter", "gone", "journal"])
def test_what_was_begun_and_is_damaged(tmp_path, damage):
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "set", SPEC, key="k", file_bytes=1) as writer:
        writer.add(episode(0))
        raise KeyboardInterrupt
    file = next(tmp_path.rglob("*.parquet"))
    if damage == "shorter":
        os.truncate(file, 100)
    elif damage == "gone":
        file.unlink()
    else:
        journal = tmp_path / ".set.partial/journal"
        journal.write_bytes(journal.read_bytes().replace(b'"files"', b'"files', 1))
    with pytest.raises(DataError, match="remove the folder to begin anew"):
        Writer(tmp_path / "set", SPEC, key="k")
