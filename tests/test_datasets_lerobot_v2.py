"""LeRobot v2.0 and v2.1: what others wrote comes back, through a description; quirks are named, and read around."""

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PilImage

from vla.datasets import lerobot_v2, lerobot_v3
from vla.datasets.lerobot_source import LeRobotSource
from vla.datasets.lerobot_v2 import Config
from vla.errors import ConfigError, DataError
from vla.plugins import open_source
from vla.protocols import EpisodeSource
from vla.quirks import QuirksFound

GR1 = """
names = ["gr1"]
robot = "gr1_arms"
rate = 20.0
source = "modality.json of the data set: right_arm is 22 to 29"
[state]
columns = [
  { field = "observation.state", take = [0, 2], channels = "joint_left_0 joint_left_1" },
  { field = "observation.state", take = [22, 25], channels = "joint_0 joint_1 joint_2" },
  { field = "observation.state", take = [25, 29], channels = "joint_3 joint_4 joint_5 joint_6" },
]
[action]
mode = "absolute"
frame = "joint"
columns = [{ field = "action", take = [22, 25], channels = "joint_t0 _ joint_t2" }]
[[cameras]]
name = "ego"
field = "observation.images.ego_view"
role = "primary"
"""

ARM = """
names = ["arm"]
robot = "arm"
rate = 10.0
[state]
rotation = "euler_xyz"
columns = [
  { field = "observation.position", channels = "x y z" },
  { field = "observation.rotation", channels = "roll_x pitch_y yaw_z" },
]
[action]
mode = "delta"
frame = "base"
gripper = { closed = 1.0, open = -1.0 }
columns = [
  { field = "action.arm", channels = "_ dx dy dz", scale = 0.5 },
  { field = "action.gripper", channels = "gripper" },
]
[[cameras]]
name = "film"
field = "observation.images.film"
[[cameras]]
name = "still"
field = "observation.images.still"
bgr = true
"""
LENGTHS = (6, 4, 9)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_arm(folder: Path, version: str = "v2.1") -> list[dict[str, np.ndarray]]:
    """A set of three episodes with one camera as video and one in the tables; what is in it."""
    rng = np.random.default_rng(3)
    episodes, first = [], 0
    for number, steps in enumerate(LENGTHS):
        y, x = np.mgrid[:32, :48]
        film = [np.stack([x * 2 + 9 * step, y * 3, x + y + number * 20], -1).astype(np.uint8) for step in range(steps)]
        columns = {
            "observation.position": rng.normal(size=(steps, 3)).astype(np.float32),
            "observation.rotation": rng.normal(size=(steps, 3)),
            "action.arm": rng.normal(size=(steps, 4)).astype(np.float32),
            "action.gripper": rng.choice([-1.0, 1.0], steps).astype(np.float32),
            "film": np.stack(film),
            "still": rng.integers(0, 256, (steps, 8, 12, 3), dtype=np.uint8),
        }
        table = {
            name: list(values) if values.ndim > 1 else values
            for name, values in columns.items()
            if name not in ("film", "still")
        }
        table["observation.images.still"] = [{"bytes": png(picture), "path": None} for picture in columns["still"]]
        table |= {
            "timestamp": (np.arange(steps) / 10).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, number),
            "index": np.arange(first, first + steps),
            "task_index": np.minimum(np.arange(steps) // 5, 1) * (number == 2),
        }
        path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), path)
        columns["film"] = write_film(folder, number, film)
        episodes.append(columns)
        first += steps
    numbers = {
        "observation.position": 3,
        "observation.rotation": 3,
        "action.arm": 4,
        "action.gripper": 1,
        "timestamp": 1,
        "task_index": 1,
        "episode_index": 1,
    }
    features: dict[str, Any] = {
        name: {"dtype": "float32", "shape": [width], "names": None} for name, width in numbers.items()
    }
    features["observation.images.film"] = {
        "dtype": "video",
        "shape": [3, 32, 48],
        "names": ["channels", "height", "width"],
    }
    features["observation.images.still"] = {
        "dtype": "image",
        "shape": [8, 12, 3],
        "names": ["height", "width", "channels"],
    }
    info = {
        "codebase_version": version,
        "robot_type": "arm",
        "fps": 10,
        "chunks_size": 1000,
        "total_episodes": 3,
        "total_frames": first,
        "total_tasks": 2,
        "total_videos": 3,
        "total_chunks": 1,
        "splits": {"train": "0:2", "test": "2:3"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (folder / "meta").mkdir()
    (folder / "meta/info.json").write_text(json.dumps(info))
    lines(
        "meta/episodes.jsonl",
        folder,
        [{"episode_index": i, "length": n, "tasks": ["a"]} for i, n in enumerate(LENGTHS)],
    )
    lines("meta/tasks.jsonl", folder, [{"task_index": 0, "task": "wipe"}, {"task_index": 1, "task": "dry"}])
    lines("meta/episodes_stats.jsonl", folder, [{"episode_index": i, "stats": {}} for i in range(3)])
    (folder / "meta/stats.json").write_text(json.dumps({key: {} for key in numbers}))
    (folder.parent / "arm.toml").write_text(ARM)
    return episodes


def stated(folder: Path, said: dict[str, Any]) -> None:
    """Statistics of one episode and one feature, as given."""
    lines("meta/episodes_stats.jsonl", folder, [{"episode_index": 1, "stats": {"action.arm": said}}])


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def write_film(folder: Path, number: int, pictures: list[np.ndarray]) -> np.ndarray:
    path = folder / f"videos/chunk-000/observation.images.film/episode_{number:06d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"g": "4"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return decoded(path)


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(pictures)


def lines(name: str, folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def every(source: EpisodeSource) -> list[Any]:
    return [source[index] for index in range(len(source))]


def all_of(path: Path, **options: Any) -> LeRobotSource:
    """Both splits, which the fixture's info.json names."""
    value = json.loads((path / "meta/info.json").read_text())
    value["splits"] = {"train": "0:3"}
    (path / "meta/info.json").write_text(json.dumps(value))
    return Config(path, description=path.parent / "arm.toml", **options).make()


# -- the real sample


@pytest.fixture
def gr1(shared_data, tmp_path) -> tuple[Path, Path]:
    (tmp_path / "gr1.toml").write_text(GR1)
    return shared_data / "lerobot_v20_gr1_pick_place", tmp_path / "gr1.toml"


def test_the_real_sample_is_refused_with_exactly_its_quirks(gr1):
    with pytest.raises(QuirksFound) as caught:
        open_source(gr1[0], description=gr1[1])
    have = [(quirk.kind, quirk.field, quirk.expected, quirk.found) for quirk in caught.value.quirks]
    film = "videos/chunk-000/observation.images.egoview/episode_000000.mp4"
    assert have == [
        (
            "missing-camera",
            "features: observation.images.egoview",
            "the videos of a declared camera",
            f"none of the 5 episodes has one, e.g. {film}",
        ),
        ("wrong-total", "total_videos", "5, the files that are there", "2"),
        ("late-timestamps", "timestamp", "0 in an episode's first step", "0.05 s (episode 0, 1, 2, 3 and 1 more)"),
        ("wrong-total", "total_chunks", "1, as there are", "0"),
        ("wrong-splits", "splits: train", "a range within 0:5", "'0:100'"),
    ]
    assert "--tolerate missing-camera wrong-total late-timestamps wrong-splits" in str(caught.value)
    with pytest.raises(QuirksFound) as caught:
        open_source(gr1[0], description=gr1[1], tolerate=("missing-camera", "late-timestamps", "wrong-splits"))
    assert {quirk.kind for quirk in caught.value.quirks} == {"wrong-total"}


def test_the_real_sample_is_read_whole_when_told_to(gr1, caplog):
    source = open_source(gr1[0], description=gr1[1], tolerate=("all",))
    assert len(caplog.records) == 5 and len(source.quirks) == 5
    assert source.lengths.tolist() == [416, 470, 470, 412, 328] and source.lengths.sum() == 2096
    assert [(camera.name, camera.height, camera.width) for camera in source.spec.cameras] == [("ego", 256, 256)]
    texts = [json.loads(line)["tasks"][0] for line in (gr1[0] / "meta/episodes.jsonl").read_text().splitlines()]
    for index in range(5):
        episode = source[index]
        table = pq.read_table(gr1[0] / f"data/chunk-000/episode_{index:06d}.parquet")
        state, action = (np.array(table[name].to_pylist()) for name in ("observation.state", "action"))
        assert np.array_equal(episode.state, state[:, [0, 1, *range(22, 29)]].astype(np.float32))
        assert np.array_equal(episode.action, action[:, [22, 24]].astype(np.float32))
        assert episode.instruction == texts[index]
        np.testing.assert_allclose(episode.time, np.arange(len(episode)) / 20, atol=1e-3)
        pictures = decoded(gr1[0] / f"videos/chunk-000/observation.images.ego_view/episode_{index:06d}.mp4")
        assert len(pictures) == len(episode)
        for step in (len(episode) - 1, 0, 1, len(episode) // 2):
            assert np.array_equal(episode.images["ego"][step], pictures[step])


def test_the_real_sample_without_a_description_lists_what_there_is(gr1):
    with pytest.raises(DataError) as caught:
        open_source(gr1[0])
    for part in (
        "--description FILE",
        "--draft-description",
        "observation.state (float64, 44): motor_0, motor_1",
        "observation.images.ego_view (video, 256x256x3)",
        "meta/modality.json: action.right_arm = action[22:29]",
    ):
        assert part in str(caught.value)


def test_meta_without_data_names_the_first_missing_file(shared_data, tmp_path):
    shutil.copytree(shared_data / "libero_reference/lerobot_v21_meta", tmp_path / "set/meta")
    with pytest.raises(DataError, match=r"data/chunk-000/episode_000000\.parquet: file: .*found nothing there"):
        open_source(tmp_path / "set")


# -- a set of our own making


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_columns_are_joined_and_made_canonical(tmp_path, version):
    want = write_arm(tmp_path / "set", version)
    assert lerobot_v2.accepts(tmp_path / "set") and not lerobot_v3.accepts(tmp_path / "set")
    source = all_of(tmp_path / "set")
    assert isinstance(source, EpisodeSource) and source.quirks == ()
    assert source.spec.state_names == ("x", "y", "z", "roll_x", "pitch_y", "yaw_z")
    assert source.spec.action.names == ("dx", "dy", "dz", "gripper")
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own, as a worker gets it
    for have, worker, columns in zip(every(source), every(again), want, strict=True):
        state = np.concatenate([columns["observation.position"], columns["observation.rotation"]], 1)
        assert np.array_equal(have.state, state.astype(np.float32))
        assert np.array_equal(have.action[:, :3], columns["action.arm"][:, 1:] * 0.5)
        assert np.array_equal(have.action[:, 3], (1 - columns["action.gripper"]) / 2)
        assert np.array_equal(np.stack(list(have.images["film"])), columns["film"])
        assert np.array_equal(np.stack(list(have.images["still"])), columns["still"][..., ::-1])
        assert np.array_equal(worker.action, have.action)
        assert np.array_equal(worker.images["film"][2], columns["film"][2])
    assert [episode.instruction for episode in every(source)] == ["wipe"] * 3
    assert source[2].info == {"instruction_changes": [[5, "dry"]]} and source[0].info == {}
    raw = all_of(tmp_path / "set", fixes=False)
    assert np.array_equal(raw[0].action[:, 3], want[0]["action.gripper"]) and raw.content != source.content


def test_splits(tmp_path):
    write_arm(tmp_path / "set")
    options = {"description": tmp_path / "arm.toml"}
    assert open_source(tmp_path / "set", **options).lengths.tolist() == [6, 4]
    test = open_source(tmp_path / "set", split="test", **options)
    assert test.lengths.tolist() == [9] and test[0].source == "set[2]"
    with pytest.raises(ConfigError, match="no split 'valid'; there are train, test"):
        open_source(tmp_path / "set", split="valid", **options)


def test_the_index_is_made_once_and_anew_after_a_change(tmp_path):
    write_arm(tmp_path / "set")
    told: list[tuple[int, int]] = []
    first = all_of(tmp_path / "set", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 6) and first.index_file.parent == tmp_path / "cache/vla"
    told.clear()
    second = all_of(tmp_path / "set", progress=lambda done, total: told.append((done, total)))
    made_anew_by_writing_info = len(told)
    third = Config(tmp_path / "set", description=tmp_path / "arm.toml", progress=lambda *_: told.append((0, 0))).make()
    assert len(told) == made_anew_by_writing_info and third.content == second.content
    path = tmp_path / "set/data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    column = table.column_names.index("action.gripper")
    pq.write_table(table.set_column(column, "action.gripper", pa.array(np.ones(4, np.float32))), path)
    changed = Config(tmp_path / "set", description=tmp_path / "arm.toml").make()
    assert changed.content != third.content and (changed[1].action[:, 3] == 0).all()
    changed.index_file.write_bytes(changed.index_file.read_bytes()[:100])
    assert (Config(tmp_path / "set", description=tmp_path / "arm.toml").make()[1].action[:, 3] == 0).all()


def change_info(folder: Path, **changes: Any) -> None:
    value = json.loads((folder / "meta/info.json").read_text()) | changes
    (folder / "meta/info.json").write_text(json.dumps(value))


def change_table(folder: Path, number: int, change: Callable[[pa.Table], pa.Table]) -> None:
    path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def with_column(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values))


def remove_film(folder: Path, number: int) -> None:
    (folder / f"videos/chunk-000/observation.images.film/episode_{number:06d}.mp4").unlink()


def cut_film(folder: Path) -> None:
    path = folder / "videos/chunk-000/observation.images.film/episode_000001.mp4"
    path.write_bytes(path.read_bytes()[:400])


def short_film(folder: Path) -> None:
    write_film(folder, 2, [np.full((32, 48, 3), step, np.uint8) for step in range(7)])


def declare_camera(folder: Path, dtype: str) -> None:
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    change_info(folder, features=features | {"observation.images.none": {"dtype": dtype, "shape": [8, 8, 3]}})


def declare_size(folder: Path) -> None:
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    features["observation.images.film"]["shape"] = [3, 64, 64]
    change_info(folder, features=features)


@pytest.mark.parametrize(
    ("kind", "change", "found", "lengths"),
    [
        ("missing-camera", lambda f: declare_camera(f, "video"), "none of the 3 episodes has one", LENGTHS),
        ("missing-camera", lambda f: declare_camera(f, "image"), "none in episode_000000.parquet", LENGTHS),
        ("missing-video", lambda f: (remove_film(f, 1), change_info(f, total_videos=2)), r"none .episode 1.", (6, 9)),
        ("broken-video", cut_film, "one that does not open", (6, 9)),
        ("short-video", short_film, r"for 7 .episode 2.", (6, 4, 7)),
        ("wrong-size", declare_size, "videos of 32x48", LENGTHS),
        ("missing-data", lambda f: (f / "data/chunk-000/episode_000000.parquet").unlink(), "nothing there", (4, 9)),
        ("wrong-total", lambda f: change_info(f, total_episodes=4), "4", LENGTHS),
        ("wrong-total", lambda f: change_info(f, total_frames="19"), "'19'", LENGTHS),
        ("wrong-total", lambda f: change_info(f, total_tasks=7), "7", LENGTHS),
        (
            "wrong-length",
            lambda f: lines(
                "meta/episodes.jsonl", f, [{"episode_index": i, "length": n} for i, n in enumerate((6, 3, 9))]
            ),
            r"3 .episode 1.",
            LENGTHS,
        ),
        (
            "episode-gap",
            lambda f: (
                lines("meta/episodes.jsonl", f, [{"episode_index": i, "length": LENGTHS[i]} for i in (2, 0)]),
                change_info(f, total_episodes=2, total_frames=15),
            ),
            "no episode 1, 1 missing in all",
            (6, 9),
        ),
        ("wrong-episode-index", lambda f: change_table(f, 1, with_column("episode_index", [7] * 4)), "7", LENGTHS),
        (
            "late-timestamps",
            lambda f: change_table(f, 0, with_column("timestamp", np.arange(6) / 10 + 3)),
            "3 s",
            LENGTHS,
        ),
        (
            "uneven-timestamps",
            lambda f: change_table(f, 1, with_column("timestamp", [0, 0.1, 0.5, 0.6])),
            "0.5",
            LENGTHS,
        ),
        (
            "missing-timestamps",
            lambda f: [change_table(f, n, lambda t: t.drop(["timestamp"])) for n in range(3)],
            "none",
            LENGTHS,
        ),
        (
            "not-finite",
            lambda f: change_table(f, 1, with_column("action.gripper", [1.0, float("nan"), 1, 1])),
            r"nan in step 1 .episode 1.",
            (6, 9),
        ),
        (
            "task-without-text",
            lambda f: lines("meta/tasks.jsonl", f, [{"task_index": 0, "task": "a"}, {"task_index": 1}]),
            "task 1",
            LENGTHS,
        ),
        ("missing-statistics", lambda f: (f / "meta/episodes_stats.jsonl").unlink(), "nothing there", LENGTHS),
        *(
            ("wrong-statistics", lambda f, said=said: stated(f, said), found, LENGTHS)
            for said, found in (
                ({"max": [0, 0, 0, 9e9]}, "9000000000.0] .episode 1"),
                ({"mean": [0.0, 0.0, 0.0]}, "0.0, 0.0, 0.0] .episode 1"),
                ({"min": [10**400, 0, 0, 0]}, "0000"),
                ({"min": "x"}, "'x'"),
                ({"max": [float("nan")] * 4}, "nan"),
            )
        ),
    ],
)
def test_a_quirk_is_named_once_and_read_around_when_tolerated(tmp_path, kind, change, found, lengths):
    import re

    want = write_arm(tmp_path / "set")
    change(tmp_path / "set")
    if kind == "episode-gap":
        (tmp_path / "set/data/chunk-000/episode_000001.parquet").unlink()
    with pytest.raises(QuirksFound) as caught:
        all_of(tmp_path / "set")
    quirks = [quirk for quirk in caught.value.quirks if quirk.kind not in ("wrong-splits",)]
    expected_kinds = {kind} | ({"wrong-total"} if kind in ("missing-data",) else set())
    assert {quirk.kind for quirk in quirks} == expected_kinds
    quirk = next(quirk for quirk in quirks if quirk.kind == kind)
    assert re.search(found, quirk.found) and quirk.file.startswith(str(tmp_path / "set"))
    source = all_of(tmp_path / "set", tolerate=("all",))
    assert tuple(source.lengths) == tuple(lengths)
    kept = [0, 1, 2] if len(lengths) == 3 else [n for n in range(3) if LENGTHS[n] in lengths]
    for have, number in zip(every(source), kept, strict=True):
        assert np.array_equal(have.images["still"][1], want[number]["still"][1][..., ::-1])
        assert have.images["film"][len(have) - 1].shape == (32, 48, 3)
        assert len(have.state) == len(have.action) == len(have.time) == len(have)


def test_a_wrong_split_is_cut(tmp_path):
    write_arm(tmp_path / "set")
    change_info(tmp_path / "set", splits={"train": "0:100"})
    with pytest.raises(QuirksFound, match="wrong-splits"):
        Config(tmp_path / "set", description=tmp_path / "arm.toml").make()
    options = {"description": tmp_path / "arm.toml", "tolerate": ("wrong-splits",)}
    assert len(Config(tmp_path / "set", **options).make()) == 3


def flip_page(folder: Path) -> None:
    """One byte of the numbers, in a file that has checksums."""
    path = folder / "data/chunk-000/episode_000002.parquet"
    table = pq.read_table(path)
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    place = pq.ParquetFile(path).metadata.row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[place.data_page_offset + place.total_compressed_size - 3] ^= 16
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "meta/info.json").write_text("[" * 100_000), "expected JSON"),
        (lambda f: (f / "meta/info.json").write_text('{"codebase_version": "v2.1"}'), "fps: expected"),
        (lambda f: change_info(f, fps=float("inf")), "fps: expected"),
        (lambda f: change_info(f, fps=0), "fps: expected"),
        (lambda f: change_info(f, features={"action.arm": {"dtype": "float32", "shape": [-1]}}), "list of sizes"),
        (lambda f: change_info(f, features={"a": {"dtype": "float32", "shape": [2**19] * 3}}), "numbers a step"),
        (lambda f: change_info(f, data_path="/etc/{episode_index}"), "expected a relative path"),
        (lambda f: change_info(f, data_path="../{episode_index}"), "expected a relative path"),
        (lambda f: change_info(f, data_path="[" * 300 + "{episode_index}"), "no file can have that name"),
        (lambda f: change_info(f, data_path="a\0{episode_index}"), "no file can have that name"),
        (lambda f: change_info(f, video_path="a/" * 500 + "{episode_index}"), "no file can have that name"),
        (lambda f: change_info(f, data_path="{episode_index:0999999999d}"), "expected a relative path"),
        (lambda f: change_info(f, data_path="{episode_index.real}"), "expected a relative path"),
        (lambda f: change_info(f, chunks_size=0), "chunks_size"),
        (lambda f: (f / "meta/episodes.jsonl").write_text("{\n"), "line 1: expected JSON"),
        (lambda f: (f / "meta/episodes.jsonl").write_text("3\n"), "line 1: expected a JSON object"),
        (lambda f: (f / "meta/episodes.jsonl").write_text(""), "at least one"),
        (lambda f: lines("meta/episodes.jsonl", f, [{"episode_index": 0, "length": -4}]), "line 1: length"),
        (lambda f: lines("meta/episodes.jsonl", f, [{"episode_index": 0, "length": 4}] * 2), "0 twice"),
        (lambda f: (f / "meta/tasks.jsonl").unlink(), "tasks.jsonl"),
        (lambda f: (f / "data/chunk-000/episode_000001.parquet").write_bytes(b"PAR1"), "a whole Parquet file"),
        (lambda f: change_table(f, 1, lambda t: t.drop(["action.arm"])), r"expected columns action\.arm"),
        (lambda f: change_table(f, 1, with_column("action.arm", [[1.0] * 3] * 4)), "expected 4 numbers a row, found 3"),
        (lambda f: change_table(f, 1, with_column("action.arm", [[1.0] * 3, [1.0] * 5] * 2)), "lists of 3 and of 5"),
        (lambda f: change_table(f, 1, with_column("action.arm", [None, [1.0] * 4] * 2)), "no missing values"),
        (lambda f: change_table(f, 1, with_column("action.arm", ["a"] * 4)), "numbers a row"),
        (
            lambda f: change_table(f, 0, with_column("observation.images.still", [{"bytes": None, "path": "a"}] * 6)),
            "files of their own",
        ),
        (flip_page, "episode_000002.parquet: table: expected a whole Parquet file.*CRC"),
    ],
)
def test_damage_is_one_error(tmp_path, change, message):
    write_arm(tmp_path / "set")
    change(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        Config(tmp_path / "set", description=tmp_path / "arm.toml", tolerate=("all",)).make()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('field = "action.arm"', 'field = "action.leg"', "expected a field of numbers"),
        ('"observation.images.film"', '"observation.images.fill"', "expected a camera"),
        ("_ dx dy dz", "_ dx dy dz joint_4", "at least 5 numbers a step"),
        ("rate = 10.0", 'rate = 10.0\ninstruction = "text"', "column of the instruction"),
    ],
)
def test_a_description_that_does_not_fit(tmp_path, old, new, message):
    write_arm(tmp_path / "set")
    assert old in ARM
    (tmp_path / "arm.toml").write_text(ARM.replace(old, new))
    with pytest.raises(DataError, match=message):
        Config(tmp_path / "set", description=tmp_path / "arm.toml").make()


def test_an_instruction_in_a_column_of_its_own(tmp_path):
    write_arm(tmp_path / "set")
    folder = tmp_path / "set"
    for number, steps in enumerate(LENGTHS):
        change_table(folder, number, lambda table, n=number, s=steps: table.append_column("say", [[f"do {n}"] * s]))
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    change_info(folder, features=features | {"say": {"dtype": "string", "shape": [1]}})
    (tmp_path / "arm.toml").write_text(ARM.replace("rate = 10.0", 'rate = 10.0\ninstruction = "say"'))
    assert [episode.instruction for episode in every(all_of(folder))] == ["do 0", "do 1", "do 2"]
