"""Decoding against PIL, bit for bit, and damage."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PilImage

from vla.datasets.picture import decode_picture, picture_size
from vla.errors import DataError

CHANCE = np.random.default_rng(0)


def encoded(mode: str = "RGB", kind: str = "JPEG", height: int = 21, width: int = 37, **options) -> bytes:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    pixels = CHANCE.integers(0, 256, (height, width, *channels)).astype(np.uint8)
    buffer = io.BytesIO()
    PilImage.fromarray(pixels, mode).save(buffer, kind, **options)
    return buffer.getvalue()


def by_pil(data: bytes) -> np.ndarray:
    return np.array(PilImage.open(io.BytesIO(data)).convert("RGB"))


CASES = {
    "jpeg 4:2:0": encoded(subsampling=2),
    "jpeg 4:2:2": encoded(subsampling=1),
    "jpeg 4:4:4": encoded(subsampling=0, quality=95),
    "jpeg progressive": encoded(progressive=True),
    "jpeg gray": encoded("L"),
    "png": encoded(kind="PNG"),
    "png gray": encoded("L", "PNG"),
    "png alpha": encoded("RGBA", "PNG"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_equals_pil_bit_for_bit(name):
    data = CASES[name]
    assert picture_size(data, "f", "x") == (21, 37)
    found = decode_picture(data, 21, 37, "f", "x")
    assert found.dtype == np.uint8 and np.array_equal(found, by_pil(data))
    swapped = decode_picture(data, 21, 37, "f", "x", bgr=True)
    assert np.array_equal(swapped, by_pil(data)[..., ::-1]) and swapped.flags.c_contiguous


@pytest.mark.parametrize("name", CASES)
def test_another_size_or_a_cut_is_an_error(name):
    data = CASES[name]
    with pytest.raises(DataError, match="expected a picture of 21x38, found 21x37"):
        decode_picture(data, 21, 38, "f", "x")
    for end in (0, 1, 5, 30, len(data) // 2, len(data) - 20):
        with pytest.raises(DataError, match="f: x: expected a JPEG or PNG picture"):
            decode_picture(data[:end], 21, 37, "f", "x")


def test_what_is_no_picture_for_a_policy():
    buffer = io.BytesIO()
    PilImage.fromarray(np.zeros((4, 4), np.uint16)).save(buffer, "PNG")
    with pytest.raises(DataError, match="mode I;16"):
        decode_picture(buffer.getvalue(), 4, 4, "f", "x")
    with pytest.raises(DataError, match="CMYK"):
        picture_size(encoded("CMYK"), "f", "x")
    huge = bytearray(encoded(kind="PNG"))
    huge[16:24] = b"\x7f\xff\xff\xff" * 2
    with pytest.raises(DataError):
        picture_size(bytes(huge), "f", "x")
    with pytest.raises(DataError):
        picture_size(b"GIF89a" + bytes(50), "f", "x")


@given(st.sampled_from(sorted(CASES)), st.data())
def test_damage_is_a_picture_or_an_error(name, draw):
    data = bytearray(CASES[name])
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        found = decode_picture(bytes(data), 21, 37, "f", "x")
    except DataError:
        return
    assert found.shape == (21, 37, 3) and found.dtype == np.uint8
