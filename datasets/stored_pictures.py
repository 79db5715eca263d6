"""Encoded pictures from anywhere in some files, read and decoded together into memory that is there already."""

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np

from vla.datasets.picture import decode_jpegs, decode_picture
from vla.datasets.storage import Stored, read_ranges
from vla.errors import DataError, SpecMismatch
from vla.experience import Image


class StoredPictures(Sequence[Image]):
    """JPEG or PNG pictures of one size, each a range of bytes of a file; :class:`~vla.window_batch.DecodesInto`.

    Args:
        files: of each picture.
        ranges: offset and length of each [bytes].
        size: height and width of all [pixels].
        name: names a picture in errors by its number; called only then.
        bgr: red and blue were swapped before they were encoded.
    """

    __slots__ = ("bgr", "files", "name", "ranges", "size")

    def __init__(
        self,
        files: Sequence[Stored],
        ranges: Sequence[Sequence[int]],
        size: tuple[int, int],
        name: Callable[[int], str],
        *,
        bgr: bool,
    ):
        self.files, self.ranges, self.size, self.name, self.bgr = files, ranges, size, name, bgr

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        """One picture; of a slice, a list.

        Raises:
            DataError: a file has changed, or holds no picture there.
            IndexError: there are not so many.
        """
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        picture = np.empty((*self.size, 3), np.uint8)
        self.decode_into(numbers, [picture])
        return picture

    def decode_into(self, first: int, out: Sequence[Image]) -> None:
        """See :class:`~vla.window_batch.DecodesInto`.

        First all are read, then all are decoded, see :func:`~vla.datasets.picture.decode_jpegs`.
        """
        size, last = (*self.size, 3), first + len(out)
        for memory in out:
            if memory.shape != size:
                raise SpecMismatch([f"{size} here, {memory.shape} there"], have="a picture", want="its place")
        read = read_ranges(self.files[first:last], self.ranges[first:last])
        done = 0
        while True:
            done += decode_jpegs(read[done:], out[done:], bgr=self.bgr)
            if done == len(out):
                return
            self._decode(read[done], first + done, out[done])
            done += 1

    def _decode(self, data: bytes, number: int, out: Image) -> None:
        """One that is no JPEG of the right size."""
        try:
            decode_picture(data, *self.size, "", "", bgr=self.bgr, out=out)
        except DataError as error:
            expected, found, wanted = error.expected, error.found, self.ranges[number][1]
            if len(data) != wanted:
                expected, found = f"{wanted} bytes", f"only {len(data)}: the file changed after it was indexed"
            raise DataError(self.files[number].place, self.name(number), expected=expected, found=found) from error
