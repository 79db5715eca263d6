"""LeRobot v2.0 and v2.1 sets with something wrong: quirks are named and read around, damage is one error."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_files import LENGTHS, all_of, change_info, change_table, every, lines, with_column, write_arm, write_film

from vla.datasets.lerobot_v2 import Config
from vla.errors import DataError
from vla.quirks import QuirksFound

pytestmark = pytest.mark.usefixtures("own_cache")


def stated(folder: Path, said: dict[str, Any]) -> None:
    """Statistics of one episode and one feature, as given."""
    lines("meta/episodes_stats.jsonl", folder, [{"episode_index": 1, "stats": {"action.arm": said}}])


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
