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
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Float32, Int64

from vla.datasets.checksum import masked_crc32c
from vla.errors import DataError

FeatureKind = Literal["bytes", "float", "int64"]
_KINDS: dict[int, FeatureKind] = {1: "bytes", 2: "float", 3: "int64"}
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """The bytes are not the message they should be."""


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        offset: of ``data`` within the file [bytes].
        data: checked against its CRC.
    """

    offset: int
    data: bytes


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
            Malformed: a number is cut off.
        """
        values: list[int] = []
        for offset, length in self.ranges:
            place = offset
            while place < offset + length:
                value, place = _varint(data, place, offset + length)
                values.append(value - (1 << 64) if value >> 63 else value)
        return np.array(values, dtype=np.int64)


def read_records(path: Path) -> Iterator[Record]:
    """All records of a file in their order, with both checksums verified.

    Raises:
        DataError: the file ends within a record or a checksum is wrong.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        offset = 0
        while offset < size:
            header = _take(file, 12, path, offset, size, "record header")
            (length,) = struct.unpack_from("<Q", header)
            _check(header[:8], header[8:], path, f"length of the record at byte {offset}")
            body = _take(file, length + 4, path, offset + 12, size, f"record of {length} bytes and its CRC")
            data = body[:length]
            _check(data, body[length:], path, f"record at byte {offset}")
            yield Record(offset + 12, data)
            offset += 12 + length + 4


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


def _take(file: BinaryIO, count: int, path: Path, offset: int, size: int, what: str) -> bytes:
    if count > size - offset:
        raise DataError(path, f"byte {offset}", expected=what, found=f"only {size - offset} bytes before the file ends")
    data = file.read(count)
    if len(data) != count:
        raise DataError(path, f"byte {offset}", expected=what, found=f"only {len(data)} bytes: it shrank while read")
    return data


def _check(data: bytes, stored: bytes, path: Path, what: str) -> None:
    expected, found = struct.unpack("<I", stored)[0], masked_crc32c(data)
    if expected != found:
        raise DataError(path, what, expected=f"masked CRC-32C {expected:08x} as stored", found=f"{found:08x}")


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
        if kind == "bytes":
            result = Feature(kind, tuple((a, b - a) for n, a, b in _messages(data, first, last) if n == 1))
        elif kind:
            result = Feature(kind, tuple(_runs(data, first, last, kind)))
    return result


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
