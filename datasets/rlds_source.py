"""Episodes of an RLDS data set by number: rows of mapped arrays, and pictures that stay in the file until looked at."""

import json
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.datasets.array_file import map_arrays
from vla.datasets.description import Camera
from vla.datasets.rlds_columns import kept_range
from vla.datasets.rlds_frames import EncodedFrames, SwappedFrames
from vla.datasets.rlds_index import RldsIndex
from vla.datasets.splits import Part
from vla.datasets.stored_pictures import StoredPictures
from vla.datasets.window_reader import check_episodes
from vla.embodiment import EmbodimentSpec
from vla.errors import DataError
from vla.experience import Episode
from vla.quirks import Quirk
from vla.window_batch import WindowBatch

_SOURCE, _SUCCESS, _INFO = (f"episode_metadata/{name}" for name in ("source", "success", "info"))


@dataclass(frozen=True)
class Piece:
    """Episodes of one split, in a row.

    Attributes:
        split: its name.
        index: file of the split's index.
        columns: file of its columns.
        start: row of the first episode in the columns' tables.
        stop: one past the last.
    """

    split: str
    index: Path
    columns: Path
    start: int
    stop: int

    @classmethod
    def cut(cls, part: Part, index: RldsIndex, columns: Path) -> "Piece":
        """The episodes of a part of a split that are kept."""
        return cls(part.split, index.file, columns, *kept_range(map_arrays(columns), index, part.start, part.stop))


@dataclass(frozen=True)
class RldsSource:
    """Episodes of some splits; what travels to a worker process is paths.

    Attributes:
        name: of the data set.
        spec: shared by all episodes.
        pieces: where the episodes are, in their order.
        cameras: and the fields of their pictures.
        instruction: field of the text; empty if there is none.
        quirks: what is wrong and was read around.
        content: changes with the files and with what is made of them.
        own: whether this project wrote the data: with times, sources and outcomes.
    """

    name: str
    spec: EmbodimentSpec
    pieces: tuple[Piece, ...]
    cameras: tuple[Camera, ...]
    instruction: str
    quirks: tuple[Quirk, ...]
    content: str
    own: bool

    def __reduce__(self):
        fields = (
            self.name,
            self.spec,
            self.pieces,
            self.cameras,
            self.instruction,
            self.quirks,
            self.content,
            self.own,
        )
        return RldsSource, fields

    @cached_property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode."""
        return np.concatenate([piece.length[piece.start : piece.stop] for piece in self._opened])

    @cached_property
    def _opened(self) -> "tuple[_Opened, ...]":
        return tuple(_Opened(self, piece) for piece in self.pieces)

    @cached_property
    def _ends(self) -> list[int]:
        """Number of the first episode after each piece."""
        return np.cumsum([piece.stop - piece.start for piece in self.pieces]).tolist()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Episode:
        """One episode; its pictures stay in the file until asked for.

        Raises:
            IndexError: there are not so many.
        """
        count = self._ends[-1]
        if not -count <= index < count:
            raise IndexError(f"episode {index} of {count}")
        index %= count
        number = bisect_right(self._ends, index)
        piece = self._opened[number]
        return piece.episode(index - (self._ends[number - 1] if number else 0) + piece.start)

    def windows(
        self, episodes: Int64[np.ndarray, "n"], steps: Int64[np.ndarray, "n"], horizon: int
    ) -> list[WindowBatch]:
        """See :class:`~vla.protocols.Gathers`."""
        check_episodes(episodes, self._ends[-1])
        numbers = np.searchsorted(np.array(self._ends), episodes, side="right")
        found: list[WindowBatch] = []
        for number in sorted(set(numbers.tolist())):
            piece, before = self._opened[number], self._ends[number - 1] if number else 0
            rows = np.flatnonzero(numbers == number)
            found.append(piece.windows(rows, episodes[rows] - before + piece.start, steps[rows], horizon))
        return found


class _Opened:
    """The mapped arrays of one piece."""

    def __init__(self, source: RldsSource, piece: Piece):
        self.source, self.index = source, RldsIndex.open(piece.index)
        arrays = map_arrays(piece.columns)
        self.start, self.stop = piece.start, piece.stop
        self.state, self.action, self.time = arrays["state"], arrays["action"], arrays.get("time")
        self.table, self.length, self.row = arrays["table"], arrays["table"][:, 2], arrays.get("row")
        self.shards, self.shard, self.record = self.index.shards, self.index.shard, self.index.arrays["record"]
        self.label = f"{source.name}/{piece.split}"
        longest = int(self.length[self.start : self.stop].max(initial=0))
        self.times = np.arange(longest) / source.spec.action.rate
        self.times.flags.writeable = False  # episodes share it
        self.said = self.index.arrays.get(f"texts/{source.instruction}") if source.instruction else None
        self.once = self.index.arrays.get(f"said/{source.instruction}") if source.instruction else None
        sizes = {camera.name: (camera.height, camera.width) for camera in source.spec.cameras}
        self.cameras = [
            (
                camera.name,
                self.index.arrays[f"places/{camera.field}"],
                sizes[camera.name],
                camera.swapped(*sizes[camera.name]),
            )
            for camera in source.cameras
        ]

    def episode(self, row: int) -> Episode:
        number, first, length = self.table[row].tolist()
        stop = first + length
        steps: Any = slice(first, stop)
        time = self.times[:length] if self.time is None else self.time[first:stop]
        if self.row is not None:
            steps = self.row[first:stop]
            time = self.since(steps, first)
        shard = self.shards[self.shard[number]]
        if shard is None:
            raise self.gone(number)
        images = {}
        for name, places, size, swapped in self.cameras:
            frames = EncodedFrames(shard, places[steps], size, (number, name))
            images[name] = SwappedFrames(frames) if swapped else frames
        return Episode(
            spec=self.source.spec,
            state=self.state[first:stop],
            action=self.action[first:stop],
            images=images,
            time=time,
            instruction=self.instruction(number, first),
            success=self.success(number) if self.source.own else None,
            source=self.origin(number),
            info=EpisodeInfo(self, number, steps),
        )

    def windows(
        self,
        rows: Int64[np.ndarray, "n"],
        episodes: Int64[np.ndarray, "n"],
        steps: Int64[np.ndarray, "n"],
        horizon: int,
    ) -> WindowBatch:
        numbers, first, length = self.table[episodes].T
        places = first + steps
        stored = places if self.row is None else self.row[places]
        time = self.times[steps] if self.time is None else self.time[places]
        if self.row is not None:
            time = self.since(stored, first)
        chunk, end = places[:, None] + np.arange(horizon), (first + length)[:, None]
        labels = numbers.tolist()
        shards = [self.shards[shard] for shard in self.shard[numbers].tolist()]
        present = [shard for shard in shards if shard is not None]
        if len(present) < len(shards):
            raise self.gone(labels[shards.index(None)])
        texts = [-1] * len(rows)
        if self.said is not None:
            texts = self.said[first if self.row is None else self.row[first]].tolist()
        elif self.once is not None:
            texts = self.once[numbers].tolist()
        images = {}
        for name, ranges, size, swapped in self.cameras:
            found = ranges[stored].tolist()
            images[name] = StoredPictures(present, found, size, partial(_where, labels, name, found), bgr=swapped)
        return WindowBatch(
            self.source.spec,
            rows,
            images,
            self.state[places],
            [self.index.text(text) for text in texts],
            time,
            self.action[np.minimum(chunk, end - 1)],
            chunk < end,
        )

    def gone(self, number: int) -> DataError:
        return DataError(self.index.file, f"episode {number}", expected="a shard that is there", found="none")

    def since(self, stored: np.ndarray, first: Any) -> np.ndarray:
        """Times [s] of rows of the index since their episodes' first steps: steps that are left out took their time."""
        assert self.row is not None
        return (stored - self.row[first]) / self.source.spec.action.rate

    def instruction(self, number: int, first: int) -> str:
        if self.said is not None:
            return self.index.text(int(self.said[first if self.row is None else self.row[first]]))
        return self.index.text(int(self.once[number])) if self.once is not None else ""

    def success(self, number: int) -> bool | None:
        known = self.index.arrays.get(f"episode/{_SUCCESS}")
        value = -1 if known is None else int(known[number, 0])
        return None if value < 0 else bool(value)

    def origin(self, number: int) -> str:
        known = self.index.arrays.get(f"said/{_SOURCE}") if self.source.own else None
        if known is not None and known[number] >= 0:
            return self.index.text(int(known[number]))
        return f"{self.label}[{self.record[number]}]"

    def info(self, number: int, steps: Any) -> dict[str, Any]:
        if self.source.own:
            known = self.index.arrays.get(f"said/{_INFO}")
            return _json(self.index, number, self.index.text(int(known[number])) if known is not None else "{}")
        found: dict[str, Any] = {}
        if self.said is not None:
            texts = self.said[steps]
            changes = (np.flatnonzero(np.diff(texts)) + 1).tolist()
            if changes:
                found["instruction_changes"] = [[step, self.index.text(int(texts[step]))] for step in changes]
        about: dict[str, Any] = {}
        for name, array in self.index.arrays.items():
            group, _, path = name.partition("/")
            if group == "said" and array[number] >= 0:
                about[path] = self.index.text(int(array[number]))
            elif group == "episode":
                values = [value if math.isfinite(value) else None for value in array[number].tolist()]
                about[path] = values[0] if len(values) == 1 else values
        return found | ({"metadata": about} if about else {})


class EpisodeInfo(Mapping[str, Any]):
    """What else is known of an episode, read when somebody asks: a training never does."""

    def __init__(self, piece: _Opened, number: int, steps: Any):
        self._place = (piece, number, steps)

    @cached_property
    def _value(self) -> dict[str, Any]:
        piece, number, steps = self._place
        return piece.info(number, steps)

    def __getitem__(self, key: str) -> Any:
        return self._value[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return repr(self._value)

    def __reduce__(self):
        return dict, (self._value,)


def _where(labels: Sequence[int], name: str, ranges: Sequence[Sequence[int]], row: int) -> str:
    """Names a picture as :class:`~vla.datasets.rlds_frames.EncodedFrames` does."""
    return f"episode {labels[row]}, {name} at byte {ranges[row][0]}"


def _json(index: RldsIndex, number: int, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(index.file, f"episode {number}: {_INFO}", expected="JSON", found=str(error)) from error
    if not isinstance(value, dict):
        raise DataError(index.file, f"episode {number}: {_INFO}", expected="a JSON object", found=text[:100])
    return value
