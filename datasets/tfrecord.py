"""TFRecord files and the ``tf.train.Example`` inside, down to byte ranges, without TensorFlow or protobuf.

::

    record    length: uint64 | masked CRC of the length | data: length bytes | masked CRC of the data
    Example   features { feature { key: string, value { bytes_list | float_list | int64_list } } ... }

Nothing is decoded here: a feature is a list of byte ranges within the record, so that a picture can later be read
alone. Every length is compared with what is left of its surroundings before a byte of it is read or a buffer made.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Float32, Int64

from vla.datasets.checksum import masked_crc32c
from vla.errors import DataError

FeatureKind = Literal["bytes", "float", "int64"]
_KINDS: dict[int, FeatureKind] = {1: "bytes", 2: "float", 3: "int64"}
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_HEADER = 12  # bytes: a length and its CRC
_ELEMENTS = 1 << 22  # of one list: far above any episode, far below what would fill the memory


class Malformed(ValueError):
    """The bytes are not the message they should be."""


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        offset: of ``data`` within the file [bytes].
        data: checked against its CRC.
        crc: of the data, masked as it is stored.
    """

    offset: int
    data: bytes
    crc: int


@dataclass(frozen=True)
class Feature:
    """Where the values of one feature lie within the record.

    Attributes:
        kind: type of the list.
        ranges: (offset, length) [bytes]: one for each element of a bytes list, one for each packed run of numbers.
    """

    kind: FeatureKind
    ranges: tuple[tuple[int, int], ...]

    def texts(self, data: bytes) -> list[bytes]:
        """Elements of a bytes list."""
        return [data[offset : offset + length] for offset, length in self.ranges]

    def floats(self, data: bytes) -> Float32[np.ndarray, "n"]:
        """Numbers of a float list."""
        runs = [np.frombuffer(data, "<f4", length // 4, offset) for offset, length in self.ranges]
        return np.concatenate(runs) if runs else np.zeros(0, np.float32)

    def integers(self, data: bytes) -> Int64[np.ndarray, "n"]:
        """Numbers of an int64 list.

        Raises:
            Malformed: a number is cut off or too long.
        """
        runs = [self._run(data, offset, length) for offset, length in self.ranges]
        return np.concatenate(runs) if runs else np.zeros(0, np.int64)

    def count(self, data: bytes) -> int:
        """How many values there are; decodes none."""
        if self.kind == "bytes":
            return len(self.ranges)
        if self.kind == "float":
            return sum(length for _, length in self.ranges) // 4
        return sum(
            int(np.count_nonzero(np.frombuffer(data, np.uint8, length, offset) < 0x80))
            for offset, length in self.ranges
            if length
        )

    @staticmethod
    def _run(data: bytes, offset: int, length: int) -> Int64[np.ndarray, "n"]:
        """Base-128 numbers, lowest seven bits first, side by side."""
        raw = np.frombuffer(data, np.uint8, length, offset)
        last = np.flatnonzero(raw < 0x80)
        if len(last) == length:
            return raw.astype(np.int64)
        if not len(last) or last[-1] != length - 1:
            raise Malformed(f"a number cut off at byte {offset + length}")
        first = np.concatenate([[0], last[:-1] + 1])
        sizes = last - first + 1
        if sizes.max() > 10:
            raise Malformed(f"a number of more than 10 bytes before byte {offset + int(last[sizes.argmax()])}")
        shifts = 7 * (np.arange(length) - np.repeat(first, sizes))
        parts = (raw & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
        return np.bitwise_or.reduceat(parts, first).view(np.int64)


@dataclass(frozen=True)
class Broken:
    """A record that cannot be used.

    Attributes:
        offset: of the record's header within the file [bytes].
        expected: what the format asks for.
        found: what is there.
        lost: nothing after it can be found, since only its length says where the next one begins.
    """

    offset: int
    expected: str
    found: str
    lost: bool


def scan_records(file: BinaryIO, size: int) -> Iterator[Record | Broken]:
    """All records of a file in their order, with both checksums verified; memory for one record at a time.

    Args:
        file: from its start.
        size: of it [bytes].
    """
    offset = 0
    while offset < size:
        rest = size - offset
        header = file.read(min(_HEADER, rest))
        if len(header) < _HEADER:
            yield Broken(offset, "record header", f"only {len(header)} bytes before the file ends", lost=True)
            return
        length, stored = struct.unpack("<QI", header)
        found = masked_crc32c(header[:8])
        if found != stored:
            found = f"{found:08x}, so that its length is not known"
            yield Broken(offset, f"masked CRC-32C {stored:08x} of the record's length", found, lost=True)
            return
        whole = _HEADER + length + 4
        data, tail = (file.read(length), file.read(4)) if whole <= rest else (b"", b"")
        if len(data) + len(tail) < length + 4:
            expected = f"record of {length} bytes and its CRC"
            yield Broken(offset, expected, f"only {rest - _HEADER} bytes before the file ends", lost=True)
            return
        (stored,) = struct.unpack("<I", tail)
        found = masked_crc32c(data)
        if found != stored:
            yield Broken(offset, f"masked CRC-32C {stored:08x} as stored", f"{found:08x}", lost=False)
        else:
            yield Record(offset + _HEADER, data, stored)
        offset += whole


def parse_example(data: bytes, file: str | Path, record: str) -> dict[str, Feature]:
    """The features of a serialized ``tf.train.Example``.

    Args:
        data: the record.
        file: named in errors.
        record: name of the record in errors.

    Raises:
        DataError: the bytes are not an Example.
    """
    features: dict[str, Feature] = {}
    try:
        for number, start, end in _messages(data, 0, len(data)):
            if number != 1:
                continue
            for entry, first, last in _messages(data, start, end):
                if entry == 1:
                    name, feature = _map_entry(data, first, last)
                    features[name] = feature  # of two entries with one key the later counts, as in protobuf
    except Malformed as error:
        raise DataError(file, record, expected="a serialized tf.train.Example", found=str(error)) from error
    return features


def _map_entry(data: bytes, start: int, end: int) -> tuple[str, Feature]:
    name, feature = "", Feature("bytes", ())
    for number, first, last in _messages(data, start, end):
        if number == 1:
            try:
                name = data[first:last].decode()
            except UnicodeDecodeError as error:
                raise Malformed(f"a feature name at byte {first} that is not UTF-8") from error
        elif number == 2:
            feature = _feature(data, first, last)
    return name, feature


def _feature(data: bytes, start: int, end: int) -> Feature:
    result = Feature("bytes", ())
    for number, first, last in _messages(data, start, end):
        kind = _KINDS.get(number)
        if kind:
            elements = _elements(data, first, last) if kind == "bytes" else _runs(data, first, last, kind)
            ranges = tuple(islice(elements, _ELEMENTS + 1))
            if len(ranges) > _ELEMENTS:
                raise Malformed(f"a list of more than {_ELEMENTS} elements at byte {first}")
            result = Feature(kind, ranges)
    return result


def _elements(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Elements of a bytes list."""
    for number, first, last in _messages(data, start, end):
        if number == 1:
            yield first, last - first


def _runs(data: bytes, start: int, end: int, kind: FeatureKind) -> Iterator[tuple[int, int]]:
    """Packed runs of numbers; a writer that does not pack gives runs of one number."""
    for number, wire, first, last in _fields(data, start, end):
        if number != 1:
            continue
        if wire not in (_DELIMITED, _FIXED32 if kind == "float" else _VARINT):
            raise Malformed(f"wire type {wire} at byte {first} in a list of {kind}")
        if kind == "float" and (last - first) % 4:
            raise Malformed(f"a float list of {last - first} bytes at byte {first}")
        yield first, last - first


def _messages(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of the length-delimited fields; others are skipped as unknown."""
    for number, wire, first, last in _fields(data, start, end):
        if wire == _DELIMITED:
            yield number, first, last


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, end) of each field's value between two places."""
    place = start
    while place < end:
        tag, first = _varint(data, place, end)
        number, wire = tag >> 3, tag & 7
        if wire == _DELIMITED:
            length, first = _varint(data, first, end)
            last = first + length
        elif wire == _VARINT:
            _, last = _varint(data, first, end)
        elif wire == _FIXED32:
            last = first + 4
        elif wire == _FIXED64:
            last = first + 8
        else:
            raise Malformed(f"wire type {wire} at byte {place}")
        if last > end:
            raise Malformed(f"a field at byte {place} that ends at {last}, past its message's end at {end}")
        yield number, wire, first, last
        place = last


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """A base-128 number and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise Malformed(f"a number cut off at byte {end}")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise Malformed(f"a number of more than 10 bytes before byte {place}")
