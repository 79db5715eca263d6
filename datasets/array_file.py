"""Named arrays and a JSON value in one file that is mapped into memory instead of read.

::

    arrays, each from a multiple of 64 bytes on | JSON: {"meta": ..., "arrays": {name: [type, shape, offset]}}
                                                | length of the JSON: uint64 | magic: 8 bytes

Arrays grow by appending while the file is written, so that none has to be in memory whole; worker processes share the
pages of a mapped file and touch only the rows that they need. What says where everything lies comes last: a file that
was cut off is never taken for a whole one.
"""

import json
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import DataError
from vla.files import whole_file

_MAGIC = b"VLAARRAY"
_ALIGNED = 64
_END = struct.Struct("<Q8s")

Plan = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name to type, e.g. ``"<f4"``, and shape of an array that is filled row by row."""


class ArrayWriter:
    """The file while it grows: use :func:`array_writer`."""

    def __init__(self, descriptor: int, plan: Plan):
        self._descriptor = descriptor
        self._end = 0
        self._arrays: dict[str, tuple[str, tuple[int, ...], int]] = {}
        self._filled: dict[str, int] = {}
        self.meta: Any = None
        for name, (kind, shape) in plan.items():
            self._place(name, np.dtype(kind), shape)

    def append(self, name: str, rows: np.ndarray) -> None:
        """Fill the next rows of a planned array."""
        kind, shape, offset = self._arrays[name]
        data = np.ascontiguousarray(rows, dtype=kind).tobytes()
        filled = self._filled[name]
        if filled + len(data) > _size(kind, shape):
            raise ValueError(f"array {name} is full")
        self._write(data, offset + filled)
        self._filled[name] = filled + len(data)

    def add(self, name: str, array: np.ndarray) -> None:
        """A whole array that nobody planned."""
        array = np.asarray(array)
        self._place(name, array.dtype, array.shape)
        self.append(name, array)

    def finish(self) -> None:
        """Write what says where everything lies; rows that nobody filled are zero."""
        tail = json.dumps({"meta": self.meta, "arrays": self._arrays}).encode()
        os.ftruncate(self._descriptor, self._end)
        self._write(tail + _END.pack(len(tail), _MAGIC), self._end)

    def _place(self, name: str, kind: np.dtype, shape: tuple[int, ...]) -> None:
        self._arrays[name] = (kind.str, tuple(int(number) for number in shape), self._end)
        self._filled[name] = 0
        self._end += -(-_size(kind.str, shape) // _ALIGNED) * _ALIGNED

    def _write(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._descriptor, view, offset)
            view, offset = view[count:], offset + count


@contextmanager
def array_writer(path: Path, plan: Plan) -> Iterator[ArrayWriter]:
    """Write under another name, then rename when the block ends well: a reader sees all or nothing.

    Raises:
        DataError: the file cannot be written, e.g. on a full disk.
    """
    try:
        with whole_file(path) as temporary:
            descriptor = os.open(temporary, os.O_RDWR)
            try:
                writer = ArrayWriter(descriptor, plan)
                yield writer
                writer.finish()
            finally:
                os.close(descriptor)
    except OSError as error:
        raise DataError(path, "index", expected="a writable folder with space", found=str(error)) from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], meta: Any) -> None:
    """Write arrays that are in memory.

    Raises:
        DataError: the file cannot be written, e.g. on a full disk.
    """
    with array_writer(path, {}) as writer:
        writer.meta = meta
        for name, array in arrays.items():
            writer.add(name, array)


def read_meta(path: Path) -> Any:
    """The JSON value of such a file.

    Raises:
        DataError: the file is not one.
    """
    try:
        with path.open("rb") as file:
            return _tail(file.fileno())["meta"]
    except (OSError, KeyError, ValueError, TypeError, RecursionError, struct.error) as error:
        raise DataError(path, "meta", expected="an index file", found=str(error)) from error


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of such a file, read-only and not yet read.

    Raises:
        DataError: the file is not one.
    """
    try:
        with path.open("rb") as file:
            places = _tail(file.fileno())["arrays"]
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return {name: _mapped(whole, name, *place) for name, place in places.items()}
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise DataError(path, "arrays", expected="an index file", found=str(error)) from error


def _tail(descriptor: int) -> dict[str, Any]:
    size = os.fstat(descriptor).st_size
    length, magic = _END.unpack(os.pread(descriptor, _END.size, max(0, size - _END.size)))
    if magic != _MAGIC or length > size - _END.size:
        raise ValueError("no such file, or one that was cut off")
    return json.loads(os.pread(descriptor, length, size - _END.size - length))


def _mapped(whole: mmap.mmap, name: str, kind: str, shape: list[int], offset: int) -> np.ndarray:
    dtype, count = np.dtype(kind), math.prod(shape)
    if dtype.hasobject or min([0, offset, *shape]) < 0 or offset + count * dtype.itemsize > len(whole):
        raise ValueError(f"array {name} of {kind} {shape} at byte {offset}")
    return np.frombuffer(whole, dtype, count, offset).reshape(shape) if count else np.zeros(shape, dtype)


def _size(kind: str, shape: tuple[int, ...]) -> int:
    return np.dtype(kind).itemsize * math.prod(shape)
