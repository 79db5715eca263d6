"""Encoded pictures (JPEG, PNG) as arrays."""

import io
from pathlib import Path

import numpy as np
import PIL
from PIL import Image as PilImage

from vla.errors import DataError
from vla.experience import Image

_FORMATS = ("JPEG", "PNG")


def picture_size(data: bytes, file: Path, field: str) -> tuple[int, int]:
    """Height and width [pixels], from the header alone.

    Raises:
        DataError: it is neither JPEG nor PNG.
    """
    try:
        with PilImage.open(io.BytesIO(data), formats=_FORMATS) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, PilImage.DecompressionBombError) as error:
        raise _not_a_picture(data, file, field, error) from error


def decode_picture(data: bytes, height: int, width: int, file: Path, field: str) -> Image:
    """The picture in RGB.

    Raises:
        DataError: it is neither JPEG nor PNG, is damaged, or has another size; nothing is decoded in that last case.
    """
    try:
        with PilImage.open(io.BytesIO(data), formats=_FORMATS) as picture:
            if (picture.height, picture.width) != (height, width):
                found = f"{picture.height}x{picture.width}"
                raise DataError(file, field, expected=f"a picture of {height}x{width}", found=found)
            return np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, PilImage.DecompressionBombError) as error:
        raise _not_a_picture(data, file, field, error) from error


def _not_a_picture(data: bytes, file: Path, field: str, error: Exception) -> DataError:
    reason = "of another format" if isinstance(error, PIL.UnidentifiedImageError) else str(error)
    found = f"{len(data)} bytes beginning with {data[:4]!r}: {reason}"
    return DataError(file, field, expected="a JPEG or PNG picture", found=found)
