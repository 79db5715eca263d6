"""Encoded pictures from anywhere in some files, read and decoded together into memory that is there already."""

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np

from vla.datasets.picture import decode_picture
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

        First all are read, then all are decoded: the decoder pushes the interpreter out of the processor's caches, and
        whatever is done between two pictures takes several times as long as it would by itself.
        """
        size, last = (*self.size, 3), first + len(out)
        for memory in out:
            if memory.shape != size:
                raise SpecMismatch([f"{size} here, {memory.shape} there"], have="a picture", want="its place")
        read = read_ranges(self.files[first:last], self.ranges[first:last])
        (height, width), bgr, number = self.size, self.bgr, first
        try:
            for data, memory in zip(read, out, strict=True):
                decode_picture(data, height, width, "", "", bgr=bgr, out=memory)
                number += 1
        except DataError as error:
            expected, found, wanted = error.expected, error.found, self.ranges[number][1]
            if len(read[number - first]) != wanted:
                expected = f"{wanted} bytes"
                found = f"only {len(read[number - first])}: the file changed after it was indexed"
            raise DataError(self.files[number].place, self.name(number), expected=expected, found=found) from error
