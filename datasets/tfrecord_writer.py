"""Writes TFRecord files and the ``tf.train.Example`` inside, without TensorFlow or protobuf; :mod:`tfrecord` reads."""

import struct
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np

from vla.datasets.checksum import masked_crc32c

Values = Sequence[bytes] | np.ndarray
"""A feature's values: texts, or an array of floating-point or of whole numbers."""


def write_record(file: BinaryIO, data: bytes) -> int:
    """Append one record with its two checksums; returns its length in the file [bytes]."""
    header = struct.pack("<Q", len(data))
    file.write(header + struct.pack("<I", masked_crc32c(header)))
    file.write(data)
    file.write(struct.pack("<I", masked_crc32c(data)))
    return len(data) + 16


def encode_example(features: Mapping[str, Values]) -> bytes:
    """A serialized ``tf.train.Example``; its entries stand in the order of their names, so equal ones are equal bytes.

    Args:
        features: floats are stored as float32, whole numbers and truth values as int64.
    """
    entries = [_field(1, _field(1, name.encode()) + _field(2, _feature(features[name]))) for name in sorted(features)]
    return _field(1, b"".join(entries))


def _feature(values: Values) -> bytes:
    if not isinstance(values, np.ndarray):
        return _field(1, b"".join(_field(1, value) for value in values))
    if values.dtype.kind == "f":
        return _field(2, _field(1, np.ascontiguousarray(values, "<f4").tobytes()))
    return _field(3, _field(1, b"".join(_varint(int(value) & 0xFFFFFFFFFFFFFFFF) for value in values.reshape(-1))))


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field."""
    return b"".join((bytes([number << 3 | 2]), _varint(len(data)), data))


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
