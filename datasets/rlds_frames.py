"""Pictures of one camera in one RLDS episode, each a byte range of its shard until somebody looks."""

from collections.abc import Sequence
from typing import overload

import numpy as np
from jaxtyping import Int64

from vla.datasets.picture import decode_picture
from vla.datasets.storage import Stored, read_range
from vla.errors import DataError
from vla.experience import Image


class EncodedFrames(Sequence[Image]):
    """Pictures of one camera in one episode, decoded one by one; :class:`~vla.datasets.picture.Encoded` too.

    Args:
        file: where they lie.
        places: offset and length of each [bytes].
        size: height and width [pixels].
        label: names them in errors.
    """

    __slots__ = ("file", "label", "places", "size")

    def __init__(self, file: Stored, places: Int64[np.ndarray, "t 2"], size: tuple[int, int], label: tuple[int, str]):
        self.file, self.places, self.size, self.label = file, places, size, label

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "EncodedFrames": ...
    def __getitem__(self, index: int | slice) -> "Image | EncodedFrames":
        """One picture, or some of them still encoded.

        Raises:
            DataError: the file has changed, or holds no picture there.
            IndexError: there are not so many.
        """
        if isinstance(index, slice):
            return EncodedFrames(self.file, self.places[index], self.size, self.label)
        return self.decoded(index, bgr=False)

    def decoded(self, index: int, *, bgr: bool) -> Image:
        """One picture; ``bgr`` says that it was stored with red and blue swapped."""
        data = self.encoded(index)
        try:
            return decode_picture(data, *self.size, self.file.place, "", bgr=bgr)
        except DataError as error:  # names are made up only now: this runs for every picture of a training
            raise DataError(self.file.place, self._field(index), expected=error.expected, found=error.found) from error

    def encoded(self, index: int) -> bytes:
        """One picture as it is stored, JPEG or PNG.

        Raises:
            DataError: the file has changed.
            IndexError: there are not so many.
        """
        offset, length = self.places[index].tolist()
        data = read_range(self.file, offset, length)
        if len(data) != length:
            found = f"only {len(data)}: the file changed after it was indexed"
            raise DataError(self.file.place, self._field(index), expected=f"{length} bytes", found=found)
        return data

    def _field(self, index: int) -> str:
        episode, name = self.label
        return f"episode {episode}, {name} at byte {int(self.places[index, 0])}"


class SwappedFrames(Sequence[Image]):
    """Pictures that were stored with red and blue swapped; not to be passed on as they are stored.

    Args:
        frames: as stored.
    """

    __slots__ = ("frames",)

    def __init__(self, frames: EncodedFrames):
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "SwappedFrames": ...
    def __getitem__(self, index: int | slice) -> "Image | SwappedFrames":
        """One picture, or some of them still encoded; raises what the frames raise."""
        if isinstance(index, slice):
            return SwappedFrames(self.frames[index])
        return self.frames.decoded(index, bgr=True)
