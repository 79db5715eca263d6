"""One pass over an RLDS split, after which every number is a row of an array and every picture a byte range.

The index is a file in the cache folder. It is made anew when a shard's size or time, a JSON file of the data set or the
mapping of its fields has changed.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64

from vla.datasets.array_file import map_arrays, read_meta, write_arrays
from vla.datasets.oxe.mapping import OxeMapping
from vla.datasets.picture import picture_size
from vla.datasets.rlds_specification import (
    FEATURES,
    INFO,
    ImageField,
    NumberField,
    Specification,
    TextField,
    data_set_name,
    read_specification,
)
from vla.datasets.tfrecord import Feature, FeatureKind, Malformed, Record, parse_example, read_records
from vla.errors import DataError

FORMAT = 1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RldsIndex:
    """Where everything of one split lies; arrays are mapped, not read.

    Attributes:
        file: the index itself.
        shards: files of the split.
        sizes: camera name to height and width [pixels].
        instructions: all texts that occur.
        starts: first step of each episode, and the number of all steps.
        shard: number of the file that an episode is in.
        state: as stored, all steps of the split.
        action: as stored.
        instruction: number of each step's text.
        offsets: camera name to the place of each step's encoded picture [bytes].
        lengths: camera name to its length [bytes].
    """

    file: Path
    shards: tuple[Path, ...]
    sizes: dict[str, tuple[int, int]]
    instructions: tuple[str, ...]
    starts: Int64[np.ndarray, "episodes_and_one"]
    shard: Int32[np.ndarray, "episodes"]
    state: Float32[np.ndarray, "steps s"]
    action: Float32[np.ndarray, "steps a"]
    instruction: Int32[np.ndarray, "steps"]
    offsets: dict[str, Int64[np.ndarray, "steps"]]
    lengths: dict[str, Int32[np.ndarray, "steps"]]

    @classmethod
    def open(cls, file: Path) -> "RldsIndex":
        """The index in that file.

        Raises:
            DataError: it is not one.
        """
        meta, arrays = read_meta(file), map_arrays(file)
        try:
            names = list(meta["sizes"])
            folder = Path(meta["folder"])
            return cls(
                file=file,
                shards=tuple(folder / shard[0] for shard in meta["shards"]),
                sizes={name: tuple(meta["sizes"][name]) for name in names},
                instructions=tuple(meta["instructions"]),
                offsets={name: arrays[f"offsets_{name}"] for name in names},
                lengths={name: arrays[f"lengths_{name}"] for name in names},
                **{key: arrays[key] for key in ("starts", "shard", "state", "action", "instruction")},
            )
        except (KeyError, TypeError) as error:
            raise DataError(file, "index", expected=f"format {FORMAT}", found=f"no {error}") from error


def cache_folder() -> Path:
    """Where indexes go: ``$XDG_CACHE_HOME/vla``, else ``~/.cache/vla``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla"


def rlds_index(folder: Path, split: str, mapping: OxeMapping, cache: Path) -> RldsIndex:
    """The index of one split, from the cache folder if it is still true, else made now.

    Raises:
        DataError: a file of the data set is damaged or does not match its specification, or the cache is not writable.
        UnknownName: there is no such split.
    """
    folder = folder.resolve()
    fields = (mapping.state, mapping.action, mapping.cameras, mapping.instruction)
    key = hashlib.sha256(repr((FORMAT, str(folder), split, fields)).encode()).hexdigest()[:16]
    file = cache / f"{data_set_name(folder)}-{split}-{key}.npz"
    if not _is_true(file, folder):
        specification = read_specification(folder, split)
        logger.info("indexing %s, split %s", folder, split)
        arrays, meta = _build(specification, mapping)
        write_arrays(file, arrays, meta)
    return RldsIndex.open(file)


def _is_true(file: Path, folder: Path) -> bool:
    if not file.exists():
        return False
    try:
        meta = read_meta(file)
        return meta["json"] == _json_digest(folder) and meta["shards"] == [
            _shard_stat(folder / shard[0]) for shard in meta["shards"]
        ]
    except (DataError, KeyError, TypeError, IndexError):
        return False  # a damaged or outdated index costs a new pass, nothing else


def _json_digest(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / FEATURES).read_bytes() + (folder / INFO).read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(folder, FEATURES, expected="a readable file", found=str(error)) from error


def _shard_stat(path: Path) -> list[Any]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(path, "shard", expected="a file", found=error.strerror or str(error)) from error
    return [path.name, status.st_size, status.st_mtime_ns]


class _Columns:
    """Collects the arrays of an index, episode by episode."""

    def __init__(self, specification: Specification, mapping: OxeMapping):
        self.specification = specification
        self.cameras = [(name, path) for name, path in mapping.cameras if path in specification.fields]
        self.numbers = {path: specification.field(path, NumberField) for path in (*mapping.state, *mapping.action)}
        self.images = {name: specification.field(path, ImageField) for name, path in self.cameras}
        specification.field(mapping.instruction, TextField)
        self.mapping = mapping
        self.lengths: list[int] = []
        self.shard: list[int] = []
        self.state: list[np.ndarray] = []
        self.action: list[np.ndarray] = []
        self.texts: dict[str, int] = {}
        self.text_of_step: list[np.ndarray] = []
        self.places: dict[str, list[np.ndarray]] = {name: [] for name, _ in self.cameras}
        self.sizes: dict[str, tuple[int, int]] = {}

    def add(self, record: Record, number: int, shard: int) -> None:
        path = self.specification.shards[shard]
        name = f"record {number} at byte {record.offset}"
        reader = _RecordReader(path, name, record.data, parse_example(record.data, path, name))
        texts = reader.elements(self.mapping.instruction, None)
        steps = len(texts)
        if not steps:
            raise reader.error(self.mapping.instruction, "at least one step", "none")
        self.state.append(self._numbers(reader, self.mapping.state, steps))
        self.action.append(self._numbers(reader, self.mapping.action, steps))
        for name, field in self.cameras:
            ranges = reader.elements(field, steps)
            self._check_size(reader, name, field, ranges[0])
            place = np.array(ranges, dtype=np.int64)
            place[:, 0] += record.offset
            self.places[name].append(place)
        spoken = [reader.text(self.mapping.instruction, *place) for place in texts]
        numbered = [self.texts.setdefault(text, len(self.texts)) for text in spoken]
        self.text_of_step.append(np.array(numbered, dtype=np.int32))
        self.lengths.append(steps)
        self.shard.append(shard)

    def _numbers(self, reader: "_RecordReader", fields: tuple[str, ...], steps: int) -> Float32[np.ndarray, "t n"]:
        return np.concatenate([reader.numbers(field, self.numbers[field], steps) for field in fields], axis=1)

    def _check_size(self, reader: "_RecordReader", name: str, field: str, place: tuple[int, int]) -> None:
        """All pictures of a camera have one size, the specification's; an episode's first one stands for it."""
        first = reader.data[place[0] : place[0] + place[1]]
        size = picture_size(first, reader.file, f"{reader.record}: steps/{field}")
        declared = (self.images[name].height, self.images[name].width)
        known = self.sizes.setdefault(name, size)
        if size != known or any(want not in (None, have) for want, have in zip(declared, size, strict=True)):
            height, width = (want or have for want, have in zip(declared, known, strict=True))
            raise reader.error(field, f"pictures of {height}x{width}", f"{size[0]}x{size[1]}")

    def arrays(self) -> dict[str, np.ndarray]:
        places = {name: np.concatenate(parts) for name, parts in self.places.items()}
        return {
            "starts": np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64),
            "shard": np.array(self.shard, dtype=np.int32),
            "state": np.concatenate(self.state),
            "action": np.concatenate(self.action),
            "instruction": np.concatenate(self.text_of_step),
            **{f"offsets_{name}": place[:, 0].copy() for name, place in places.items()},
            **{f"lengths_{name}": place[:, 1].astype(np.int32) for name, place in places.items()},
        }


@dataclass(frozen=True)
class _RecordReader:
    """Fields of one record's steps, compared with the specification."""

    file: Path
    record: str
    data: bytes
    features: dict[str, Feature]

    def elements(self, field: str, steps: int | None) -> tuple[tuple[int, int], ...]:
        """Byte ranges of a field with one element a step."""
        ranges = self._feature(field, "bytes").ranges
        if steps is not None and len(ranges) != steps:
            raise self.error(field, f"{steps} elements, one a step", f"{len(ranges)}")
        return ranges

    def numbers(self, field: str, want: NumberField, steps: int) -> Float32[np.ndarray, "t n"]:
        """Numbers of a field, one row a step."""
        feature = self._feature(field, want.kind)
        try:
            values = feature.floats(self.data) if want.kind == "float" else feature.integers(self.data)
        except Malformed as error:
            raise self.error(field, "a list of numbers", str(error)) from error
        if len(values) != steps * want.size:
            raise self.error(field, f"{steps} steps x {want.size} numbers as in {FEATURES}", f"{len(values)} numbers")
        rows = values.reshape(steps, want.size).astype(np.float32)
        if not np.isfinite(rows).all():
            step = int(np.nonzero(~np.isfinite(rows))[0][0])
            raise self.error(field, "finite numbers", f"{rows[step].tolist()} in step {step}")
        return rows

    def text(self, field: str, offset: int, length: int) -> str:
        """One text."""
        try:
            return self.data[offset : offset + length].decode()
        except UnicodeDecodeError as error:
            raise self.error(field, "UTF-8", str(error)) from error

    def error(self, field: str, expected: str, found: str) -> DataError:
        return DataError(self.file, f"{self.record}: steps/{field}", expected=expected, found=found)

    def _feature(self, field: str, kind: FeatureKind) -> Feature:
        feature = self.features.get(f"steps/{field}")
        if feature is None:
            raise self.error(field, f"a {kind} list as in {FEATURES}", f"only {', '.join(sorted(self.features))}")
        if feature.kind != kind:
            raise self.error(field, f"a {kind} list as in {FEATURES}", f"a {feature.kind} list")
        return feature


def _build(specification: Specification, mapping: OxeMapping) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    before = [_shard_stat(path) for path in specification.shards]
    columns = _Columns(specification, mapping)
    for shard, (path, expected) in enumerate(zip(specification.shards, specification.shard_lengths, strict=True)):
        count = 0
        for record in read_records(path):
            columns.add(record, count, shard)
            count += 1
        if count != expected:
            raise DataError(path, "records", expected=f"{expected} as in {INFO}", found=str(count))
    if not columns.lengths:
        raise DataError(specification.folder, "split", expected="at least one episode", found="none")
    meta = {
        "format": FORMAT,
        "folder": str(specification.folder),
        "json": _json_digest(specification.folder),
        "shards": before,
        "sizes": columns.sizes,
        "instructions": list(columns.texts),
    }
    return columns.arrays(), meta
