"""Byte ranges of the pictures in an uncompressed Parquet column, so that one picture is one read.

Parquet libraries read a column by the row group, often 100 MB of pictures. Pictures do not compress, so many writers
store their column as it is: then each value lies in the file as four bytes of length and the picture, page after page
(parquet-format, "Data Pages", PLAIN byte arrays), and this finds where without reading the pictures.

::

    column chunk = (page header, thrift compact) (definition levels) (length, picture) (length, picture) ...  next page
"""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.errors import DataError

_HEADER = 2**16  # bytes in which a page header must end
_DATA_PAGE, _DATA_PAGE_V2, _PLAIN = 0, 3, 0
_CHUNK = 2**20  # bytes read at once for a checksum


def picture_ranges(path: Path, column: str, metadata: Any) -> tuple[Int64[np.ndarray, "n 2"], bool] | None:
    """Offset and length of each value of a binary column, and whether there were checksums; None where it is not plain.

    Args:
        path: the Parquet file.
        column: path of the column in the schema, e.g. ``"observation.images.top.bytes"``.
        metadata: the file's pyarrow metadata.

    Raises:
        DataError: a page does not hold what its header says, or its checksum is wrong.
    """
    place = next((i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column), None)
    if place is None or metadata.schema.column(place).max_repetition_level:
        return None
    levels = metadata.schema.column(place).max_definition_level
    descriptor = os.open(path, os.O_RDONLY)
    try:
        walker = _Walker(path, column, descriptor, os.fstat(descriptor).st_size, levels)
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(place)
            if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
                return None
            if not walker.chunk(chunk.data_page_offset, chunk.total_compressed_size, chunk.num_values):
                return None
        found = np.array(walker.ranges, dtype=np.int64).reshape(-1, 2)
        return found, walker.checked
    finally:
        os.close(descriptor)


class _Walker:
    """Goes from page to page of one column."""

    def __init__(self, path: Path, column: str, descriptor: int, size: int, levels: int):
        self.path, self.column, self.descriptor, self.size, self.levels = path, column, descriptor, size, levels
        self.ranges: list[tuple[int, int]] = []
        self.checked = False

    def refuse(self, offset: int, expected: str, found: str) -> DataError:
        return DataError(self.path, f"{self.column}, page at byte {offset}", expected=expected, found=found)

    def chunk(self, offset: int, size: int, values: int) -> bool:
        """Walk one column chunk; False if its pages are of a kind that is not walked here."""
        end, before = offset + size, len(self.ranges)
        if not 0 < offset <= end <= self.size:
            raise self.refuse(offset, f"a column chunk within {self.size} bytes", f"{size} bytes")
        while len(self.ranges) - before < values:
            if offset >= end:
                raise self.refuse(offset, f"{values} values in the column chunk", f"{len(self.ranges) - before}")
            try:
                header, length = _Thrift(os.pread(self.descriptor, min(_HEADER, end - offset), offset)).struct()
            except (IndexError, ValueError):
                return False
            body, stored = offset + length, header.get(3)
            page = header.get(5) if header.get(1) == _DATA_PAGE else header.get(8)
            if header.get(1) not in (_DATA_PAGE, _DATA_PAGE_V2) or not isinstance(page, dict):
                return False
            if not isinstance(stored, int) or not 0 <= stored <= end - body:
                raise self.refuse(offset, f"a page within {end - body} bytes", repr(stored))
            self._verify(offset, body, stored, header.get(4))
            plain = self._page(offset, body, stored, page, header[1] == _DATA_PAGE_V2)
            if not plain:
                return False
            offset = body + stored
        return True

    def _verify(self, offset: int, body: int, stored: int, checksum: Any) -> None:
        if not isinstance(checksum, int):
            return
        self.checked, found = True, 0
        for place in range(body, body + stored, _CHUNK):
            found = zlib.crc32(os.pread(self.descriptor, min(_CHUNK, body + stored - place), place), found)
        if found != checksum & 0xFFFFFFFF:
            raise self.refuse(offset, f"checksum {checksum & 0xFFFFFFFF:08x}", f"{found:08x}")

    def _page(self, offset: int, body: int, stored: int, page: dict[int, Any], second: bool) -> bool:
        count, encoding = page.get(1), page.get(4 if second else 2)
        if encoding != _PLAIN or not isinstance(count, int) or not 0 <= count <= stored:
            return False
        place, end = body, body + stored
        if second:
            skipped = [size for size in (page.get(5), page.get(6)) if isinstance(size, int) and 0 <= size <= stored]
            if page.get(2) or len(skipped) != 2:
                return False  # values are missing
            place += sum(skipped)
        elif self.levels:
            size = int.from_bytes(os.pread(self.descriptor, 4, place), "little")
            if size > min(stored - 4, _HEADER) or not self._all_there(
                os.pread(self.descriptor, size, place + 4), count
            ):
                return False
            place += 4 + size
        for _ in range(count):
            length = int.from_bytes(os.pread(self.descriptor, 4, place), "little")
            if place + 4 + length > end:
                found = f"one of {length} bytes at byte {place}"
                raise self.refuse(offset, f"values within its {stored} bytes", found)
            self.ranges.append((place + 4, length))
            place += 4 + length
        if place != end:
            raise self.refuse(offset, f"{stored} bytes of values", str(place - body))
        return True

    def _all_there(self, levels: bytes, count: int) -> bool:
        """Whether no value is missing: runs of the highest definition level only (parquet-format, RLE hybrid)."""
        place, seen = 0, 0
        while seen < count:
            header, shift = 0, 0
            while True:
                if place >= len(levels) or shift > 35:
                    return False
                header |= (levels[place] & 0x7F) << shift
                shift, place = shift + 7, place + 1
                if not levels[place - 1] & 0x80:
                    break
            if header & 1 or place >= len(levels) or levels[place] != self.levels:
                return False  # a bit-packed run: mixed levels, left to the library
            seen, place = seen + (header >> 1), place + 1
        return seen == count


class _Thrift:
    """A struct in Thrift's compact protocol as a dict of field numbers; IndexError or ValueError if it is not one."""

    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def struct(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """Fields, and the bytes they took."""
        if depth > 4:
            raise ValueError("nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._value(head & 15, depth)
        return fields, self.place

    def _byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            self.place += 8
            return None
        if kind == 8:
            size = self._varint()  # moves the place itself, so not within the sum
            self.place += size
            return None
        if kind == 12:
            return self.struct(depth + 1)[0]
        raise ValueError(f"type {kind}, which page headers do not have")
