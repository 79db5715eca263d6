"""The files below ``meta/`` of a LeRobot v3.0 data set, written by ourselves in one pass over the journal.

LeRobot's own class for them rewrites info.json and stats.json after every episode, cannot be gone on with after a kill,
and imports torch.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np

from vla.datasets.embodiment_file import embodiment_text
from vla.datasets.lerobot_layout import (
    ACTION,
    CHUNK_FILES,
    DATA_PATH,
    EPISODES_FILE,
    EPISODES_PATH,
    INDEX_FEATURES,
    INFO_FILE,
    MANIFEST_FILE,
    SPEC_FILE,
    STATE,
    STATS_FILE,
    TASKS_FILE,
    VIDEO_PATH,
    camera_key,
    features_of,
)
from vla.datasets.lerobot_statistics import Pool, quantiles
from vla.datasets.manifest import Sum, folder_sums, manifest_text
from vla.datasets.video_writer import VideoOptions
from vla.embodiment import EmbodimentSpec

_ROWS_A_FILE, _ROWS_A_GROUP = 50_000, 500

Rows = Iterable[tuple[int, dict[str, Any]]]
"""Number of the data file and what is known of an episode: length, task, tasks' text, stats, videos, extra."""


@dataclass(frozen=True)
class Layout:
    """What stays the same over a data set.

    Attributes:
        spec: embodiment.
        video: how cameras are encoded; None if pictures lie in the tables.
        file_bytes: size from which a data file is full.
        chunk_files: data files in a folder.
    """

    spec: EmbodimentSpec
    video: VideoOptions | None
    file_bytes: int
    chunk_files: int = CHUNK_FILES

    @property
    def rate(self) -> float | int:
        """Pictures a second, as a whole number if it is one."""
        rate = self.spec.action.rate
        return int(rate) if rate == round(rate) else rate

    def data(self, number: int) -> str:
        """Path of a data file."""
        chunk, file = divmod(number, self.chunk_files)
        return DATA_PATH.format(chunk_index=chunk, file_index=file)

    def film(self, camera: str, number: int) -> str:
        """Path of a video file."""
        chunk, file = divmod(number, self.chunk_files)
        return VIDEO_PATH.format(video_key=camera_key(camera), chunk_index=chunk, file_index=file)


def write_metadata(root: Path, layout: Layout, rows: Rows, tasks: dict[str, int], sums: Mapping[str, Sum]) -> None:
    """Write everything below ``meta/``.

    Args:
        root: the data set, whose data files are complete.
        layout: of the data set.
        rows: of all episodes in order; gone through once.
        tasks: text to number.
        sums: of the data files.
    """
    (root / "meta").mkdir(exist_ok=True)
    pools: dict[str, Pool] = {}
    totals = {"episodes": 0, "frames": 0, "files": 0}
    with (root / EPISODES_FILE).open("w") as extra:

        def told() -> Iterator[dict[str, Any]]:
            for number, row in rows:
                for name, stats in row["stats"].items():
                    pools.setdefault(name, Pool()).add(stats)
                extra.write(json.dumps(row["extra"]) + "\n")
                yield _episode(layout, number, row, totals)
                totals["episodes"] += 1
                totals["frames"] += row["length"]
                totals["files"] = number + 1

        _write_episodes(root, told())
    _write_tasks(root, tasks)
    stats = {}
    for name, pool in pools.items():
        true = None
        if name in (STATE, ACTION):
            files = [root / layout.data(number) for number in range(totals["files"])]
            true = quantiles(_column(files, name), *pool.ends())
        stats[name] = pool.finish(true)
    (root / STATS_FILE).write_text(json.dumps(stats, indent=1))
    (root / SPEC_FILE).write_text(embodiment_text(layout.spec))
    (root / INFO_FILE).write_text(json.dumps(_info(layout, totals, len(tasks)), indent=4))
    (root / MANIFEST_FILE).write_text(manifest_text(folder_sums(root, sums)))


def _info(layout: Layout, totals: dict[str, int], tasks: int) -> dict[str, Any]:
    spec, video = layout.spec, layout.video
    features = features_of(spec, "image" if video is None else "video") | INDEX_FEATURES
    if video is not None:
        for camera in spec.cameras:
            features[camera_key(camera.name)]["info"] = video.facts(camera.height, camera.width, int(layout.rate))
    return {
        "codebase_version": "v3.0",
        "robot_type": spec.name,
        "total_episodes": totals["episodes"],
        "total_frames": totals["frames"],
        "total_tasks": tasks,
        "chunks_size": layout.chunk_files,
        "data_files_size_in_mb": max(1, layout.file_bytes >> 20),
        "video_files_size_in_mb": max(1, layout.file_bytes >> 20),
        "fps": layout.rate,
        "splits": {"train": f"0:{totals['episodes']}"},
        "data_path": DATA_PATH,
        "video_path": None if video is None else VIDEO_PATH,
        "features": features,
    }


def _episode(layout: Layout, number: int, row: dict[str, Any], totals: dict[str, int]) -> dict[str, Any]:
    """One row of LeRobot's episode table."""
    chunk, file = divmod(number, layout.chunk_files)
    result: dict[str, Any] = {
        "episode_index": totals["episodes"],
        "tasks": [row["task"]],
        "length": row["length"],
        "data/chunk_index": chunk,
        "data/file_index": file,
        "dataset_from_index": totals["frames"],
        "dataset_to_index": totals["frames"] + row["length"],
    }
    if layout.video is not None:
        for camera in layout.spec.camera_names:
            key, first = f"videos/{camera_key(camera)}", row["first_picture"]
            result |= {f"{key}/chunk_index": chunk, f"{key}/file_index": file}
            result[f"{key}/from_timestamp"] = first / layout.rate
            result[f"{key}/to_timestamp"] = (first + row["length"]) / layout.rate
    for name, stats in row["stats"].items():
        result |= {f"stats/{name}/{field}": values for field, values in stats.items()}
    return result


def _write_episodes(root: Path, rows: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema: Any = None
    for number, lot in enumerate(_lots(rows, _ROWS_A_FILE)):
        path = root / EPISODES_PATH.format(chunk_index=number // CHUNK_FILES, file_index=number % CHUNK_FILES)
        path.parent.mkdir(parents=True, exist_ok=True)
        places = {"meta/episodes/chunk_index": number // CHUNK_FILES, "meta/episodes/file_index": number % CHUNK_FILES}
        writer: Any = None
        for group in batched(lot, _ROWS_A_GROUP):
            table = pa.Table.from_pylist([row | places for row in group], schema=schema)
            schema = table.schema
            if writer is None:
                writer = pq.ParquetWriter(path, schema, write_page_checksum=True)
            writer.write_table(table)
        writer.close()


def _lots(rows: Iterable[dict[str, Any]], size: int) -> Iterator[Iterator[dict[str, Any]]]:
    """Runs of rows, each to be used up before the next is asked for."""
    given = iter(rows)

    def lot(first: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield first
        for _, row in zip(range(size - 1), given, strict=False):
            yield row

    for first in given:
        yield lot(first)


def _write_tasks(root: Path, tasks: dict[str, int]) -> None:
    """A table whose index (in the sense of pandas, which LeRobot reads it with) is the text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    text = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **column},
            {"name": "task", "field_name": "task", **text},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    columns = {"task_index": pa.array(list(tasks.values()), pa.int64()), "task": pa.array(list(tasks), pa.string())}
    table = pa.table(columns).replace_schema_metadata({"pandas": json.dumps(pandas)})
    pq.write_table(table, root / TASKS_FILE, write_page_checksum=True)


def _column(files: Iterable[Path], name: str) -> Iterator[np.ndarray]:
    """A column of the data files, of shape (steps, channels), some row groups at a time."""
    import pyarrow.parquet as pq

    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(65536, columns=[name]):
                values = batch.column(0)
                width = getattr(values.type, "list_size", 1)
                flat = values.flatten() if hasattr(values.type, "list_size") else values
                yield flat.to_numpy(zero_copy_only=False).reshape(-1, width)
