"""The index of HDF5 demonstrations: which there are, and at which byte of which file each of their arrays lies.

It is a file in the cache folder, mapped into memory, made anew when a file's size or time changes. What a damaged file
could have said is checked before anything is believed: every array lies inside its file, none lies on another, every
array of a demonstration has its number of steps, and no array is larger than its file could be inflated.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.datasets.array_file import map_arrays, read_meta, write_arrays
from vla.datasets.hdf5_array import MAX_CHUNK_BYTES, Stamp, StoredArray
from vla.datasets.hdf5_sandbox import Sandbox, Scan
from vla.datasets.hdf5_scan import BYTES, CHUNK, COLUMNS, COUNT, FIRST, OFFSET, RANK, SHAPE
from vla.errors import DataError
from vla.protocols import Progress
from vla.quirks import Quirk

VERSION = 3  # part of the cache's name: raise it when what is stored changes
_INFLATION = 1100  # deflate's largest ratio is 1032
_KINDS = "fiub"
SHORT = "short-demonstration"
"""Kind of quirk: a demonstration of which no step is left."""


@dataclass(frozen=True)
class DemoIndex:
    """What :func:`demo_index` found; what travels to a worker process is the path of the index.

    Attributes:
        path: of the index.
    """

    path: Path

    @cached_property
    def _meta(self) -> dict[str, Any]:
        return read_meta(self.path)

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        return map_arrays(self.path)

    @cached_property
    def files(self) -> tuple[Stamp, ...]:
        """In the order of their names."""
        return tuple(Stamp(**stamp) for stamp in self._meta["files"])

    @property
    def attributes(self) -> list[dict[str, Any]]:
        """Of each file's group ``data``."""
        return self._meta["attributes"]

    @property
    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type, and shape of one step, of each array that all demonstrations have."""
        return {name: (dtype, tuple(shape)) for name, (dtype, shape) in self._meta["fields"].items()}

    @property
    def quirks(self) -> tuple[Quirk, ...]:
        """Files that cannot be read, demonstrations without a step, and totals that are wrong."""
        return tuple(Quirk(**quirk) for quirk in self._meta["quirks"])

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each demonstration, as stored."""
        return self._arrays["lengths"]

    def __len__(self) -> int:
        return len(self.lengths)

    def file(self, demo: int) -> int:
        """Number of a demonstration's file."""
        return int(self._arrays["file"][demo])

    def name(self, demo: int) -> str:
        """What a demonstration is called in its file."""
        return bytes(self._arrays["name"][demo]).decode()

    def success(self, demo: int) -> bool | None:
        """As its file says."""
        value = int(self._arrays["success"][demo])
        return None if value < 0 else bool(value)

    def array(self, demo: int, field: str) -> StoredArray:
        """One array of a demonstration; nothing is read."""
        place = list(self._meta["fields"]).index(field)
        row = np.asarray(self._arrays["rows"][demo, place])
        chunks = self._arrays["chunks"][int(row[FIRST]) : int(row[FIRST] + row[COUNT])]
        dtype = np.dtype(self._meta["fields"][field][0])
        return StoredArray(self.files[self.file(demo)], f"{self.name(demo)}/{field}", dtype, row, chunks)

    def __reduce__(self):
        return DemoIndex, (self.path,)


def demo_index(files: Sequence[Path], name: str, cache: Path, told: Progress | None = None) -> DemoIndex:
    """The index of some files, from the cache folder if it is still true, else made now.

    Args:
        files: at least one.
        name: of the data set, for the file in the cache folder.
        cache: folder.
        told: after each file, how many are done and how many there are.

    Raises:
        DataError: the only file cannot be read, or none can, or they have no array in common.
    """
    stamps = tuple(Stamp.of(file) for file in files)
    facts = repr((VERSION, stamps)).encode()
    path = cache / f"{name}-{hashlib.sha256(facts).hexdigest()[:16]}.index"
    if not path.exists():
        _make(path, stamps, told)
    return DemoIndex(path)


def _make(path: Path, stamps: tuple[Stamp, ...], told: Progress | None) -> None:
    quirks: list[Quirk] = []
    scans: list[tuple[Stamp, Scan]] = []
    with Sandbox() as sandbox:
        for number, stamp in enumerate(stamps):
            try:
                whole = sandbox.scan(Path(stamp.path))
                scan, empty = _without_empty(stamp, whole)
                _check(stamp, scan)
            except DataError as error:
                if len(stamps) == 1:
                    raise
                remedy = "the file is left out"
                quirks.append(Quirk("broken-file", error.file, error.field, error.expected, error.found, remedy))
            else:
                scans.append((stamp, scan))
                quirks += [*empty, *_wrong_totals(stamp, whole)]
            if told:
                told(number + 1, len(stamps))
    if not scans:
        first = quirks[0]
        raise DataError(first.file, first.field, expected=first.expected, found=f"{first.found}; no file can be read")
    fields = _common_fields(scans)
    quirks += _partial_fields(scans, fields)
    rows, chunks, lengths, owners, names, success = [], [], [], [], [], []
    first_chunk = 0
    for owner, (_, scan) in enumerate(scans):
        table = scan.table.copy()
        table[:, FIRST] += first_chunk
        first_chunk += len(scan.chunks)
        chunks.append(scan.chunks)
        for demo in scan.demos:
            places = [demo["fields"][field][0] for field in fields]
            rows.append(table[places])
            lengths.append(_steps(scan, demo))
            owners.append(owner)
            names.append(demo["name"].encode())
            said = demo["attributes"].get("success")
            success.append(int(bool(said)) if isinstance(said, bool | int | float) else -1)
    arrays = {
        "rows": np.array(rows, np.int64).reshape(len(rows), len(fields), COLUMNS),
        "chunks": np.concatenate(chunks),
        "lengths": np.array(lengths, np.int64),
        "file": np.array(owners, np.int64),
        "name": np.array(names, dtype="S"),
        "success": np.array(success, np.int8),
    }
    meta = {
        "files": [asdict(stamp) for stamp, _ in scans],
        "attributes": [scan.attributes for _, scan in scans],
        "fields": fields,
        "quirks": [asdict(quirk) for quirk in quirks],
    }
    write_arrays(path, arrays, meta)


def _without_empty(stamp: Stamp, scan: Scan) -> tuple[Scan, list[Quirk]]:
    """The demonstrations that have a step, and a quirk for each other one."""
    kept, quirks = [], []
    for demo in scan.demos:
        row = scan.table[demo["fields"]["actions"][0]] if "actions" in demo["fields"] else None
        if row is None or int(row[RANK]) < 1 or int(row[SHAPE][0]) != 0:
            kept.append(demo)
        else:
            where, remedy = f"data/{demo['name']}/actions", "the demonstration is left out"
            quirks.append(Quirk(SHORT, stamp.path, where, "at least one step", "none", remedy))
    return replace(scan, demos=kept), quirks


def _check(stamp: Stamp, scan: Scan) -> None:
    """Refuse what cannot be true.

    Raises:
        DataError: an array lies outside the file, or on another one, or has not its demonstration's number of steps.
    """

    def refuse(field: str, expected: str, found: str) -> DataError:
        return DataError(stamp.path, field, expected=expected, found=found)

    if not scan.demos:
        raise refuse("data", "demonstrations with a step", "none")
    extents: list[tuple[int, int, str]] = []
    for demo in scan.demos:
        if "actions" not in demo["fields"]:
            raise refuse(
                f"data/{demo['name']}", "numbers called actions", f"only {', '.join(demo['fields']) or 'none'}"
            )
        steps = _steps(scan, demo)
        for field, (place, kind) in demo["fields"].items():
            where, row = f"data/{demo['name']}/{field}", scan.table[place]
            try:
                dtype = np.dtype(kind)
            except TypeError as error:
                raise refuse(where, "numbers", repr(kind)) from error
            rank = int(row[RANK])
            shape = [int(size) for size in row[SHAPE][:rank]]
            if dtype.kind not in _KINDS or not 1 <= rank <= 4 or min(shape) < 1:
                raise refuse(where, "numbers for at least one step", f"{dtype} of shape {tuple(shape)}")
            if shape[0] != steps:
                raise refuse(where, f"{steps} steps as in actions", str(shape[0]))
            size = prod(shape) * dtype.itemsize
            if size > _INFLATION * stamp.size:
                raise refuse(where, f"no more than a file of {stamp.size} bytes can hold", f"shape {tuple(shape)}")
            if int(row[COUNT]):
                _check_chunks(where, row, scan.chunks, dtype, min(MAX_CHUNK_BYTES, _INFLATION * stamp.size), refuse)
                chosen = scan.chunks[int(row[FIRST]) : int(row[FIRST] + row[COUNT])]
                extents += [(int(offset), int(length), where) for offset, length, _ in chosen]
            else:
                if int(row[BYTES]) != size:
                    raise refuse(where, f"{size} bytes for shape {tuple(shape)}", str(int(row[BYTES])))
                extents.append((int(row[OFFSET]), size, where))
    end, before = 0, "the file's beginning"
    for offset, length, where in sorted(extents):
        if offset < end:
            raise refuse(where, f"bytes of its own, from {end} on", f"bytes from {offset} on, which {before} has too")
        end, before = offset + length, where
    if end > stamp.size:
        raise refuse(before, f"bytes within the file's {stamp.size}", f"bytes up to {end}: the file is cut off")


def _check_chunks(where: str, row: Any, chunks: Any, dtype: np.dtype, most: int, refuse: Any) -> None:
    rank = int(row[RANK])
    edges = [int(edge) for edge in row[CHUNK][:rank]]
    grid = [-(-int(size) // edge) if edge > 0 else 0 for size, edge in zip(row[SHAPE][:rank], edges, strict=True)]
    if min(edges) < 1 or prod(edges) * dtype.itemsize > most or prod(grid) != int(row[COUNT]):
        raise refuse(where, f"{int(row[COUNT])} chunks of at most {most} bytes", f"chunks of {tuple(edges)}")
    if not 0 <= int(row[FIRST]) <= len(chunks) - int(row[COUNT]):
        raise refuse(where, f"chunks among {len(chunks)}", f"number {int(row[FIRST])}")
    sizes = chunks[int(row[FIRST]) : int(row[FIRST] + row[COUNT]), 1]
    if int(sizes.min()) < 1 or int(sizes.max()) > 2 * most:
        raise refuse(where, "stored chunks of a plausible size", f"{int(sizes.min())} to {int(sizes.max())} bytes")


def _steps(scan: Scan, demo: dict[str, Any]) -> int:
    return int(scan.table[demo["fields"]["actions"][0], SHAPE][0])


def _common_fields(scans: list[tuple[Stamp, Scan]]) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of one step of the arrays that every demonstration has.

    Raises:
        DataError: two demonstrations have different ones under one name.
    """
    common: dict[str, tuple[str, list[int]]] | None = None
    for stamp, scan in scans:
        for demo in scan.demos:
            here = {}
            for field, (place, kind) in demo["fields"].items():
                row = scan.table[place]
                here[field] = (kind, [int(size) for size in row[SHAPE][1 : int(row[RANK])]])
            common = here if common is None else {name: value for name, value in common.items() if name in here}
            for field, value in common.items():
                if here[field] != value:
                    expected = f"{value[0]} {tuple(value[1])} a step as in the other demonstrations"
                    found = f"{here[field][0]} {tuple(here[field][1])}"
                    raise DataError(stamp.path, f"data/{demo['name']}/{field}", expected=expected, found=found)
    return common or {}


def _partial_fields(scans: list[tuple[Stamp, Scan]], common: dict[str, Any]) -> list[Quirk]:
    """Arrays that some demonstrations have and others do not: a camera must not be lost without a word."""
    demos = [(stamp.path, demo) for stamp, scan in scans for demo in scan.demos]
    some: dict[str, int] = {}
    for _, demo in demos:
        for field in demo["fields"]:
            if field not in common:
                some[field] = some.get(field, 0) + 1
    quirks = []
    for field, count in some.items():
        path, name = next((path, demo["name"]) for path, demo in demos if field not in demo["fields"])
        expected = f"an array as {count} of {len(demos)} demonstrations have it"
        remedy = "the array is left out of all"
        quirks.append(Quirk("partial-field", path, f"data/{name}/{field}", expected, "none", remedy))
    return quirks


def _wrong_totals(stamp: Stamp, scan: Scan) -> list[Quirk]:
    """What a file says of its own size, where that is not so."""
    quirks = []
    remedy = "what is there is counted"
    steps = [_steps(scan, demo) for demo in scan.demos]
    for name, count in (("num_demos", len(steps)), ("total", sum(steps))):
        said = scan.attributes.get(name, count)
        if said != count:
            quirks.append(Quirk("wrong-totals", stamp.path, f"data, attribute {name}", str(count), str(said), remedy))
    for demo, count in zip(scan.demos, steps, strict=True):
        said = demo["attributes"].get("num_samples", count)
        if said != count:
            field = f"data/{demo['name']}, attribute num_samples"
            quirks.append(Quirk("wrong-totals", stamp.path, field, str(count), str(said), remedy))
    return quirks
