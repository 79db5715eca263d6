"""Episodes of a LeRobot data set of any version at random access.

::

    info.json ─▶ v2 or v3 tables ─▶ index (cached, mapped) ─▶ source[episode].images["top"][step]
    vla.json, or the user's description ─▶ what the numbers mean         one picture read or decoded
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.datasets.description import Camera
from vla.datasets.lerobot_build import Wanted
from vla.datasets.lerobot_checks import split_ranges
from vla.datasets.lerobot_frames import ParquetFrames, SwappedFrames, pictures_of
from vla.datasets.lerobot_index import LeRobotIndex, lerobot_index
from vla.datasets.lerobot_info import Info, read_info
from vla.datasets.lerobot_layout import ACTION, EPISODES_FILE, STATE
from vla.datasets.lerobot_listing import Tables
from vla.datasets.lerobot_meaning import Meaning, described_meaning, own_meaning
from vla.datasets.lerobot_mirror import local_folder
from vla.datasets.lerobot_video import VideoFrames, check_decoder
from vla.datasets.window_reader import check_episodes, one_by_one
from vla.embodiment import EmbodimentSpec
from vla.errors import DataError
from vla.experience import Episode
from vla.files import cache_folder
from vla.protocols import Progress
from vla.quirks import Quirk, admit
from vla.window_batch import Scattered, WindowBatch


@dataclass(frozen=True)
class Options:
    """How a data set is read; the fields of both versions' ``Config``."""

    split: str
    fixes: bool
    tolerate: tuple[str, ...]
    description: Path | None
    decoder: str
    cache: Path | None
    progress: Progress | None


def open_lerobot(path: str, versions: dict[str, Tables], options: Options) -> "LeRobotSource":
    """The episodes of a folder or URL.

    Args:
        path: folder that holds ``meta/`` and ``data/``, or an fsspec URL of one.
        versions: how each version that the caller reads writes its tables.
        options: see :class:`Options`.

    Raises:
        DataError: the data set is damaged, of another version, or nobody says what its numbers mean.
        QuirksFound: something is wrong that can be read around, and it is not tolerated.
        UnknownName: there is no such split.
        ConfigError: there is no such decoder, or the split is not written as it should be.
    """
    check_decoder(options.decoder)
    cache = Path(options.cache) if options.cache else cache_folder()
    folder = local_folder(path, cache, progress=options.progress)
    info = read_info(folder, tuple(versions))
    _check_any_data(info)
    if options.description is None:
        meaning = own_meaning(info)
    else:
        meaning = described_meaning(info, Path(options.description), fixes=options.fixes)
    cameras = tuple(camera.field for camera in meaning.cameras)
    fields = tuple((name, info.features[name].width) for name in meaning.fields)
    wanted = Wanted(fields, meaning.clock, meaning.instruction, cameras, meaning.format)
    index_file = lerobot_index(info, versions[info.version], wanted, cache, options.progress)
    index = LeRobotIndex.open(index_file)
    quirks = admit(index.quirks, options.tolerate)
    spec = meaning.spec(index.sizes, fixes=options.fixes)
    parts = split_ranges(info, options.split, index.listed)
    source = LeRobotSource(
        folder.name, info, meaning, spec, index_file, parts, options.fixes, options.decoder, cache, quirks
    )
    if not len(source):
        expected = "at least one episode"
        raise DataError(info.folder, f"split {options.split}", expected=expected, found="none that can be read")
    return source


@dataclass(frozen=True)
class LeRobotSource:
    """Episodes of one data set; what travels to a worker process is where things are.

    Attributes:
        name: of the data set, for ``Episode.source``.
        info: its info.json.
        meaning: of its columns.
        spec: shared by all episodes.
        index_file: the index.
        parts: first listed episode of each part of the split, and one past the last.
        fixes: mended and canonical; else as stored.
        decoder: of videos.
        cache: folder for pictures that must be unpacked.
        quirks: what is wrong with the data set and was read around.
    """

    name: str
    info: Info
    meaning: Meaning
    spec: EmbodimentSpec
    index_file: Path
    parts: tuple[tuple[int, int], ...]
    fixes: bool
    decoder: str
    cache: Path
    quirks: tuple[Quirk, ...]

    def __reduce__(self):
        fields = (self.name, self.info, self.meaning, self.spec, self.index_file, self.parts)
        return LeRobotSource, (*fields, self.fixes, self.decoder, self.cache, self.quirks)

    @property
    def content(self) -> str:
        """Of the files' names, sizes and times, the meaning of the columns, and the settings."""
        facts = (self._index.files, self.spec.fingerprint, self.meaning, self.parts, self.fixes, self.decoder)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    @cached_property
    def _index(self) -> LeRobotIndex:
        return LeRobotIndex.open(self.index_file)

    @property
    def _dropped(self) -> tuple[int, int]:
        description = self.meaning.description
        return description.dropped(fixes=self.fixes) if description else (0, 0)

    @cached_property
    def _kept(self) -> Int64[np.ndarray, "n"]:
        """Places in the index of the episodes of the split that have a step left."""
        index = self._index
        long_enough = index.steps > sum(self._dropped)
        found = [
            np.flatnonzero((index.position >= first) & (index.position < last) & long_enough)
            for first, last in self.parts
        ]
        return np.concatenate(found)

    @cached_property
    def _lengths(self) -> Int64[np.ndarray, "n"]:
        return self._index.steps[self._kept] - sum(self._dropped)

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode."""
        return self._lengths

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Episode:
        """One episode; its pictures stay in the file until asked for.

        Raises:
            IndexError: there are not so many.
            DataError: a file has changed.
        """
        place, data = int(self._kept[index]), self._index
        start, steps = int(data.start[place]), int(data.steps[place])
        rows = slice(start, start + steps)
        state, action = self._numbers(rows)
        texts = data.text[rows]
        changes = np.flatnonzero(np.diff(texts)) + 1
        spoken = [[int(step), data.instruction(int(texts[step]))] for step in changes]
        extra = self._extra(place)
        episode = Episode(
            spec=self.spec,
            state=state,
            action=action,
            images={camera.name: self._frames(camera, place, steps) for camera in self._cameras},
            time=np.array(data.time[rows]),
            instruction=data.instruction(int(texts[0])),
            success=extra.get("success"),
            source=extra.get("source") or f"{self.name}[{data.number[place]}]",
            info=extra.get("info") or ({"instruction_changes": spoken} if spoken else {}),
        )
        first, last = self._dropped
        return episode.take(np.arange(first, steps - last)) if first or last else episode

    def windows(
        self, episodes: Int64[np.ndarray, "n"], steps: Int64[np.ndarray, "n"], horizon: int
    ) -> list[WindowBatch]:
        """See :class:`~vla.protocols.Gathers`; numbers that a description mends are taken from whole episodes."""
        check_episodes(episodes, len(self))
        data, first = self._index, self._dropped[0]
        if self.meaning.description is None:
            batch = self._gathered(episodes, steps, horizon)
        else:
            (batch,) = one_by_one(self, episodes, steps, horizon)
        images, places = dict(batch.images), self._kept[episodes]
        distinct, which = np.unique(data.place[places], axis=0, return_inverse=True)
        for camera in self._cameras:
            if camera.field not in data.films:
                files = [self.info.data_file(*numbers) for numbers in distinct.tolist()]
                rows, size = data.row[places] + first + steps, data.sizes[camera.field]
                images[camera.name] = pictures_of(files, which, rows, camera.field, size, self.cache, bgr=camera.bgr)
        return [replace(batch, images=images)]

    def _gathered(self, episodes: Int64[np.ndarray, "n"], steps: Int64[np.ndarray, "n"], horizon: int) -> WindowBatch:
        """Windows of numbers that are used as they are stored; of the pictures those that are in videos."""
        data, places = self._index, self._kept[episodes]
        start, length = data.start[places], data.steps[places]
        rows, end = start + steps, (start + length)[:, None]
        chunk = rows[:, None] + np.arange(horizon)
        state, action = data.columns.get(STATE), data.columns[ACTION]
        images = {
            camera.name: Scattered(
                [
                    self._frames(camera, place, count)
                    for place, count in zip(places.tolist(), length.tolist(), strict=True)
                ],
                steps.tolist(),
            )
            for camera in self._cameras
            if camera.field in data.films
        }
        return WindowBatch(
            self.spec,
            np.arange(len(rows)),
            images,
            np.zeros((len(rows), 0), np.float32) if state is None else state[rows],
            [data.instruction(text) for text in data.text[start].tolist()],
            data.time[rows],
            action[np.minimum(chunk, end - 1)],
            chunk < end,
        )

    def _numbers(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        numbers = {name: np.array(values[rows]) for name, values in self._index.columns.items()}
        if self.meaning.description is not None:
            return self.meaning.description.columns(numbers, fixes=self.fixes)
        return numbers.get(STATE, np.zeros((rows.stop - rows.start, 0), np.float32)), numbers[ACTION]

    @cached_property
    def _cameras(self) -> tuple[Camera, ...]:
        return tuple(camera for camera in self.meaning.cameras if camera.field in self._index.sizes)

    def _frames(self, camera: Camera, place: int, steps: int) -> Any:
        data, key = self._index, camera.field
        size = data.sizes[key]
        if key in data.films:
            file = self.info.video_file(key, *data.films[key][place].tolist())
            frames: Any = VideoFrames(
                file, float(data.film_start[key][place]), steps, self.info.fps, size, self.decoder
            )
        else:
            file = self.info.data_file(*data.place[place].tolist())
            frames = ParquetFrames(file, key, int(data.row[place]), steps, size, self.cache)
        return SwappedFrames(frames) if camera.bgr else frames

    def _extra(self, place: int) -> dict[str, Any]:
        """Success, source and info of an episode, where we wrote them."""
        if not len(self._index.extra):
            return {}
        path = self.info.folder / EPISODES_FILE
        first, last = self._index.extra[place].tolist()
        try:
            with path.open("rb") as file:
                file.seek(first)
                value = json.loads(file.read(last - first))
            if not isinstance(value, dict):
                raise ValueError(f"a {type(value).__name__}")
        except (OSError, ValueError, RecursionError) as error:
            field = f"line of episode {self._index.number[place]}"
            raise DataError(path, field, expected="a JSON object", found=str(error)) from error
        return value


def _check_any_data(info: Info) -> None:
    """A folder with ``meta/`` alone is named as such before anything else is asked of the user."""
    first = info.data_file(0, 0)
    top = info.folder / first.relative_to(info.folder).parts[0]
    if not first.is_file() and next(top.rglob(f"*{first.suffix}"), None) is None:
        found = "nothing there, nor any other data file"
        raise DataError(first, "file", expected="the data set's first data file", found=found)
