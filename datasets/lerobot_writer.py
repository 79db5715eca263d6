"""Writes episodes as a LeRobot v3.0 data set, without LeRobot: Parquet, JSON and videos that it opens.

::

    episode ─check─▶ pictures encoded (or passed through) ─▶ one row group ─▶ data file, full at 100 MB ─▶ journal
                                                                                     finish: meta/ from the journal

``LeRobotDataset.add_frame`` writes each picture to a file of its own, reads it back into the table or the video, and
takes statistics over many of them; ``benchmarks/writing.py`` compares.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vla.datasets.episode_check import check_episode, info_text
from vla.datasets.lerobot_layout import ACTION, INDEX_FEATURES, STATE, TIME, camera_key, features_of
from vla.datasets.lerobot_metadata import Layout, write_metadata
from vla.datasets.lerobot_statistics import number_stats, picture_stats
from vla.datasets.partial_folder import PartialFolder
from vla.datasets.picture_writer import PictureEncoder, checked_picture, sampled_steps, suffix
from vla.datasets.video_writer import VideoOptions, VideoWriter
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError
from vla.experience import Episode, Image

Storage = Literal["image", "jpeg", "video"]

_STATISTICS_PICTURES = 8  # pictures an episode that LeRobot's image statistics are taken from
_GROUP_BYTES = 64 * 2**20  # an episode is one row group, unless its pictures are more than this
_VIDEO_RATIO = 20  # by which videos are taken to shrink pictures when files are cut: the encoder's output lags behind


class Writer:
    """A LeRobot v3.0 data set being written; it appears under its name only when it is complete.

    Use as a context manager: leaving it normally finishes. Leaving it by an error removes what was written so far, or,
    with a ``key``, keeps the finished files for a writer with the same key, which then goes on at :attr:`episodes`.

    Attributes:
        episodes: how many are written, those of an earlier writer included.
        mark: what :meth:`add` was told with the last of them.

    Args:
        path: folder to make; must not exist yet.
        spec: embodiment that all episodes share.
        storage: ``image``: pictures in the tables, JPEG and PNG as they were, others as PNG; ``jpeg``: as JPEG;
            ``video``: smaller, with the codec's loss.
        key: what is being written, from which data and with which options; None for a set that is not gone on with.
        quality: of JPEG pictures.
        video: how videos are encoded.
        file_bytes: size from which a data file is full.
        chunk_files: data files in a folder.

    Raises:
        ConfigError: the folder exists already, or an option is out of range.
        DataError: the folder cannot be made, or what was begun is damaged.
    """

    def __init__(
        self,
        path: Path,
        spec: EmbodimentSpec,
        storage: Storage = "image",
        *,
        key: str | None = None,
        quality: int = 95,
        video: VideoOptions | None = None,
        file_bytes: int = 100 * 2**20,
        chunk_files: int = 1000,
    ):
        if storage not in ("image", "jpeg", "video"):
            raise ConfigError(f"storage {storage!r} is none of image, jpeg, video")
        self.path, self.spec, self.storage = Path(path), spec, storage
        options = (video or VideoOptions()) if storage == "video" else None
        if options is not None:
            options.check(spec)
        self._encoder = PictureEncoder("jpeg" if storage == "jpeg" else "image", quality)
        self._layout = Layout(spec, options, file_bytes, chunk_files)
        self._parquet: Any = None
        self._videos: dict[str, VideoWriter] = {}
        self._rows: list[dict[str, Any]] = []  # of the file being written
        self._bytes = 0
        self._schema = _schema(spec, storage)
        self._partial = PartialFolder(self.path, key, self._close)
        self.episodes, self._frames, self.mark = 0, 0, ""
        self._tasks: dict[str, int] = {}
        for _, row in self._partial.rows():
            self._count(row)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._partial.abandon()

    def add(self, episode: Episode, *, mark: str = "") -> None:
        """Append one episode; its pictures are read once, in order.

        Args:
            episode: to append.
            mark: what a writer that goes on after this episode gets to know as :attr:`mark`.

        Raises:
            DataError: the episode does not fit the spec, holds a number that is not finite, or the disk is full.
            ConfigError: the data set is finished already.
        """
        self._partial.check_open()
        where = f"episode {self.episodes}"
        check_episode(episode, self.spec, self.path, where)
        extra = {"success": episode.success, "source": episode.source}
        extra["info"] = json.loads(info_text(episode, self.path, where))
        task = self._tasks.get(episode.instruction, len(self._tasks))
        with self._partial.guarded():
            if self._parquet is None:
                self._begin_file()
            first = next((video.pictures for video in self._videos.values()), 0)
            stats = {name: number_stats(values) for name, values in _numbers(episode).items()}
            pictures: dict[str, list[bytes]] = {}
            for camera in self.spec.cameras:
                frames, size = episode.images[camera.name], (camera.height, camera.width)
                field, samples = f"{where}: camera {camera.name}", sampled_steps(len(frames), _STATISTICS_PICTURES)
                if self.storage == "video":
                    some = self._film(camera.name, frames, size, field, samples)
                else:
                    encoded, some = self._encoder.encode(frames, size, self.path, field, samples)
                    pictures[camera.name] = encoded
                stats[camera_key(camera.name)] = picture_stats(some)
            self._write_rows(self._table(episode, task, pictures))
            row = {"task": episode.instruction, "length": len(episode), "stats": stats, "extra": extra, "mark": mark}
            self._rows.append(row | {"first_picture": first})
            self._count(row)
            if self._bytes >= self._layout.file_bytes:
                self._end_file()

    def keep(self) -> None:
        """End the file being written: from now on a writer with the same key goes on after the last episode.

        Raises:
            DataError: the disk is full.
        """
        if self._parquet is not None and not self._partial.over:
            with self._partial.guarded():
                self._end_file()

    def finish(self) -> None:
        """Complete the data set and give it its name. Safe to call more than once.

        Raises:
            DataError: there is no episode, or the disk is full.
        """
        if self._partial.over:
            return
        with self._partial.guarded():
            if not self.episodes:
                raise DataError(self.path, "episodes", expected="at least one", found="none")
            if self._parquet is not None:
                self._end_file()
            folder, rows, sums = self._partial.folder, self._partial.rows(), self._partial.sums()
            write_metadata(folder, self._layout, rows, self._tasks, sums)
            self._partial.finish()

    def _close(self) -> None:
        for video in self._videos.values():
            video.discard()
        if self._parquet is not None:
            self._parquet.close()  # writes a footer, which fails again on a full disk

    def _count(self, row: dict[str, Any]) -> None:
        self.episodes += 1
        self._frames += row["length"]
        self._tasks.setdefault(row["task"], len(self._tasks))
        self.mark = row["mark"]

    def _begin_file(self) -> None:
        import pyarrow.parquet as pq

        root, number = self._partial.folder, self._partial.commits
        path = root / self._layout.data(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        # pictures neither compress further nor repeat: such columns are stored as they are and read back as fast
        numbers = [field.name for field in self._schema if not field.name.startswith(camera_key(""))]
        compression: Any = dict.fromkeys(numbers, "snappy")
        some: Any = numbers  # statistics of pictures would be whole pictures, in every page's header
        self._parquet = pq.ParquetWriter(
            path,
            self._schema,
            compression=compression,
            use_dictionary=some,
            write_statistics=some,
            write_page_checksum=True,
        )
        if self._layout.video is not None:
            for camera in self.spec.cameras:
                file, size = root / self._layout.film(camera.name, number), (camera.height, camera.width)
                self._videos[camera.name] = VideoWriter(file, int(self._layout.rate), size, self._layout.video)
        self._bytes = 0

    def _end_file(self) -> None:
        root, number = self._partial.folder, self._partial.commits
        self._parquet.close()
        for video in self._videos.values():
            video.close()
        films = [root / self._layout.film(camera, number) for camera in self._videos]
        self._partial.commit([root / self._layout.data(number), *films], self._rows)
        self._parquet, self._videos, self._rows = None, {}, []

    def _film(
        self, camera: str, frames: Sequence[Image], size: tuple[int, int], field: str, samples: set[int]
    ) -> list[Image]:
        """Append the pictures to the camera's video; returns some of them."""
        some = []
        for step in range(len(frames)):
            picture = checked_picture(frames[step], size, self.path, f"{field}, step {step}")
            self._videos[camera].add(picture)
            if step in samples:
                some.append(picture)
        self._bytes += len(frames) * size[0] * size[1] * 3 // _VIDEO_RATIO
        return some

    def _table(self, episode: Episode, task: int, pictures: dict[str, list[bytes]]) -> Any:
        import pyarrow as pa

        steps = len(episode)
        places = np.arange(steps)
        columns: dict[str, Any] = {
            STATE: episode.state,
            ACTION: episode.action,
            TIME: episode.time,
            "timestamp": (places / self.spec.action.rate).astype(np.float32),
            "frame_index": places,
            "episode_index": np.full(steps, self.episodes),
            "index": places + self._frames,
            "task_index": np.full(steps, task),
        }
        arrays = []
        for field in self._schema:
            if field.name in columns:
                arrays.append(_number_array(columns[field.name], field.type))
            else:
                encoded = pictures[field.name.removeprefix(camera_key(""))]
                names = [f"frame-{step:06d}{suffix(data)}" for step, data in enumerate(encoded)]
                arrays.append(
                    pa.StructArray.from_arrays([pa.array(encoded, pa.binary()), pa.array(names)], ["bytes", "path"])
                )
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _write_rows(self, table: Any) -> None:
        """Append one row group, or several if it would be large."""
        groups = -(-table.nbytes // _GROUP_BYTES)
        self._parquet.write_table(table, row_group_size=-(-table.num_rows // groups))
        self._bytes += table.nbytes


def _numbers(episode: Episode) -> dict[str, np.ndarray]:
    """Columns that statistics are taken of."""
    numbers = {STATE: episode.state, ACTION: episode.action}
    return {name: values for name, values in numbers.items() if values.shape[1]}


def _schema(spec: EmbodimentSpec, storage: Storage) -> Any:
    """Columns of the data files, with the note by which Hugging Face's library knows pictures."""
    import pyarrow as pa

    fields, notes = [], {}
    for name, feature in (features_of(spec, "image") | INDEX_FEATURES).items():
        if feature["dtype"] == "image":
            if storage != "video":
                fields.append(pa.field(name, pa.struct({"bytes": pa.binary(), "path": pa.string()})))
                notes[name] = {"_type": "Image"}
            continue
        kind, (size,) = {"float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64()}, feature["shape"]
        number, note = kind[feature["dtype"]], {"dtype": feature["dtype"], "_type": "Value"}
        fields.append(pa.field(name, number if size == 1 else pa.list_(number, size)))
        notes[name] = note if size == 1 else {"feature": note, "length": size, "_type": "List"}
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": notes}})})


def _number_array(values: np.ndarray, kind: Any) -> Any:
    """A column of numbers as the schema's type: a list of fixed length, or a plain number."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(np.ascontiguousarray(values).reshape(-1), kind)
