"""LeRobot v3.0 data sets: episodes at random access, and :class:`Writer`.

Reading needs no LeRobot and no torch: the tables are Parquet and JSON. Numbers are in memory (some 70 bytes a step), a
picture is decoded when asked for.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.datasets.lerobot_frames import ParquetFrames, VideoFrames
from vla.datasets.lerobot_layout import ACTION, EPISODES_FILE, FORMAT, INFO_FILE, SPEC_FILE, STATE, TIME, camera_key
from vla.datasets.lerobot_tables import EpisodeTable, read_columns, read_episodes, read_info, read_tasks
from vla.datasets.lerobot_writer import Writer
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError
from vla.experience import Episode
from vla.quirks import Quirk

__all__ = ["LAYOUT", "Config", "LeRobotSource", "Writer", "accepts"]

LAYOUT = "a LeRobot v3.0 folder (meta/info.json, meta/episodes/ and data/)"


def accepts(path: str | Path) -> bool:
    """Whether the folder looks like a LeRobot data set, of any version."""
    return (Path(path) / INFO_FILE).is_file()


@dataclass(frozen=True)
class Config:
    """A LeRobot v3.0 data set on disk.

    Attributes:
        path: folder that holds ``meta/`` and ``data/``.
        embodiment: JSON file with the EmbodimentSpec, for data sets that this project did not write.
    """

    path: Path
    embodiment: Path | None = None

    def make(self) -> "LeRobotSource":
        """The episodes.

        Raises:
            DataError: the data set is damaged, of another version, or nobody says what its numbers mean.
        """
        folder = Path(self.path)
        info = read_info(folder)
        spec = _read_spec(folder, Path(self.embodiment) if self.embodiment else None)
        storage = _check_features(folder, spec, info)
        return LeRobotSource(folder, spec, storage, info)


@dataclass(frozen=True)
class LeRobotSource:
    """Episodes of one data set; what travels to a worker process is the path.

    Attributes:
        folder: the data set.
        spec: shared by all episodes.
        storage: camera name to ``"image"`` or ``"video"``.
        info: contents of ``meta/info.json``.
    """

    folder: Path
    spec: EmbodimentSpec
    storage: dict[str, str]
    info: dict[str, Any]

    def __post_init__(self):
        _ = self._rows  # a damaged file shows when it is opened, not in the middle of a training

    @property
    def quirks(self) -> tuple[Quirk, ...]:
        """None are read around."""
        return ()

    @property
    def content(self) -> str:
        """Of the files' names, sizes and times, and the embodiment."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        facts = [(str(path.relative_to(self.folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hashlib.sha256(repr((facts, self.spec.fingerprint)).encode()).hexdigest()[:16]

    @cached_property
    def _episodes(self) -> EpisodeTable:
        videos = [camera_key(name) for name, storage in self.storage.items() if storage == "video"]
        return read_episodes(self.folder, self.info, videos)

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        """Numbers of all steps in the order of the episodes."""
        features = self.info["features"]
        clock = TIME if TIME in features else "timestamp"
        wanted = {STATE: len(self.spec.state), ACTION: self.spec.action.size, clock: 1, "task_index": 1}
        if not self.spec.state:
            del wanted[STATE]
        rows = read_columns(self.folder, self._episodes, wanted)
        for name in (STATE, ACTION):
            if name in rows and not np.isfinite(rows[name]).all():
                row = int(np.nonzero(~np.isfinite(rows[name]))[0][0])
                raise DataError(
                    self.folder, f"{name}, row {row}", expected="finite numbers", found=str(rows[name][row])
                )
        return rows | {TIME: rows[clock]}

    @cached_property
    def _tasks(self) -> dict[int, str]:
        return read_tasks(self.folder)

    @cached_property
    def _extra(self) -> list[dict[str, Any]]:
        """Success, source and info of each episode, where we wrote them."""
        path = self.folder / EPISODES_FILE
        if not path.exists():
            return [{} for _ in range(len(self))]
        try:
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        except ValueError as error:
            raise DataError(path, "line", expected="JSON", found=str(error)) from error
        if len(rows) != len(self):
            raise DataError(path, "lines", expected=f"{len(self)}, one an episode", found=str(len(rows)))
        return rows

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode."""
        return self._episodes.lengths

    def __len__(self) -> int:
        return len(self._episodes.lengths)

    def __getitem__(self, index: int) -> Episode:
        """One episode; its pictures stay in the file until asked for.

        Raises:
            IndexError: there are not so many.
            DataError: its task has no text.
        """
        index = range(len(self))[index]
        table, rows, extra = self._episodes, self._rows, self._extra[index]
        place = slice(int(table.starts[index]), int(table.starts[index] + table.lengths[index]))
        task = int(rows["task_index"][place.start, 0])
        if task not in self._tasks:
            raise DataError(self.folder, f"episode {index}: task_index", expected="a known task", found=str(task))
        time = rows[TIME][place, 0].astype(np.float64)
        state = rows[STATE][place].astype(np.float32) if self.spec.state else np.zeros((len(time), 0), np.float32)
        return Episode(
            spec=self.spec,
            state=state,
            action=rows[ACTION][place].astype(np.float32),
            images={camera.name: self._frames(camera.name, index) for camera in self.spec.cameras},
            time=time,
            instruction=self._tasks[task],
            success=extra.get("success"),
            source=extra.get("source") or f"{self.folder.name}[{index}]",
            info=extra.get("info") or {},
        )

    def _frames(self, camera: str, index: int) -> ParquetFrames | VideoFrames:
        table, spec = self._episodes, self.spec.camera(camera)
        size, steps, key = (spec.height, spec.width), int(table.lengths[index]), camera_key(camera)
        if self.storage[camera] == "video":
            file, start = table.videos[key][index]
            return VideoFrames(file, start, steps, float(self.info["fps"]), size)
        file = table.files[int(table.file[index])]
        return ParquetFrames(file, key, int(table.first_row[index]), steps, size)

    def __reduce__(self):
        return LeRobotSource, (self.folder, self.spec, self.storage, self.info)


def _read_spec(folder: Path, embodiment: Path | None) -> EmbodimentSpec:
    path = embodiment or folder / SPEC_FILE
    if not path.is_file():
        raise DataError(
            path,
            "embodiment",
            expected="what the numbers mean (units, rotation form, gripper, camera orientation): give the data set's "
            "`embodiment`, a JSON file of an EmbodimentSpec",
            found="no such file" if embodiment else "a data set that another program wrote",
        )
    try:
        value = json.loads(path.read_bytes())
        if embodiment is None and value["format"] != FORMAT:
            raise DataError(path, "format", expected=str(FORMAT), found=repr(value["format"]))
        spec = EmbodimentSpec.from_json(value.get("embodiment", value))
        stored = value.get("fingerprint", spec.fingerprint)
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(path, "embodiment", expected="JSON of an EmbodimentSpec", found=str(error)) from error
    if stored != spec.fingerprint:
        raise DataError(path, "fingerprint", expected=f"{spec.fingerprint} of the embodiment in it", found=str(stored))
    return spec


def _check_features(folder: Path, spec: EmbodimentSpec, info: dict[str, Any]) -> dict[str, str]:
    """Compare the embodiment with the features; returns how each camera is stored."""
    features = info["features"]

    def refuse(field: str, expected: str, found: str) -> DataError:
        return DataError(folder / INFO_FILE, f"features: {field}", expected=expected, found=found)

    for name, channels in ((STATE, spec.state_names), (ACTION, spec.action.names)):
        if not channels:
            continue
        if name not in features:
            raise refuse(name, f"{len(channels)} channels of {spec.name}", f"only {', '.join(sorted(features))}")
        shape, names = features[name].get("shape"), features[name].get("names")
        if list(shape or ()) != [len(channels)]:
            raise refuse(f"{name}: shape", f"[{len(channels)}] as {spec.name} has", str(shape))
        if (folder / SPEC_FILE).is_file() and names != list(channels):
            raise refuse(f"{name}: names", ", ".join(channels), str(names))
    storage: dict[str, str] = {}
    for camera in spec.cameras:
        feature = features.get(camera_key(camera.name), {})
        kind, shape = feature.get("dtype"), list(feature.get("shape") or ())
        if kind not in ("image", "video"):
            cameras = [name for name, other in features.items() if other.get("dtype") in ("image", "video")]
            raise refuse(
                camera_key(camera.name), "an image or video feature", f"cameras {', '.join(cameras) or 'none'}"
            )
        size = [camera.height, camera.width]
        if shape not in ([*size, 3], [3, *size]):
            raise refuse(camera_key(camera.name), f"pictures of {size[0]}x{size[1]}x3", str(shape))
        storage[camera.name] = kind
    return storage
