"""The fields of one record, compared with the specification: what does not fit is a flaw of that field alone.

A record may hold fields that nobody will ever read, so a wrong one does not break the others: only who needs it minds.
"""

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from vla.datasets.picture import picture_size
from vla.datasets.rlds_specification import FEATURES, STEPS, Field, ImageField, NumberField, TextField
from vla.datasets.tfrecord import Feature, Malformed
from vla.errors import DataError

_VALUES, _ROWS = "ragged_flat_values", "ragged_row_lengths_0"


class Flaw(ValueError):
    """A field of a record that does not fit its specification.

    Args:
        expected: what the specification asks for.
        found: what is there.
    """

    def __init__(self, expected: str, found: str):
        self.expected, self.found = expected, found
        super().__init__(f"expected {expected}, found {found}")


@dataclass(frozen=True)
class RecordReader:
    """Fields of one record.

    Attributes:
        data: the record.
        features: where their values lie.
    """

    data: bytes
    features: Mapping[str, Feature]

    def steps(self, fields: Mapping[str, Field]) -> int:
        """Steps of the episode: as many as most fields have.

        Raises:
            Flaw: it has none.
        """
        counts = Counter(count for path, field in fields.items() if (count := self._count(path, field)) is not None)
        if not counts:
            raise Flaw(f"a list as in {FEATURES}", f"only {', '.join(sorted(self.features)) or 'nothing'}"[:500])
        steps = counts.most_common(1)[0][0]
        if not steps:
            raise Flaw("at least one step", "none")
        return steps

    def numbers(self, key: str, field: NumberField, rows: int) -> Shaped[np.ndarray, "rows n"]:
        """Numbers, one row a step.

        Raises:
            Flaw: they are missing, not as many or not of the kind they should be.
        """
        if field.coding in ("bytes", "zlib"):
            return self._raw(key, field, rows)
        kind = "float" if np.dtype(field.dtype).kind == "f" else "int64"
        feature = self._feature(f"{key}/{_VALUES}" if field.coding == "rows" else key, kind)
        count = feature.count(self.data)
        if count != rows * field.size:
            raise Flaw(f"{rows} steps x {field.size} numbers as in {FEATURES}", f"{count} numbers")
        try:
            values = feature.floats(self.data) if kind == "float" else feature.integers(self.data)
        except Malformed as error:
            raise Flaw("a list of numbers", str(error)) from error
        if field.coding == "rows":
            self._check_rows(key, field, rows)
        if kind == "int64":
            values = _integers(values, field.dtype)
        return values.reshape(rows, field.size)

    def texts(self, key: str, field: TextField, rows: int) -> list[str]:
        """Texts, one a step.

        Raises:
            Flaw: they are missing, not as many, or not text.
        """
        if field.codes is not None:
            codes = self.numbers(key, NumberField(field.codes, "int64"), rows)
            if codes.min() < 0 or codes.max() > 255:
                raise Flaw("UTF-8 in numbers from 0 to 255", f"{codes.min()} to {codes.max()}")
            pieces = [row[row != 0].astype(np.uint8).tobytes() for row in codes]
        else:
            pieces = self._elements(key, rows).texts(self.data)
        try:
            return [piece.decode() for piece in pieces]
        except UnicodeDecodeError as error:
            raise Flaw("UTF-8", str(error)) from error

    def pictures(
        self, key: str, field: ImageField, rows: int
    ) -> tuple[Int64[np.ndarray, "rows 2"], Int32[np.ndarray, "2"]]:
        """Place and length of each picture within the record [bytes], and the height and width of all [pixels].

        Raises:
            Flaw: they are missing, not as many, no pictures, or of several sizes.
        """
        ranges = self._elements(key, rows).ranges
        wanted: tuple[int | None, int | None] = (field.height, field.width)
        for offset, length in ranges:
            try:
                size = picture_size(self.data[offset : offset + length], "", key)
            except DataError as error:
                raise Flaw(error.expected, error.found) from error
            if any(want not in (None, have) for want, have in zip(wanted, size, strict=True)):
                expected = "x".join(str(number or "?") for number in wanted)
                raise Flaw(f"pictures of {expected}", f"{size[0]}x{size[1]}")
            wanted = size
        return np.array(ranges, dtype=np.int64).reshape(rows, 2), np.array(wanted, dtype=np.int32)

    def _raw(self, key: str, field: NumberField, rows: int) -> Shaped[np.ndarray, "rows n"]:
        """Numbers that are stored as the bytes they have in memory."""
        dtype = np.dtype(field.dtype).newbyteorder("<")
        size = dtype.itemsize * field.size
        pieces = self._elements(key, rows).texts(self.data)
        if field.coding == "zlib":
            pieces = [_inflated(piece, size) for piece in pieces]
        for step, piece in enumerate(pieces):
            if len(piece) != size:
                raise Flaw(f"{size} bytes a step ({field})", f"{len(piece)} in step {step}")
        return np.frombuffer(b"".join(pieces), dtype).reshape(rows, field.size)

    def _elements(self, key: str, rows: int) -> Feature:
        feature = self._feature(key, "bytes")
        if len(feature.ranges) != rows:
            raise Flaw(f"{rows} elements, one a step", str(len(feature.ranges)))
        return feature

    def _feature(self, key: str, kind: str) -> Feature:
        feature = self.features.get(key)
        if feature is None:
            raise Flaw(f"a {kind} list as in {FEATURES}", f"only {', '.join(sorted(self.features))}"[:500])
        if feature.kind != kind:
            raise Flaw(f"a {kind} list as in {FEATURES}", f"a {feature.kind} list")
        return feature

    def _count(self, path: str, field: Field) -> int | None:
        """Steps that a field has; None if that cannot be told from it."""
        size = (
            field.size if isinstance(field, NumberField) else (field.codes or 1) if isinstance(field, TextField) else 1
        )
        if isinstance(field, NumberField) and field.coding in ("bytes", "zlib"):
            size = 1
        ragged = isinstance(field, NumberField) and field.coding == "rows"
        feature = self.features.get(f"{STEPS}/{path}/{_VALUES}" if ragged else f"{STEPS}/{path}")
        if feature is None:
            return None
        count = feature.count(self.data)
        return count // size if count % size == 0 else None

    def _check_rows(self, key: str, field: NumberField, rows: int) -> None:
        feature = self._feature(f"{key}/{_ROWS}", "int64")
        try:
            lengths = feature.integers(self.data) if feature.count(self.data) == rows else np.zeros(0, np.int64)
        except Malformed as error:
            raise Flaw("row lengths", str(error)) from error
        if len(lengths) != rows or len(set(lengths.tolist())) > 1 or lengths[0] < 1 or field.size % lengths[0]:
            raise Flaw(f"{rows} sequences of one length", f"lengths {lengths[:8].tolist()}")


def _integers(values: Int64[np.ndarray, "n"], dtype: str) -> Shaped[np.ndarray, "n"]:
    """Whole numbers as the type they are declared to be."""
    if dtype == "bool":
        low, high = 0, 1
    elif dtype == "uint64":
        return values.view(np.uint64)  # tensorflow-datasets stores its bits
    else:
        limits = np.iinfo(dtype)
        low, high = int(limits.min), int(limits.max)
    if len(values) and (int(values.min()) < low or int(values.max()) > high):
        raise Flaw(f"{dtype}, {low} to {high}", f"{values.min()} to {values.max()}")
    return values.astype(dtype)


def _inflated(data: bytes, size: int) -> bytes:
    """A little more than ``size`` bytes at most, whatever the data would grow to."""
    try:
        return zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise Flaw("deflated numbers", str(error)) from error
