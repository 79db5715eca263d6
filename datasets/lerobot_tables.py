"""The tables of a LeRobot v3.0 data set: episodes, tasks and columns of numbers, read with pyarrow and checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.datasets.lerobot_layout import INFO_FILE
from vla.errors import DataError

VERSION = "v3.0"


@dataclass(frozen=True)
class EpisodeTable:
    """Where each episode lies.

    Attributes:
        lengths: steps.
        starts: number of the first step, counted over all episodes in their order.
        files: the data files.
        file: which of them an episode is in.
        first_row: its first row there.
        videos: feature name to the file and the start [s] of each episode.
    """

    lengths: Int64[np.ndarray, "n"]
    starts: Int64[np.ndarray, "n"]
    files: tuple[Path, ...]
    file: Int64[np.ndarray, "n"]
    first_row: Int64[np.ndarray, "n"]
    videos: dict[str, list[tuple[Path, float]]]


def read_info(folder: Path) -> dict[str, Any]:
    """``meta/info.json``, with the fields that are read here checked.

    Raises:
        DataError: it is missing, is not JSON, lacks a field or is of another version.
    """
    path = folder / INFO_FILE
    try:
        info = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(path, "file", expected="a readable file", found=error.strerror or str(error)) from error
    except ValueError as error:
        raise DataError(path, "file", expected="JSON", found=str(error)) from error
    version = info.get("codebase_version") if isinstance(info, dict) else None
    if version != VERSION:
        raise DataError(path, "codebase_version", expected=VERSION, found=repr(version))
    for field, kind in (("features", dict), ("fps", (int, float)), ("data_path", str)):
        if not isinstance(info.get(field), kind):
            raise DataError(path, field, expected="as LeRobot v3.0 has it", found=repr(info.get(field)))
    return info


def read_episodes(folder: Path, info: dict[str, Any], videos: Sequence[str]) -> EpisodeTable:
    """Where each episode lies.

    Raises:
        DataError: a table is missing or damaged, or its numbers contradict each other.
    """
    columns = ["episode_index", "length", "dataset_from_index", "dataset_to_index"]
    columns += ["data/chunk_index", "data/file_index"]
    for key in videos:
        columns += [f"videos/{key}/{field}" for field in ("chunk_index", "file_index", "from_timestamp")]
    paths = sorted((folder / "meta/episodes").glob("*/*.parquet"))
    if not paths:
        raise DataError(folder / "meta/episodes", "files", expected="at least one Parquet file", found="none")
    parts = [_read_parquet(path, columns) for path in paths]
    table = {name: np.concatenate([part[name].to_numpy(zero_copy_only=False) for part in parts]) for name in columns}
    order = np.argsort(table["episode_index"], kind="stable")
    table = {name: values[order] for name, values in table.items()}
    count = len(order)
    where = folder / "meta/episodes"
    if not np.array_equal(table["episode_index"], np.arange(count)) or not count:
        raise DataError(where, "episode_index", expected="0, 1, 2, ...", found=str(table["episode_index"][:8]))
    lengths = table["length"].astype(np.int64)
    if (lengths < 1).any() or not np.array_equal(table["dataset_to_index"] - table["dataset_from_index"], lengths):
        raise DataError(where, "length", expected="above 0 and equal to the range of rows", found="others")
    places = np.stack([table["data/chunk_index"], table["data/file_index"]], axis=1).astype(np.int64)
    files, file = np.unique(places, axis=0, return_inverse=True)
    file = file.reshape(-1)
    first = table["dataset_from_index"].astype(np.int64)
    first_of_file = np.array([first[file == number].min() for number in range(len(files))])
    try:
        data = tuple(folder / info["data_path"].format(chunk_index=int(a), file_index=int(b)) for a, b in files)
        films = {key: _videos(folder, info, table, key) for key in videos}
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        expected = "templates with chunk_index and file_index"
        raise DataError(folder / INFO_FILE, "data_path, video_path", expected=expected, found=str(error)) from error
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return EpisodeTable(lengths, starts, data, file, first - first_of_file[file], films)


def read_tasks(folder: Path) -> dict[int, str]:
    """Texts of the tasks by number.

    Raises:
        DataError: the table is missing or damaged.
    """
    path = folder / "meta/tasks.parquet"
    table = _read_parquet(path, None)
    text = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
    if text is None or "task_index" not in table.column_names:
        raise DataError(path, "columns", expected="task and task_index", found=", ".join(table.column_names))
    return dict(zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True))


def read_columns(folder: Path, episodes: EpisodeTable, widths: dict[str, int]) -> dict[str, np.ndarray]:
    """Columns of numbers, each of shape (steps, width), rows in the order of the episodes.

    Raises:
        DataError: a file is missing, damaged or too short, or a column is not as wide as it should be.
    """
    parts: list[dict[str, np.ndarray]] = []
    for path in episodes.files:
        table = _read_parquet(path, [*widths, "episode_index"])
        part = {name: _matrix(table[name], width, path, name) for name, width in widths.items()}
        parts.append(part | {"episode_index": table["episode_index"].to_numpy(zero_copy_only=False)})
    for index, length in enumerate(episodes.lengths):
        number, first = int(episodes.file[index]), int(episodes.first_row[index])
        owner = parts[number]["episode_index"][first : first + length]
        if len(owner) != length or (owner != index).any():
            rows = f"rows {first} to {first + length}"
            found = f"{len(owner)} rows of episodes {np.unique(owner).tolist()}"
            raise DataError(episodes.files[number], rows, expected=f"episode {index}", found=found)
    starts = zip(episodes.file.tolist(), episodes.first_row.tolist(), episodes.lengths.tolist(), strict=True)
    places = list(starts)
    return {
        name: np.concatenate([parts[file][name][first : first + length] for file, first, length in places])
        for name in widths
    }


def _videos(folder: Path, info: dict[str, Any], table: dict[str, np.ndarray], key: str) -> list[tuple[Path, float]]:
    chunks, files, starts = (table[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index", "from_timestamp"))
    return [
        (folder / info["video_path"].format(video_key=key, chunk_index=int(a), file_index=int(b)), float(start))
        for a, b, start in zip(chunks, files, starts, strict=True)
    ]


def _read_parquet(path: Path, columns: list[str] | None) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            missing = set(columns or ()) - set(file.schema_arrow.names)
            if missing:
                found = ", ".join(file.schema_arrow.names)
                raise DataError(path, "columns", expected=", ".join(sorted(missing)), found=found)
            return file.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise DataError(path, "table", expected="a Parquet file", found=str(error)) from error


def _matrix(column: Any, width: int, path: Path, name: str) -> np.ndarray:
    import pyarrow as pa

    if column.null_count:
        raise DataError(path, name, expected="no missing values", found=f"{column.null_count}")
    rows = len(column)
    values = column.combine_chunks()
    while isinstance(values, pa.FixedSizeListArray | pa.ListArray | pa.LargeListArray):
        values = values.flatten()
    numbers = values.to_numpy(zero_copy_only=False)
    if len(numbers) != rows * width or numbers.dtype.kind not in "fiu":
        expected, found = f"{rows} rows x {width} numbers", f"{len(numbers)} of {numbers.dtype}"
        raise DataError(path, name, expected=expected, found=found)
    return numbers.reshape(rows, width)
