"""Pictures that are encoded as they come: an episode being recorded fits into memory, and writers pass them through."""

from collections.abc import Sequence
from typing import overload

from vla.datasets.picture import decode_picture
from vla.datasets.picture_writer import PictureStorage, checked_picture, encode_jpeg, encode_png
from vla.embodiment import CameraSpec
from vla.experience import Image


class EncodedFrames(Sequence[Image]):
    """Pictures of one camera, encoded in memory; :class:`~vla.datasets.picture.Encoded`.

    Args:
        camera: its pictures have this size.
        storage: ``image``: PNG, without loss; ``jpeg``.
        quality: of JPEG.
    """

    def __init__(self, camera: CameraSpec, storage: PictureStorage = "jpeg", quality: int = 95):
        self.camera, self.storage, self.quality = camera, storage, quality
        self._data: list[bytes] = []

    def append(self, picture: Image, /) -> None:
        """Encode one more.

        Raises:
            DataError: it has another size or type.
        """
        size, field = (self.camera.height, self.camera.width), f"picture {len(self._data)}"
        picture = checked_picture(picture, size, f"camera {self.camera.name}", field)
        self._data.append(encode_jpeg(picture, self.quality) if self.storage == "jpeg" else encode_png(picture))

    def encoded(self, index: int) -> bytes:
        """One picture as it was encoded."""
        return self._data[index]

    def __len__(self) -> int:
        return len(self._data)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        """One picture, decoded; of a slice, a list."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        camera = self.camera
        return decode_picture(self._data[index], camera.height, camera.width, f"camera {camera.name}", str(index))
