"""Writes episodes as a LeRobot v3.0 data set.

LeRobot's own metadata class writes ``meta/``; the rows go to Parquet directly, because ``LeRobotDataset.add_frame``
writes each picture to a file at PNG level 6, reads it back and takes statistics over every pixel: 46 frames/s with two
128x128 cameras where this does several hundred. What comes out is the same layout, opened by ``LeRobotDataset`` in a
test.
"""

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from vla.datasets.lerobot_layout import (
    ACTION,
    EPISODES_FILE,
    FORMAT,
    SPEC_FILE,
    STATE,
    TIME,
    ImageStorage,
    camera_key,
    features_of,
)
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError
from vla.experience import Episode, Image

_PNG_LEVEL = 1  # 10 % larger and 4 times faster than level 6
_STATISTICS_PICTURES = 16  # pictures an episode that LeRobot's image statistics are taken from
_STATISTICS_STRIDE = 2  # every n-th pixel in both directions of those


class Writer:
    """A LeRobot v3.0 data set being written; it appears under its name only when it is complete.

    Use as a context manager: leaving it normally finishes, leaving it by an error removes what was written so far.

    Args:
        path: folder to make; must not exist yet.
        spec: embodiment that all episodes share.
        storage: ``image`` is lossless (PNG in Parquet) and read at random at once; ``video`` is smaller.

    Raises:
        ConfigError: the folder exists already.
        DataError: the folder cannot be made.
    """

    def __init__(self, path: Path, spec: EmbodimentSpec, storage: ImageStorage = "image"):
        from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
        from lerobot.datasets.feature_utils import get_hf_features_from_features

        self.path, self.spec, self.storage = Path(path), spec, storage
        if self.path.exists():
            raise ConfigError(f"{self.path} exists already; choose another folder or remove it")
        rate = spec.action.rate
        if storage == "video" and rate != round(rate):
            raise ConfigError(f"video needs a whole number of pictures a second, the action rate is {rate} Hz")
        self._finished = False
        self._folder: Path | None = None
        self._meta: Any = None
        self._parquet: Any = None
        self._place = (0, 0)  # chunk and file being written
        self._file_bytes = 0
        self._frames = 0
        with self._guarded():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}-"))
            self._folder.chmod(0o755)  # mkdtemp's folders are private, a data set is not
            self._meta = LeRobotDatasetMetadata.create(
                repo_id=f"local/{self.path.name}",
                fps=int(rate) if rate == round(rate) else rate,  # type: ignore[arg-type]
                features=features_of(spec, storage),
                robot_type=spec.name,
                root=self._folder / "set",
                use_videos=storage == "video",
            )
            text = json.dumps(
                {"format": FORMAT, "fingerprint": spec.fingerprint, "embodiment": spec.to_json()}, indent=1
            )
            (self._root / SPEC_FILE).write_text(text)
            (self._root / EPISODES_FILE).touch()
        self._schema = get_hf_features_from_features(self._meta.features).arrow_schema

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._abort()

    @property
    def _root(self) -> Path:
        return Path(self._meta.root)

    def add(self, episode: Episode) -> None:
        """Append one episode; its pictures are read once, in order.

        Raises:
            DataError: the episode does not fit the spec, holds a number that is not finite, or the disk is full; in
                that last case everything written so far is removed.
            ConfigError: the data set is finished already.
        """
        if self._finished:
            raise ConfigError(f"{self.path} is finished: no episode can be added")
        index = self._meta.total_episodes
        self._check(episode, f"episode {index}")
        row = {"success": episode.success, "source": episode.source, "info": dict(episode.info)}
        try:
            line = json.dumps(row, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError(self.path, f"episode {index}: info", expected="JSON values", found=str(error)) from error
        with self._guarded():
            pictures = {camera.name: _encoded(episode, camera.name) for camera in self.spec.cameras}
            self._meta.save_episode_tasks([episode.instruction])
            table = self._table(episode, index, {name: encoded for name, (encoded, _) in pictures.items()})
            places = self._write_rows(table)
            if self.storage == "video":
                for name, (encoded, _) in pictures.items():
                    places |= self._write_video(name, encoded, index, len(episode))
            statistics = _statistics(episode, {name: some for name, (_, some) in pictures.items()})
            self._meta.save_episode(index, len(episode), [episode.instruction], statistics, places)
            with (self._root / EPISODES_FILE).open("a") as file:
                file.write(line + "\n")
        self._frames += len(episode)

    def finish(self) -> None:
        """Complete the data set and give it its name. Safe to call more than once.

        Raises:
            DataError: there is no episode, or the disk is full; nothing is left behind.
        """
        if self._finished:
            return
        if not self._frames:
            self._abort()
            raise DataError(self.path, "episodes", expected="at least one", found="none")
        with self._guarded():
            self._close_parquet()
            self._meta.finalize()
            assert self._folder is not None
            self._root.rename(self.path)
            shutil.rmtree(self._folder)
        self._finished = True

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever fails to be written becomes one clear error, and nothing is left behind."""
        try:
            yield
        except OSError as error:
            self._abort()
            found = error.strerror or str(error)
            raise DataError(self.path, "disk", expected="a writable folder with space", found=found) from error
        except BaseException:
            self._abort()
            raise

    def _abort(self) -> None:
        if self._finished:
            return
        self._finished = True
        with contextlib.suppress(OSError):
            self._close_parquet()  # writes a footer, which fails again on a full disk
        if self._meta is not None:
            with contextlib.suppress(OSError):
                self._meta.finalize()
            self._meta._finalized = True  # else its destructor would make the folder again
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _check(self, episode: Episode, where: str) -> None:
        def refuse(field: str, expected: str, found: str) -> DataError:
            return DataError(self.path, f"{where}: {field}", expected=expected, found=found)

        if episode.spec != self.spec:
            ours, theirs = (f"{spec.name} ({spec.fingerprint})" for spec in (self.spec, episode.spec))
            raise refuse("embodiment", ours, theirs)
        steps = len(episode)
        if not steps:
            raise refuse("steps", "at least one", "none")
        for name, values, size in (
            ("state", episode.state, len(self.spec.state)),
            ("action", episode.action, self.spec.action.size),
        ):
            if values.shape != (steps, size) or values.dtype != np.float32:
                raise refuse(name, f"float32 of shape {(steps, size)}", f"{values.dtype} of shape {values.shape}")
            if not np.isfinite(values).all():
                raise refuse(name, "finite numbers", f"{values[~np.isfinite(values)][0]}")
        if episode.time.shape != (steps,) or not np.isfinite(episode.time).all():
            raise refuse("time", f"{steps} finite times", f"shape {episode.time.shape}")
        for camera in self.spec.cameras:
            count = len(episode.images.get(camera.name, ()))
            if count != steps:
                raise refuse(f"camera {camera.name}", f"{steps} pictures", str(count))

    def _table(self, episode: Episode, index: int, pictures: dict[str, list[bytes]]) -> Any:
        import pyarrow as pa

        steps = len(episode)
        places = np.arange(steps)
        columns: dict[str, Any] = {
            STATE: episode.state,
            ACTION: episode.action,
            TIME: episode.time,
            "timestamp": (places / self.spec.action.rate).astype(np.float32),
            "frame_index": places,
            "episode_index": np.full(steps, index),
            "index": places + self._frames,
            "task_index": np.full(steps, self._meta.get_task_index(episode.instruction)),
        }
        arrays = []
        for field in self._schema:
            if field.name in columns:
                arrays.append(_number_array(columns[field.name], field.type))
            else:
                encoded = pictures[field.name.removeprefix(camera_key(""))]
                names = [f"frame-{step:06d}.png" for step in range(steps)]
                arrays.append(
                    pa.StructArray.from_arrays([pa.array(encoded, pa.binary()), pa.array(names)], ["bytes", "path"])
                )
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _write_rows(self, table: Any) -> dict[str, Any]:
        """Append one row group; returns where it is, as LeRobot's episode table says it."""
        import pyarrow.parquet as pq

        size = table.nbytes
        if self._parquet is not None and self._file_bytes + size > self._meta.data_files_size_in_mb * 2**20:
            self._close_parquet()
            self._place = _next_place(self._place, self._meta.chunks_size)
        if self._parquet is None:
            path = self._root / self._meta.data_path.format(chunk_index=self._place[0], file_index=self._place[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            # PNG neither compresses further nor repeats: such columns are stored as they are and read back as fast
            numbers = [field.name for field in self._schema if not field.name.startswith(camera_key(""))]
            compression: Any = dict.fromkeys(numbers, "snappy")
            dictionary: Any = numbers
            self._parquet = pq.ParquetWriter(path, self._schema, compression=compression, use_dictionary=dictionary)
            self._file_bytes = 0
        self._parquet.write_table(table)
        self._file_bytes += size
        return {
            "data/chunk_index": self._place[0],
            "data/file_index": self._place[1],
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + table.num_rows,
        }

    def _write_video(self, camera: str, pictures: list[bytes], index: int, steps: int) -> dict[str, Any]:
        """One video file for the episode; returns where it is, as LeRobot's episode table says it."""
        from lerobot.datasets.video_utils import encode_video_frames

        key, rate = camera_key(camera), int(self.spec.action.rate)
        chunk, file = divmod(index, self._meta.chunks_size)
        path = self._root / self._meta.video_path.format(video_key=key, chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as frames:
            for step, picture in enumerate(pictures):
                (Path(frames) / f"frame-{step:06d}.png").write_bytes(picture)
            encode_video_frames(Path(frames), path, rate)
        if index == 0:
            self._meta.update_video_info(key)
        return {
            f"videos/{key}/chunk_index": chunk,
            f"videos/{key}/file_index": file,
            f"videos/{key}/from_timestamp": 0.0,
            f"videos/{key}/to_timestamp": steps / rate,
        }

    def _close_parquet(self) -> None:
        if self._parquet is not None:
            parquet, self._parquet = self._parquet, None
            parquet.close()


def _next_place(place: tuple[int, int], files_a_chunk: int) -> tuple[int, int]:
    chunk, file = place
    return (chunk, file + 1) if file + 1 < files_a_chunk else (chunk + 1, 0)


def _encoded(episode: Episode, camera: str) -> tuple[list[bytes], np.ndarray]:
    """All pictures as PNG, and a few of them thinned out for statistics: UInt8[n c h w]."""
    frames: Sequence[Image] = episode.images[camera]
    size = (episode.spec.camera(camera).height, episode.spec.camera(camera).width, 3)
    chosen = set(np.linspace(0, len(frames) - 1, _STATISTICS_PICTURES).astype(int).tolist())
    encoded, some = [], []
    for step in range(len(frames)):
        picture = np.asarray(frames[step])
        if picture.shape != size or picture.dtype != np.uint8:
            found = f"{picture.dtype} of shape {picture.shape}"
            raise DataError(episode.source, f"{camera}[{step}]", expected=f"uint8 of shape {size}", found=found)
        buffer = io.BytesIO()
        PilImage.fromarray(picture).save(buffer, "PNG", compress_level=_PNG_LEVEL)
        encoded.append(buffer.getvalue())
        if step in chosen:
            some.append(picture[::_STATISTICS_STRIDE, ::_STATISTICS_STRIDE].transpose(2, 0, 1))
    return encoded, np.stack(some)


def _number_array(values: np.ndarray, kind: Any) -> Any:
    """A column of numbers as the schema's type: a list of fixed length, or a plain number."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(np.ascontiguousarray(values).reshape(-1), kind)


def _statistics(episode: Episode, pictures: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """LeRobot's statistics of one episode; those of pictures in [0, 1], of shape (3, 1, 1)."""
    from lerobot.datasets.compute_stats import get_feature_stats

    numbers = {STATE: episode.state, ACTION: episode.action, TIME: episode.time[:, None]}
    result = {
        name: get_feature_stats(values, axis=0, keepdims=False) for name, values in numbers.items() if values.shape[1]
    }
    for camera, some in pictures.items():
        whole = get_feature_stats(some, axis=(0, 2, 3), keepdims=True)
        result[camera_key(camera)] = {
            key: value if key == "count" else np.squeeze(value / 255.0, axis=0) for key, value in whole.items()
        }
    return result
