"""Rows of an array inside an HDF5 file by byte range, without libhdf5: a read, and for compressed chunks an inflate.

Contiguous arrays (LIBERO's files) are one read a frame. Chunks are read whole and the last ones kept, because libraries
choose chunks that span many frames and parts of each.
"""

import os
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vla.datasets.hdf5_scan import CHUNK, COUNT, FILTER_NUMBERS, FILTERS, OFFSET, RANK, SHAPE
from vla.errors import DataError

_CACHE_BYTES = 64 << 20  # of inflated chunks in each process
MAX_CHUNK_BYTES = 1 << 30


@dataclass(frozen=True)
class Stamp:
    """A file as it was when it was indexed.

    Attributes:
        path: of the file.
        size: [bytes].
        time: of the last change [ns].
    """

    path: str
    size: int
    time: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """The file as it is now.

        Raises:
            DataError: it cannot be read.
        """
        try:
            facts = path.stat()
        except OSError as error:
            raise DataError(path, "file", expected="a readable file", found=error.strerror or str(error)) from error
        return cls(str(path), facts.st_size, facts.st_mtime_ns)


@dataclass(frozen=True)
class StoredArray:
    """Numbers inside a file; reading them opens it, and keeps it open, in whatever process asks.

    Attributes:
        stamp: the file.
        field: its name in there, for errors.
        dtype: of the numbers.
        row: of the index, see :mod:`vla.datasets.hdf5_scan`.
        chunks: offset, size and filter mask of this array's chunks.
    """

    stamp: Stamp
    field: str
    dtype: np.dtype
    row: Int64[np.ndarray, "columns"]
    chunks: Int64[np.ndarray, "chunks 3"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Steps first."""
        return tuple(int(size) for size in self.row[SHAPE][: int(self.row[RANK])])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def filters(self) -> tuple[str, ...]:
        """In the order in which they were applied."""
        return tuple(FILTER_NUMBERS[int(number)] for number in self.row[FILTERS] if number)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Some steps, by default all, as an array of the caller's own.

        Raises:
            DataError: the file has changed since it was indexed, or a chunk is damaged.
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        shape = (max(0, stop - start), *self.shape[1:])
        if not int(self.row[COUNT]):
            step = prod(shape[1:]) * self.dtype.itemsize
            data = _opened(self.stamp).read(int(self.row[OFFSET]) + start * step, shape[0] * step, self.field)
            return np.frombuffer(data, self.dtype).reshape(shape).copy()
        result = np.empty(shape, self.dtype)
        edges = [int(edge) for edge in self.row[CHUNK][: len(shape)]]
        grid = [-(-size // edge) for size, edge in zip(self.shape, edges, strict=True)]
        a_row = prod(grid[1:])
        for number in range(start // edges[0] * a_row, -(-stop // edges[0]) * a_row):
            corner = [int(cell) * edge for cell, edge in zip(np.unravel_index(number, grid), edges, strict=True)]
            block = self._chunk(number, edges)
            first, last = max(start, corner[0]), min(stop, corner[0] + edges[0])
            sides = zip(corner[1:], edges[1:], self.shape[1:], strict=True)
            inner = [slice(low, min(low + edge, size)) for low, edge, size in sides]
            part = [slice(0, one.stop - one.start) for one in inner]
            result[(slice(first - start, last - start), *inner)] = block[
                (slice(first - corner[0], last - corner[0]), *part)
            ]
        return result

    def _chunk(self, number: int, edges: list[int]) -> np.ndarray:
        offset, size, mask = (int(value) for value in self.chunks[number])
        key = (self.stamp, offset)
        block = _chunks.get(key)
        if block is None:
            data = _opened(self.stamp).read(offset, size, self.field)
            expected = prod(edges) * self.dtype.itemsize
            for place in reversed(range(len(self.filters))):
                if not mask >> place & 1:
                    data = self._undone(self.filters[place], data, expected)
            if len(data) != expected:
                raise self._refuse(number, f"{expected} bytes", f"{len(data)}")
            block = np.frombuffer(data, self.dtype).reshape(edges)
            _chunks.put(key, block)
        return block

    def _undone(self, name: str, data: bytes, expected: int) -> bytes:
        if name == "gzip":
            inflater = zlib.decompressobj()
            try:
                result = inflater.decompress(data, expected + 8)  # a checksum may be inside, and the end must be seen
            except zlib.error as error:
                raise self._refuse(-1, "deflated numbers", str(error)) from error
            if not inflater.eof:
                raise self._refuse(-1, f"a whole stream of at most {expected} bytes", "more, or a stream cut off")
            return result
        if name == "fletcher32":
            if len(data) < 4 or _fletcher32(data[:-4]) != int.from_bytes(data[-4:], "little"):
                raise self._refuse(-1, "numbers that fit their Fletcher checksum", "others")
            return data[:-4]
        width = self.dtype.itemsize
        whole = len(data) // width * width
        planes = np.frombuffer(data[:whole], np.uint8).reshape(width, -1)
        return planes.T.tobytes() + data[whole:]

    def _refuse(self, chunk: int, expected: str, found: str) -> DataError:
        where = f"{self.field}, chunk {chunk}" if chunk >= 0 else self.field
        return DataError(self.stamp.path, where, expected=expected, found=found)


def _fletcher32(data: bytes) -> int:
    """HDF5's variant: big-endian words of 16 bits, an odd last byte as the high half of one (H5checksum.c)."""
    words = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype(np.uint64)
    if len(data) % 2:
        words = np.append(words, np.uint64(data[-1] << 8))
    # both sums modulo 65535 in pieces that cannot overflow; HDF5 keeps 65535 where another has 0
    low = high = 0
    for start in range(0, len(words), 1 << 20):
        part = words[start : start + (1 << 20)]
        weights = np.arange(len(part), 0, -1, dtype=np.uint64)
        high = (high + low * len(part) + int((part * weights % 65535).sum())) % 65535
        low = (low + int(part.sum())) % 65535
    any_set = bool(words.any())
    low, high = (value or 65535 * any_set for value in (low, high))
    return high << 16 | low


class _Opened:
    """An open file; closed when nobody uses it any more, so that forgetting it never pulls it from under a reader."""

    def __init__(self, stamp: Stamp):
        self._descriptor = -1
        try:
            self._descriptor = os.open(stamp.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            found = error.strerror or str(error)
            raise DataError(stamp.path, "file", expected="a readable file", found=found) from error
        self._stamp = stamp

    def read(self, offset: int, count: int, field: str) -> bytes:
        facts = os.fstat(self._descriptor)  # each time: what is written over in place is still the same open file
        if (facts.st_size, facts.st_mtime_ns) != (self._stamp.size, self._stamp.time):
            raise DataError(self._stamp.path, "file", expected="the file as it was opened", found="a changed one")
        parts, have = [], 0
        while have < count:
            try:
                part = os.pread(self._descriptor, count - have, offset + have)
            except OSError as error:
                raise DataError(self._stamp.path, field, expected="readable bytes", found=str(error)) from error
            if not part:
                raise DataError(self._stamp.path, field, expected=f"{count} bytes at {offset}", found=f"only {have}")
            parts.append(part)
            have += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __del__(self):
        if self._descriptor >= 0:
            os.close(self._descriptor)


@lru_cache(maxsize=64)
def _opened(stamp: Stamp) -> _Opened:
    return _Opened(stamp)


class _Chunks:
    """Inflated chunks, the ones used last, up to a number of bytes."""

    def __init__(self, most: int):
        self._most, self._bytes = most, 0
        self._blocks: OrderedDict[tuple[Stamp, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[Stamp, int]) -> np.ndarray | None:
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
            return self._blocks.get(key)

    def put(self, key: tuple[Stamp, int], block: np.ndarray) -> None:
        with self._lock:
            if key in self._blocks:
                return
            self._blocks[key] = block
            self._bytes += block.nbytes
            while self._bytes > self._most and len(self._blocks) > 1:
                self._bytes -= self._blocks.popitem(last=False)[1].nbytes


_chunks = _Chunks(_CACHE_BYTES)
