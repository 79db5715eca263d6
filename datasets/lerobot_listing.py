"""The episodes that a LeRobot data set's tables list, and where they say each lies; v2 and v3 give the same arrays."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from vla.datasets.lerobot_info import Info
from vla.datasets.lerobot_parquet import integers, read_table
from vla.errors import DataError

_VIDEO_COLUMNS = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
_LONGEST_LINE = 64 * 2**20  # bytes; v2.1 has statistics of an episode on one line, some 20 kB


@dataclass(frozen=True)
class Listing:
    """Episodes in the order of their numbers.

    Attributes:
        file: the table, for errors.
        number: ``episode_index``.
        length: steps that the table gives it.
        place: chunk and file number of its data.
        first: number of its first row, counted over all data files; None where the table does not say.
        videos: feature name to chunk and file number of each episode's video, for features that the table has.
        video_start: feature name to the time [s] in that video where each episode begins.
        video_end: where it ends; infinite where the table does not say.
    """

    file: Path
    number: Int64[np.ndarray, "n"]
    length: Int64[np.ndarray, "n"]
    place: Int64[np.ndarray, "n 2"]
    first: Int64[np.ndarray, "n"] | None
    videos: dict[str, Int64[np.ndarray, "n 2"]]
    video_start: dict[str, Float64[np.ndarray, "n"]]
    video_end: dict[str, Float64[np.ndarray, "n"]]


@dataclass(frozen=True)
class Tables:
    """How one version of the format writes its tables.

    Attributes:
        episodes: reads the episodes.
        tasks: reads the texts by number.
        statistics: the file that should hold the statistics.
    """

    episodes: Callable[[Info], Listing]
    tasks: Callable[[Info], dict[int, str | None]]
    statistics: str


def episodes_v2(info: Info) -> Listing:
    """``meta/episodes.jsonl``: one file of data and one of each camera an episode.

    Raises:
        DataError: the table is missing or damaged.
    """
    path = info.folder / "meta/episodes.jsonl"
    rows = [
        (_integer(path, line, row, "episode_index"), _integer(path, line, row, "length"))
        for line, row in read_lines(path)
    ]
    table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 2)
    number, length = table[:, 0].copy(), table[:, 1].copy()
    _check_episodes(path, number, length)
    place = np.stack([number // info.chunk, number], axis=1)
    keys = [feature.name for feature in info.cameras if feature.dtype == "video"]
    start, end = (dict.fromkeys(keys, np.full(len(number), time)) for time in (0.0, np.inf))
    return Listing(path, number, length, place, None, dict.fromkeys(keys, place), start, end)


def episodes_v3(info: Info) -> Listing:
    """``meta/episodes/*/*.parquet``: many episodes in one file of data or video.

    Raises:
        DataError: a table is missing or damaged, or its numbers contradict each other.
    """
    where = info.folder / "meta/episodes"
    paths = sorted(where.glob("*/*.parquet"))
    if not paths:
        raise DataError(where, "files", expected="at least one Parquet file", found="none")
    videos = {
        feature.name: [f"videos/{feature.name}/{field}" for field in _VIDEO_COLUMNS]
        for feature in info.cameras
        if feature.dtype == "video"
    }
    plain = ["episode_index", "length", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index"]
    optional = [name for names in videos.values() for name in names]
    parts = [read_table(path, plain, optional) for path in paths]
    whole = [name for name in optional if all(name in part for part in parts)]
    table = {name: np.concatenate([integers(part, name, where) for part in parts]) for name in plain}
    table |= {
        name: np.concatenate([part[name].to_numpy(zero_copy_only=False).astype(np.float64) for part in parts])
        for name in whole
    }
    order = np.argsort(table["episode_index"], kind="stable")
    table = {name: values[order] for name, values in table.items()}
    length = table["length"]
    _check_episodes(where, table["episode_index"], length)
    if not np.array_equal(table["dataset_to_index"] - table["dataset_from_index"], length):
        row = int(np.flatnonzero(table["dataset_to_index"] - table["dataset_from_index"] != length)[0])
        span = f"{table['dataset_from_index'][row]} to {table['dataset_to_index'][row]}"
        expected = f"dataset_from_index and dataset_to_index {length[row]} apart"
        raise DataError(where, f"episode {table['episode_index'][row]}", expected=expected, found=span)
    whole_videos = {key: names for key, names in videos.items() if all(name in whole for name in names)}
    for key, names in whole_videos.items():
        if not all((np.isfinite(table[name]) & (table[name] >= 0) & (table[name] < 2**40)).all() for name in names):
            raise DataError(where, f"videos/{key}", expected="places and times", found="a negative or missing one")
    place = np.stack([table["data/chunk_index"], table["data/file_index"]], axis=1)
    if (place < 0).any():
        raise DataError(where, "data/chunk_index, data/file_index", expected="0 or more", found=str(place.min()))
    return Listing(
        file=where,
        number=table["episode_index"],
        length=length,
        place=place,
        first=table["dataset_from_index"],
        videos={
            key: np.stack([table[names[0]], table[names[1]]], axis=1).astype(np.int64)
            for key, names in whole_videos.items()
        },
        video_start={key: table[names[2]] for key, names in whole_videos.items()},
        video_end={key: table[names[3]] for key, names in whole_videos.items()},
    )


def tasks_v2(info: Info) -> dict[int, str | None]:
    """Texts of ``meta/tasks.jsonl`` by number; None for one without a text.

    Raises:
        DataError: the table is missing or damaged.
    """
    path = info.folder / "meta/tasks.jsonl"
    return {_integer(path, line, row, "task_index"): _text(row.get("task")) for line, row in read_lines(path)}


def tasks_v3(info: Info) -> dict[int, str | None]:
    """Texts of ``meta/tasks.parquet`` by number; None for one without a text.

    Raises:
        DataError: the table is missing or damaged.
    """
    path = info.folder / "meta/tasks.parquet"
    table = read_table(path, ["task_index"], ["task", "__index_level_0__"])
    name = next((name for name in ("task", "__index_level_0__") if name in table), None)
    if name is None:
        raise DataError(path, "columns", expected="task and task_index", found=", ".join(table))
    texts = [_text(value) for value in table[name].to_pylist()]
    return dict(zip(integers(table, "task_index", path).tolist(), texts, strict=True))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a JSON-lines file with their line numbers; empty lines are skipped.

    Raises:
        DataError: a line is not one.
    """
    try:
        with path.open("rb") as file:
            line = 0
            while text := file.readline(_LONGEST_LINE):
                line += 1
                if not text.strip():
                    continue
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise DataError(path, f"line {line}", expected="a JSON object", found=repr(row)[:80])
                yield line, row
    except OSError as error:
        raise DataError(path, "file", expected="a readable file", found=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"line {line}", expected="JSON", found=str(error)) from error


def _integer(path: Path, line: int, row: dict[str, Any], field: str) -> int:
    value = row.get(field)
    if type(value) is not int or not 0 <= value < 2**40:
        raise DataError(path, f"line {line}: {field}", expected="a number, 0 or more", found=repr(value)[:80])
    return value


def _check_episodes(file: Path, number: Int64[np.ndarray, "n"], length: Int64[np.ndarray, "n"]) -> None:
    if not len(number):
        raise DataError(file, "episodes", expected="at least one", found="none")
    twice = np.flatnonzero(np.diff(number) == 0)
    if len(twice):
        raise DataError(file, "episode_index", expected="each once", found=f"{number[twice[0]]} twice")
    for name, values, low in (("episode_index", number, 0), ("length", length, 1)):
        wrong = np.flatnonzero((values < low) | (values >= 2**40))
        if len(wrong):
            raise DataError(file, f"{name}, row {wrong[0]}", expected=f"{low} or more", found=str(values[wrong[0]]))
