"""Pictures of one camera in one episode of a LeRobot data set, decoded one by one."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from vla.datasets.picture import decode_picture
from vla.errors import DataError
from vla.experience import Image

_CACHE_BYTES = 256 * 2**20  # encoded pictures kept in each process


class _RowGroups:
    """Recently used columns of encoded pictures, one row group each, up to a number of bytes.

    Parquet is read by the row group (here an episode): the last ones are kept, since a loader that draws windows at
    random comes back to the same episode for its other cameras and soon for other steps.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._size = 0
        self._columns: OrderedDict[tuple[Path, str, int], Any] = OrderedDict()
        self._rows: dict[Path, np.ndarray] = {}
        self._lock = threading.Lock()

    def picture(self, path: Path, column: str, row: int) -> bytes:
        """Encoded picture in a row of a file."""
        with self._lock:
            ends = self._row_ends(path)
            group = int(np.searchsorted(ends, row, side="right"))
            start = int(ends[group - 1]) if group else 0
            return self._column(path, column, group)[row - start].as_py()

    def _row_ends(self, path: Path) -> np.ndarray:
        if path not in self._rows:
            with _open(path) as file:
                counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            self._rows[path] = np.cumsum(counts)
        return self._rows[path]

    def _column(self, path: Path, column: str, group: int) -> Any:
        key = (path, column, group)
        if key in self._columns:
            self._columns.move_to_end(key)
            return self._columns[key]
        with _open(path) as file:
            values = file.read_row_group(group, columns=[f"{column}.bytes"]).column(column).combine_chunks()
        encoded = values.field("bytes")
        if encoded.null_count:
            found = f"{encoded.null_count} missing ones in row group {group}"
            raise DataError(path, column, expected="embedded pictures", found=found)
        self._columns[key] = encoded
        self._size += encoded.nbytes
        while self._size > self._limit and len(self._columns) > 1:
            self._size -= self._columns.popitem(last=False)[1].nbytes
        return encoded


_row_groups = _RowGroups(_CACHE_BYTES)


@dataclass(frozen=True)
class ParquetFrames(Sequence[Image]):
    """Pictures embedded in a Parquet column.

    Attributes:
        file: the data file.
        column: feature name.
        first: row of the first picture.
        steps: number of pictures.
        size: height and width [pixels].
    """

    file: Path
    column: str
    first: int
    steps: int
    size: tuple[int, int]

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
        import pyarrow as pa

        try:
            data = _row_groups.picture(self.file, self.column, row)
        except (OSError, KeyError, IndexError, pa.ArrowException) as error:
            expected = "an embedded picture"
            raise DataError(self.file, f"{self.column}, row {row}", expected=expected, found=str(error)) from error
        return decode_picture(data, *self.size, self.file, f"{self.column}, row {row}")


@dataclass(frozen=True)
class VideoFrames(Sequence[Image]):
    """Pictures of a video file.

    Attributes:
        file: the video.
        start: time of the first picture in it [s].
        steps: number of pictures.
        rate: pictures a second.
        size: height and width [pixels].
    """

    file: Path
    start: float
    steps: int
    rate: float
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.steps

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        """One picture, decoded from the nearest key frame before it; of a slice, a list.

        Raises:
            DataError: the video has no picture at that time.
            IndexError: there are not so many.
        """
        if isinstance(index, slice):
            return [self[step] for step in range(*index.indices(self.steps))]
        time = self.start + range(self.steps)[index] / self.rate
        return self._at(time)

    def _at(self, time: float) -> Image:
        import av

        field, half = f"picture at {time:.4f} s", 0.5 / self.rate
        try:
            with av.open(str(self.file)) as container:
                stream = container.streams.video[0]
                base = stream.time_base
                if base is None:
                    raise DataError(self.file, field, expected="a stream with a time base", found="none")
                container.seek(max(0, int((time - half) / base)), stream=stream, backward=True)
                for frame in container.decode(stream):
                    if frame.time is not None and frame.time > time - half:
                        break
                else:
                    raise DataError(self.file, field, expected="a picture", found="the end of the video")
        except (OSError, IndexError) as error:  # PyAV's errors are OSErrors
            raise DataError(self.file, field, expected="a readable video", found=str(error)) from error
        if frame.time is None or abs(frame.time - time) > half:
            raise DataError(self.file, field, expected="a picture", found=f"the nearest at {frame.time} s")
        if (frame.height, frame.width) != self.size:
            expected, found = "{}x{}".format(*self.size), f"{frame.height}x{frame.width}"
            raise DataError(self.file, field, expected=expected, found=found)
        return frame.to_ndarray(format="rgb24")


def _open(path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path)
