"""CRC-32C against published values and against the definition, bit by bit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.datasets.checksum import crc32c, masked_crc32c


def by_definition(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, appendix B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_published_values(data, crc):
    assert crc32c(data) == crc


@given(st.binary(max_size=600))
def test_equals_the_definition(data):
    assert crc32c(data) == by_definition(data)


@pytest.mark.parametrize("length", [16383, 16384, 16385, 40000])
def test_equals_the_definition_where_the_number_of_lanes_changes(length):
    data = bytes((index * 37 + index // 251) % 256 for index in range(length))
    assert crc32c(memoryview(data)) == by_definition(data)


@given(st.binary(min_size=1, max_size=300), st.data())
def test_a_flipped_bit_shows(data, draw):
    place = draw.draw(st.integers(0, len(data) - 1))
    bit = draw.draw(st.integers(0, 7))
    damaged = bytearray(data)
    damaged[place] ^= 1 << bit
    assert masked_crc32c(bytes(damaged)) != masked_crc32c(data)
