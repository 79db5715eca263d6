"""Pictures that a LeRobot data set embeds in its Parquet files, each read and decoded alone.

Where the column is stored as it is (:mod:`vla.datasets.lerobot_pages`) a picture is a range of bytes of the data file.
Where it is compressed, the file's pictures are copied once, when the first of them is asked for, to a file in the cache
folder, because a compressed page can only be unpacked whole.
"""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Int64

from vla.datasets.array_file import map_arrays, read_meta, write_arrays
from vla.datasets.lerobot_pages import picture_ranges
from vla.datasets.lerobot_parquet import open_parquet, parquet_errors
from vla.datasets.picture import decode_picture
from vla.datasets.storage import Stored, read_range
from vla.datasets.stored_pictures import StoredPictures
from vla.errors import DataError
from vla.experience import Image
from vla.files import whole_file

_LIMIT = 64 * 2**20  # bytes of ranges kept in each process: 4 million pictures
_ROWS = 64  # pictures unpacked at once
_FORMAT = 1
logger = logging.getLogger(__name__)

type _Stat = tuple[int, int]


class _Ranges:
    """Where the pictures of recently used files lie, up to a number of bytes."""

    def __init__(self, limit: int):
        self._limit, self._size = limit, 0
        self._known: OrderedDict[tuple[Path, str, _Stat], tuple[Stored, Int64[np.ndarray, "n 2"]]] = OrderedDict()
        self._lock = threading.Lock()

    def table(self, path: Path, column: str, cache: Path) -> tuple[Stored, Int64[np.ndarray, "n 2"]]:
        """The file that a data file's encoded pictures are in, and offset and length of each of its rows."""
        status = path.stat()
        key = (path, column, (status.st_size, status.st_mtime_ns))
        with self._lock:
            if key not in self._known:
                file, ranges = _ranges(path, column, key[2], cache)
                self._known[key] = Stored(str(file), (held := file.stat()).st_size, str(held.st_mtime_ns)), ranges
                self._size += ranges.nbytes
                while self._size > self._limit and len(self._known) > 1:
                    self._size -= self._known.popitem(last=False)[1][1].nbytes
            self._known.move_to_end(key)
            return self._known[key]

    def find(self, path: Path, column: str, row: int, cache: Path) -> tuple[Stored, int, int]:
        """File, offset and length of the encoded picture in a row.

        Raises:
            DataError: the file cannot be read, or has no such row.
        """
        try:
            file, ranges = self.table(path, column, cache)
        except OSError as error:
            field = f"{column}, row {row}"
            raise DataError(path, field, expected="a readable file", found=str(error)) from error
        if row >= len(ranges):
            raise DataError(path, f"{column}, row {row}", expected="a picture", found=f"only {len(ranges)} rows")
        return file, int(ranges[row, 0]), int(ranges[row, 1])


_found = _Ranges(_LIMIT)


def _ranges(path: Path, column: str, status: _Stat, cache: Path) -> tuple[Path, Int64[np.ndarray, "n 2"]]:
    """From the cache folder if there is anything, else found now."""
    key = hashlib.sha256(repr((_FORMAT, str(path.resolve()), column)).encode()).hexdigest()[:24]
    index, pictures = cache / "pictures" / f"{key}.npz", cache / "pictures" / f"{key}.bin"
    if index.exists():
        try:
            meta = read_meta(index)
            if meta["status"] == list(status) and (not meta["unpacked"] or pictures.stat().st_size == meta["unpacked"]):
                return pictures if meta["unpacked"] else path, np.array(map_arrays(index)["ranges"])
        except (DataError, KeyError, TypeError, OSError) as error:
            logger.warning("%s is damaged (%s); it is made anew", index, error)
    with parquet_errors(path, column), open_parquet(path) as file:
        name = f"{column}.bytes"
        plain = picture_ranges(path, name, file.metadata)
        if plain is not None:
            ranges, checked = plain
            if checked:  # so that checksums are computed once, not once a process
                write_arrays(index, {"ranges": ranges}, {"status": list(status), "unpacked": 0})
            return path, ranges
        lengths = _unpack(file, path, column, pictures)
    ranges = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1)
    write_arrays(index, {"ranges": ranges}, {"status": list(status), "unpacked": int(lengths.sum())})
    return pictures, ranges


def _unpack(file: Any, path: Path, column: str, pictures: Path) -> Int64[np.ndarray, "n"]:
    """Copy a column's pictures one after the other to a file; their lengths."""
    logger.info("%s: pictures of %s are compressed: unpacking them to %s", path, column, pictures)
    lengths: list[int] = []
    try:
        with whole_file(pictures) as temporary, temporary.open("wb") as target:
            for batch in file.iter_batches(_ROWS, columns=[f"{column}.bytes"]):
                values = batch.column(column).field("bytes")
                if values.null_count:
                    found = f"a missing one near row {len(lengths)}"
                    raise DataError(path, column, expected="embedded pictures", found=found)
                for value in values:
                    lengths.append(target.write(value.as_buffer()))
    except OSError as error:
        expected = "a whole Parquet file, and a cache folder with space"
        raise DataError(path, f"{column}, unpacked to {pictures}", expected=expected, found=str(error)) from error
    return np.array(lengths, dtype=np.int64)


@dataclass(frozen=True)
class ParquetFrames(Sequence[Image]):
    """Pictures embedded in a Parquet column.

    Attributes:
        file: the data file.
        column: feature name.
        first: row of the first picture.
        steps: number of pictures.
        size: height and width [pixels].
        cache: folder for pictures that must be unpacked.
    """

    file: Path
    column: str
    first: int
    steps: int
    size: tuple[int, int]
    cache: Path

    def __len__(self) -> int:
        return self.steps

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        """One picture; of a slice, a list.

        Raises:
            DataError: the file holds no picture there.
            IndexError: there are not so many.
        """
        if isinstance(index, slice):
            return [self[step] for step in range(*index.indices(self.steps))]
        row = self.first + range(self.steps)[index]
        return decode_picture(self._read(row), *self.size, self.file, f"{self.column}, row {row}")

    def encoded(self, index: int) -> bytes:
        """The picture as stored, JPEG or PNG.

        Raises:
            DataError: the file holds no picture there.
            IndexError: there are not so many.
        """
        return self._read(self.first + range(self.steps)[index])

    def _read(self, row: int) -> bytes:
        file, offset, length = _found.find(self.file, self.column, row, self.cache)
        data = read_range(file, offset, length)
        if len(data) != length:
            raise DataError(
                self.file, f"{self.column}, row {row}", expected=f"{length} bytes", found=f"only {len(data)}"
            )
        return data


def pictures_of(
    files: Sequence[Path],
    which: Int64[np.ndarray, "n"],
    rows: Int64[np.ndarray, "n"],
    column: str,
    size: tuple[int, int],
    cache: Path,
    *,
    bgr: bool,
) -> StoredPictures:
    """Pictures from anywhere in some data files, to be read together.

    Args:
        files: data files.
        which: number of each picture's file.
        rows: row of each in its file.
        column: feature name.
        size: height and width of all [pixels].
        cache: folder for pictures that must be unpacked.
        bgr: stored with red and blue swapped.

    Raises:
        DataError: a file cannot be read, or has no such row.
    """
    held: list[Stored] = []
    ranges = np.empty((len(rows), 2), np.int64)
    for number, file in enumerate(files):
        mine = which == number
        _found.find(file, column, last := int(rows[mine].max()), cache)  # an error names the file and the row
        stored, table = _found.table(file, column, cache)
        held.append(stored)
        ranges[mine] = table[: last + 1][rows[mine]]
    sources = [held[number] for number in which.tolist()]
    return StoredPictures(sources, ranges.tolist(), size, lambda at: f"{column}, row {rows[at]}", bgr=bgr)


@dataclass(frozen=True)
class SwappedFrames(Sequence[Image]):
    """Pictures stored with red and blue swapped, put right.

    Attributes:
        frames: as stored.
    """

    frames: Sequence[Image]

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        """One picture; of a slice, a list."""
        if isinstance(index, slice):
            return [self[step] for step in range(*index.indices(len(self)))]
        return np.ascontiguousarray(self.frames[index][..., ::-1])
