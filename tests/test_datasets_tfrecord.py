"""TFRecord framing and tf.train.Example against protobuf's own encoder, and against damage."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlds_files import example, framed, read_records

from vla.datasets.checksum import masked_crc32c
from vla.datasets.tfrecord import Malformed, parse_example
from vla.errors import DataError

floats = st.lists(st.floats(width=32, allow_nan=False), max_size=40)
integers = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40)
texts = st.lists(st.binary(max_size=300), min_size=1, max_size=10)


@given(st.dictionaries(st.text(max_size=12), st.one_of(floats, integers, texts), max_size=5))
def test_every_value_is_where_the_ranges_say(values):
    data = example(values)
    features = parse_example(data, "file", "record")
    assert features.keys() == values.keys()
    for name, items in values.items():
        feature = features[name]
        if feature.kind == "bytes":
            assert feature.texts(data) == items
        elif feature.kind == "int64":
            assert feature.integers(data).tolist() == items
        else:
            assert feature.floats(data).tobytes() == np.array(items, np.float32).tobytes()


@given(st.binary(max_size=200))
def test_any_bytes_give_features_or_a_data_error(data):
    try:
        features = parse_example(data, "file", "record")
    except DataError:
        return
    for feature in features.values():
        assert all(0 <= offset <= offset + length <= len(data) for offset, length in feature.ranges)


@given(st.data())
def test_a_cut_example_never_reaches_past_its_end(draw):
    data = example({"a": [1.0, 2.0, 3.0], "b": [b"x" * 50, b"y"], "c": [1, 2, 300]})
    cut = data[: draw.draw(st.integers(1, len(data) - 1))]
    with pytest.raises(DataError, match=r"tf\.train\.Example"):
        parse_example(cut, "file", "record")


def test_numbers_that_are_not_packed_are_read_too():
    floats_unpacked = b"".join(b"\x0d" + struct.pack("<f", value) for value in (1.5, -2.0))
    feature = b"\x12" + bytes([len(floats_unpacked)]) + floats_unpacked
    entry = b"\x0a\x01a\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    data = b"\x0a" + bytes([len(features)]) + features
    assert parse_example(data, "f", "r")["a"].floats(data).tolist() == [1.5, -2.0]


def test_an_integer_that_is_cut_off_is_malformed():
    data = bytearray(example({"a": [300]}))
    data[-1] |= 0x80
    with pytest.raises(Malformed):
        parse_example(bytes(data), "f", "r")["a"].integers(bytes(data))


def test_records_come_in_order_with_their_places(tmp_path):
    payloads = [b"one", b"", b"three" * 9000]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(framed(payload) for payload in payloads))
    records = list(read_records(path))
    assert [record.data for record in records] == payloads
    whole = path.read_bytes()
    assert all(whole[r.offset : r.offset + len(r.data)] == r.data for r in records)


def test_a_file_cut_anywhere_is_an_error_that_names_the_place(tmp_path):
    whole = framed(b"first") + framed(b"second record")
    first = len(framed(b"first"))
    path = tmp_path / "cut.tfrecord"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length in (0, first):  # a file may end after any whole record: only the specification knows better
            assert len(list(read_records(path))) == (length > 0)
            continue
        with pytest.raises(DataError, match=r"cut\.tfrecord: record at byte \d+: expected .* found only \d+ bytes"):
            list(read_records(path))


@given(st.data())
def test_a_flipped_bit_anywhere_is_an_error(tmp_path_factory, draw):
    whole = bytearray(framed(b"first") + framed(b"second"))
    place = draw.draw(st.integers(0, len(whole) * 8 - 1))
    whole[place // 8] ^= 1 << place % 8
    path = tmp_path_factory.mktemp("flip") / "flip.tfrecord"
    path.write_bytes(whole)
    with pytest.raises(DataError):
        list(read_records(path))


def test_a_huge_length_allocates_nothing(tmp_path):
    length = struct.pack("<Q", 2**62)
    path = tmp_path / "huge.tfrecord"
    path.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + b"little")
    with pytest.raises(DataError, match="only 6 bytes before the file ends"):
        list(read_records(path))
