"""LeRobot v3.0: what goes in comes out bit for bit, LeRobot itself opens it, and damage is one clear error."""

import pickle
import resource
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from random_episodes import SPEC, episode

from vla.datasets.lerobot_v3 import Config, Writer, accepts
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, DataError
from vla.experience import Episode
from vla.protocols import EpisodeSource


def write(path: Path, episodes: list[Episode], **options) -> Path:
    with Writer(path, episodes[0].spec, **options) as writer:
        for each in episodes:
            writer.add(each)
    return path


def every(source: EpisodeSource) -> list[Episode]:
    return [source[index] for index in range(len(source))]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, list[Episode]]:
    episodes = [episode(seed, steps) for seed, steps in enumerate((5, 3, 1, 7))]
    return write(tmp_path_factory.mktemp("lerobot") / "set", episodes), episodes


def test_everything_comes_back_bit_for_bit(written):
    path, episodes = written
    source = Config(path).make()
    assert isinstance(source, EpisodeSource) and accepts(path)
    assert source.spec == SPEC and source.lengths.tolist() == [5, 3, 1, 7] and len(source) == 4
    for want, have in zip(episodes, every(source), strict=True):
        for name in ("state", "action", "time"):
            assert getattr(have, name).tobytes() == getattr(want, name).tobytes()
            assert getattr(have, name).dtype == getattr(want, name).dtype
        for field in ("instruction", "success", "source", "info"):
            assert getattr(have, field) == getattr(want, field)
        for camera, frames in want.images.items():
            assert np.array_equal(np.stack(list(have.images[camera])), np.stack(frames))


def test_frames_at_random_and_by_a_worker(written):
    path, episodes = written
    source = pickle.loads(pickle.dumps(Config(path).make()))  # noqa: S301 - our own, as a worker gets it
    for number in np.random.default_rng(0).integers(0, 4, 30):
        step = int(number) % len(episodes[number])
        for camera in SPEC.camera_names:
            assert np.array_equal(source[number].images[camera][step], episodes[number].images[camera][step])
    assert np.array_equal(source[-1].images["agentview"][-1], episodes[3].images["agentview"][6])
    with pytest.raises(IndexError):
        source[0].images["agentview"][5]
    with pytest.raises(IndexError):
        source[4]


def test_lerobot_opens_it(written, lerobot_dataset):
    path, episodes = written
    theirs = lerobot_dataset("local/set", root=path)
    assert theirs.num_episodes == 4 and theirs.num_frames == 16 and theirs.fps == 20
    assert theirs.meta.names["action"] == list(SPEC.action.names)
    assert theirs.meta.names["observation.state"] == list(SPEC.state_names)
    row = 0
    for number, want in enumerate(episodes):
        for step in range(len(want)):
            item = theirs[row]
            assert item["action"].numpy().tobytes() == want.action[step].tobytes()
            assert item["observation.state"].numpy().tobytes() == want.state[step].tobytes()
            assert item["task"] == want.instruction
            assert (int(item["episode_index"]), int(item["frame_index"]), int(item["index"])) == (number, step, row)
            for camera in SPEC.camera_names:
                picture = item[f"observation.images.{camera}"].numpy().transpose(1, 2, 0)
                assert np.array_equal((picture * 255).round().astype(np.uint8), want.images[camera][step])
            row += 1
    actions = np.concatenate([each.action for each in episodes])
    np.testing.assert_allclose(theirs.meta.stats["action"]["mean"], actions.mean(0), atol=1e-5)
    np.testing.assert_allclose(theirs.meta.stats["action"]["max"], actions.max(0))
    assert theirs.meta.stats["observation.images.agentview"]["mean"].shape == (3, 1, 1)


def test_lerobot_reads_windows_by_time(written, lerobot_dataset):
    path, episodes = written
    theirs = lerobot_dataset("local/set", root=path, delta_timestamps={"action": [0.0, 0.05, 0.1]})
    assert np.array_equal(theirs[1]["action"].numpy(), episodes[0].action[1:4])
    assert theirs[4]["action_is_pad"].tolist() == [False, True, True]


def test_many_files_when_one_would_be_too_large(tmp_path):
    episodes = [episode(seed, 4) for seed in range(5)]
    with Writer(tmp_path / "set", SPEC, file_bytes=1000, chunk_files=2) as writer:
        for each in episodes:
            writer.add(each)
    names = sorted(str(path.relative_to(tmp_path / "set/data")) for path in (tmp_path / "set/data").rglob("*.parquet"))
    assert names[:3] == ["chunk-000/file-000.parquet", "chunk-000/file-001.parquet", "chunk-001/file-000.parquet"]
    for want, have in zip(episodes, every(Config(tmp_path / "set").make()), strict=True):
        assert np.array_equal(have.action, want.action)
        assert np.array_equal(have.images["agentview"][2], want.images["agentview"][2])


def test_row_groups_of_other_writers(written, tmp_path):
    """One row group for a whole file, columns in another order, compressed: as converters write it."""
    path, episodes = written
    copy = tmp_path / "copy"
    _copy(path, copy)
    file = next((copy / "data").rglob("*.parquet"))
    table = pq.read_table(file)
    pq.write_table(table.select(sorted(table.column_names)), file, row_group_size=11, compression="zstd")
    for want, have in zip(episodes, every(Config(copy, tolerate=("changed-since-written",)).make()), strict=True):
        assert np.array_equal(np.stack(list(have.images["robot0_eye_in_hand"])), want.images["robot0_eye_in_hand"])


def test_video_keeps_the_pictures_nearly(tmp_path):
    spec = libero_panda(64)
    y, x = np.mgrid[:64, :64]
    frames = [np.stack([x * 2 + step, y * 2, x + y + 5 * step], -1).astype(np.uint8) // 2 for step in range(8)]
    episodes = [episode(seed, 8, spec, images={name: frames for name in spec.camera_names}) for seed in range(2)]
    source = Config(write(tmp_path / "set", episodes, storage="video")).make()
    for step in (7, 0, 3):
        for number in (1, 0):
            picture = source[number].images["agentview"][step].astype(int)
            error = [np.abs(picture - other).mean() for other in frames]
            assert int(np.argmin(error)) == step and error[step] < 5
    assert np.array_equal(source[1].action, episodes[1].action)


def test_a_state_of_one_number_or_none(tmp_path):
    import dataclasses

    one = dataclasses.replace(bridge_widowx((), 8, 8), state=bridge_widowx().state[:1], state_rotation=None)
    none = dataclasses.replace(one, state=())
    for name, spec in (("one", one), ("none", none)):
        want = episode(1, 3, spec)
        have = Config(write(tmp_path / name, [want])).make()[0]
        assert have.state.shape == (3, len(spec.state)) and np.array_equal(have.state, want.state)


def test_nothing_appears_before_it_is_complete(tmp_path):
    writer = Writer(tmp_path / "set", SPEC)
    writer.add(episode(0))
    assert not (tmp_path / "set").exists()
    writer.finish()
    writer.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(ConfigError, match="finished"):
        writer.add(episode(1))
    with pytest.raises(ConfigError, match="exists already"):
        Writer(tmp_path / "set", SPEC)


def test_an_error_on_the_way_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "set", SPEC) as writer:
        writer.add(episode(0))
        raise KeyboardInterrupt
    with pytest.raises(DataError, match="at least one"), Writer(tmp_path / "empty", SPEC):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [100, 3000, 20_000], ids=["meta", "parquet-footer", "parquet-rows"])
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, limit):
    """No file may grow past ``limit`` bytes: the operating system refuses as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(DataError, match="disk: expected a writable folder with space"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            with Writer(tmp_path / "set", SPEC) as writer:
                for seed in range(3):
                    writer.add(episode(seed, 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": np.full((5, 7), np.inf, np.float32)}, "action: expected finite numbers, found inf"),
        ({"action": np.zeros((5, 7))}, "action: expected float32"),
        ({"state": np.zeros((4, 8), np.float32)}, r"state: expected float32 of shape \(5, 8\)"),
        ({"images": {}}, "camera agentview: expected 5 pictures, found 0"),
        ({"images": dict.fromkeys(SPEC.camera_names, [np.zeros((8, 8, 3), np.uint8)] * 5)}, r"shape \(16, 16, 3\)"),
        ({"info": {"no": object()}}, "JSON values"),
        ({"time": np.full(5, np.nan)}, "time"),
        ({"spec": libero_panda(17)}, "embodiment: expected libero_panda"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_episode_that_does_not_fit(tmp_path, changes, message):
    import dataclasses

    with pytest.raises(DataError, match=message), Writer(tmp_path / "set", SPEC) as writer:
        writer.add(dataclasses.replace(episode(0), **changes))
    assert not list(tmp_path.iterdir())


def test_a_set_of_another_writer_needs_a_description(written, tmp_path):
    copy = tmp_path / "copy"
    _copy(written[0], copy)
    (copy / "meta/vla.json").unlink()
    with pytest.raises(DataError, match=r"--description FILE.*--draft-description(.|\n)*action .float32, 7.: dx, dy"):
        Config(copy).make()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("meta/info.json", lambda data: data[:40], "expected JSON"),
        ("meta/info.json", lambda data: data.replace(b'"shape": [\n                7', b'"shape": [\n 6'), "shape"),
        ("meta/info.json", lambda data: data.replace(b'"dx"', b'"dz_"'), "action: names"),
        ("meta/vla.json", lambda data: data.replace(b"0.05", b"0.06"), "fingerprint"),
        ("meta/vla.json", lambda data: b"{}", "EmbodimentSpec"),
        ("meta/vla_episodes.jsonl", lambda data: data[: data[:-1].rindex(b"\n") + 1], "one an episode"),
        ("meta/tasks.parquet", lambda data: data[:-30], "Parquet"),
        ("meta/episodes/chunk-000/file-000.parquet", lambda data: data[:-30], "Parquet"),
        ("data/chunk-000/file-000.parquet", lambda data: data[: len(data) // 2], "Parquet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_named(written, tmp_path, file, change, message):
    copy = tmp_path / "copy"
    _copy(written[0], copy)
    data = (copy / file).read_bytes()
    assert change(data) != data
    (copy / file).write_bytes(change(data))
    with pytest.raises(DataError, match=message):
        every(Config(copy).make())


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target)
