"""One pass over one shard: every number, every text and the place of every picture, in a file of arrays.

Arrays of a part, and of the index that parts are joined to:

======================= ================= =====================================================================
``length``              episodes          steps of each
``record``              episodes          number of its record in the shard (in an index: in the split)
``offset``              episodes          of its record in the shard [bytes]
``steps/PATH``          steps, size       numbers as they are stored
``texts/PATH``          steps             number of the text; -1 where there is none
``places/PATH``         steps, 2          offset and length of the encoded picture in the shard [bytes]
``sizes/PATH``          episodes, 2       height and width of the pictures [pixels]
``episode/PATH``        episodes, size    numbers of an episode
``said/PATH``           episodes          number of an episode's text; -1 where there is none
``text_bytes``          bytes             all texts, each once in a shard
``text_ends``           texts             where each of them ends
``flaws``, ``broken``   bytes             JSON lines: fields that do not fit, records that are set aside
======================= ================= =====================================================================
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.datasets import storage
from vla.datasets.array_file import write_arrays
from vla.datasets.rlds_record import Flaw, RecordReader
from vla.datasets.rlds_specification import INFO, STEPS, Field, ImageField, NumberField, TextField
from vla.datasets.storage import Stored
from vla.datasets.tfrecord import Broken, Record, parse_example, scan_records
from vla.errors import DataError


@dataclass(frozen=True)
class Job:
    """One shard to read.

    Attributes:
        shard: the file.
        expected: records it has.
        steps: fields of a step.
        episode: fields of an episode.
        part: file to write.
    """

    shard: Stored
    expected: int
    steps: Mapping[str, Field]
    episode: Mapping[str, Field]
    part: Path


def index_shard(job: Job, told: Callable[[int], None] = lambda count: None) -> Path:
    """Read one shard and write its part.

    Args:
        job: what to read and where to write.
        told: given the bytes read since it was last told.

    Raises:
        DataError: the shard cannot be read or the part cannot be written; damage within the shard is noted in the part.
    """
    columns, digest, number = _Columns(job), hashlib.sha256(), 0
    expected = f"{job.expected} records as in {INFO}"
    for item in _records(job.shard):
        whole = isinstance(item, Record)
        end = item.offset + (len(item.data) if whole else 0)
        told(end - columns.end)
        columns.end = end
        digest.update(repr((item.offset, item.crc if whole else None)).encode())
        if number >= job.expected:
            columns.set_aside(max(0, number - 1), item.offset, expected, "more", missing=0)
            break
        if whole:
            columns.add(item, number)
        else:
            missing = job.expected - number if item.lost else 1
            columns.set_aside(number, item.offset, item.expected, item.found, missing=missing)
        number = job.expected if not whole and item.lost else number + 1
    if number < job.expected:
        columns.set_aside(number, job.shard.size, expected, f"only {number}", missing=job.expected - number)
    told(job.shard.size - columns.end)
    columns.write(digest.hexdigest())
    return job.part


def _records(shard: Stored) -> Iterator[Record | Broken]:
    try:
        with storage.open_stream(shard.place) as file:
            yield from scan_records(file, shard.size)
    except OSError as error:
        found = error.strerror or str(error)
        raise DataError(shard.place, "shard", expected="a readable file", found=found) from error


@dataclass
class _Columns:
    """Arrays of a part while they grow: numbers and places, never pictures."""

    job: Job
    end: int = 0
    length: list[int] = field(default_factory=list)
    record: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    arrays: dict[str, list[np.ndarray]] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    flaws: list[dict[str, Any]] = field(default_factory=list)
    broken: list[dict[str, Any]] = field(default_factory=list)

    def set_aside(self, number: int, offset: int, expected: str, found: str, *, missing: int) -> None:
        """Note a record that cannot be used, and how many are missing with it."""
        entry = {"record": number, "offset": offset, "expected": expected, "found": found, "missing": missing}
        self.broken.append(entry)

    def add(self, record: Record, number: int) -> None:
        """Keep what the index holds of one record."""
        header = record.offset - 12
        try:
            reader = RecordReader(record.data, parse_example(record.data, "", ""))
            steps = reader.steps(self.job.steps)
        except DataError as error:
            self.set_aside(number, header, error.expected, error.found, missing=1)
            return
        except Flaw as flaw:
            self.set_aside(number, header, flaw.expected, flaw.found, missing=1)
            return
        for path, kind in self.job.steps.items():
            self._field(reader, record, path, f"{STEPS}/{path}", kind, steps, ("steps", "texts"))
        for path, kind in self.job.episode.items():
            self._field(reader, record, path, path, kind, 1, ("episode", "said"))
        self.length.append(steps)
        self.record.append(number)
        self.offset.append(header)

    def _field(
        self,
        reader: RecordReader,
        record: Record,
        path: str,
        key: str,
        kind: Field,
        rows: int,
        groups: tuple[str, str],
    ) -> None:
        numbers, texts = groups
        try:
            if isinstance(kind, NumberField):
                self._append(f"{numbers}/{path}", reader.numbers(key, kind, rows))
            elif isinstance(kind, TextField):
                self._append(f"{texts}/{path}", self._numbered(reader.texts(key, kind, rows)))
            else:
                places, size = reader.pictures(key, kind, rows)
                places[:, 0] += record.offset
                self._append(f"places/{path}", places)
                self._append(f"sizes/{path}", size[None])
        except Flaw as flaw:
            where = {"episode": len(self.length), "field": key}
            self.flaws.append(where | {"expected": flaw.expected, "found": flaw.found})
            for name, (dtype, width) in layout(path, kind, groups).items():
                count = 1 if name.startswith("sizes/") else rows
                empty = np.zeros((count, *width), dtype)
                self._append(name, empty - 1 if isinstance(kind, TextField) else empty)

    def _append(self, name: str, rows: np.ndarray) -> None:
        self.arrays.setdefault(name, []).append(rows)

    def _numbered(self, texts: Iterable[str]) -> np.ndarray:
        return np.array([self.texts.setdefault(text, len(self.texts)) for text in texts], dtype=np.int32)

    def write(self, digest: str) -> None:
        """Write the part."""
        arrays: dict[str, np.ndarray] = {}
        for name, (dtype, width) in planned(self.job.steps, self.job.episode).items():
            rows = self.arrays.pop(name, [])
            arrays[name] = np.concatenate(rows) if rows else np.zeros((0, *width), dtype)
        texts = [text.encode() for text in self.texts]
        arrays |= {
            "length": np.array(self.length, dtype=np.int64),
            "record": np.array(self.record, dtype=np.int64),
            "offset": np.array(self.offset, dtype=np.int64),
            "text_bytes": np.frombuffer(b"".join(texts), np.uint8),
            "text_ends": np.cumsum([len(text) for text in texts], dtype=np.int64),
            "flaws": json_lines(self.flaws),
            "broken": json_lines(self.broken),
        }
        write_arrays(self.job.part, arrays, {"digest": digest, "shard": part_key(self.job)})


def part_key(job: Job) -> list[Any]:
    """What a part depends on."""
    fields = repr((dict(job.steps), dict(job.episode)))
    return [job.shard.place, job.shard.size, job.shard.token, job.expected, fields]


def planned(steps: Mapping[str, Field], episode: Mapping[str, Field]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and width of the arrays of all fields."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path, kind in steps.items():
        found |= layout(path, kind, ("steps", "texts"))
    for path, kind in episode.items():
        found |= layout(path, kind, ("episode", "said"))
    return found


def layout(path: str, kind: Field, groups: tuple[str, str]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and width of the arrays of one field."""
    numbers, texts = groups
    if isinstance(kind, NumberField):
        listed = kind.coding in ("list", "rows")
        dtype = "float32" if listed and np.dtype(kind.dtype).kind == "f" else kind.dtype
        return {f"{numbers}/{path}": (np.dtype(dtype).newbyteorder("<").str, (kind.size,))}
    if isinstance(kind, ImageField):
        return {f"places/{path}": ("<i8", (2,)), f"sizes/{path}": ("<i4", (2,))}
    return {f"{texts}/{path}": ("<i4", ())}


def json_lines(entries: Iterable[Any]) -> np.ndarray:
    """JSON values, one a line, as bytes."""
    return np.frombuffer("".join(json.dumps(entry) + "\n" for entry in entries).encode(), np.uint8)
