"""openpi's messages: read as openpi reads them, and nothing outside its bounds is believed."""

import struct
import tracemalloc
from typing import Any

import hypothesis.extra.numpy as hnp
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla import wire
from vla.wire import WireError
from vla.wire_openpi import pack, unpack

LIMIT = 2**20
arrays = st.sampled_from(wire.DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


def theirs(value):
    """The format from its definition: what a client of openpi writes."""
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


@given(st.dictionaries(st.text(max_size=5), arrays, max_size=3))
def test_arrays_as_openpi_writes_them(message):
    packed: Any = msgpack.packb(message, default=theirs)
    for data in (pack(message), packed):
        read = unpack(data, limit=LIMIT)
        assert read.keys() == message.keys()
        for key, value in message.items():
            assert (read[key].dtype, read[key].shape) == (value.dtype, value.shape)
            assert read[key].tobytes() == value.tobytes()


def test_what_we_write_is_what_openpi_expects():
    (entry,) = msgpack.unpackb(pack({"actions": np.zeros((2, 3), np.float32)})).values()
    assert np.ndarray(buffer=entry[b"data"], dtype=np.dtype(entry[b"dtype"]), shape=entry[b"shape"]).shape == (2, 3)
    assert unpack(pack({"n": np.float32(0.5), "m": np.int64(3)}), limit=LIMIT) == {"n": 0.5, "m": 3}


def array(**changes):
    fields = {"__ndarray__": True, "data": bytes(8), "dtype": "<f8", "shape": [1]} | changes
    return msgpack.packb({"a": {key.encode(): value for key, value in fields.items()}})


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (array(dtype="|O"), "arrays of '|O'"),
        (array(dtype="<c8"), "arrays of '<c8'"),
        (array(dtype=["<f8"]), "not accepted"),
        (array(shape=[2**62]), "bytes, found 8"),
        (array(shape=[-1]), "shape"),
        (array(shape=[True]), "shape"),
        (array(shape=None), "shape"),
        (array(shape=[0, 2**62, 2**62], data=b""), "shape"),
        (array(data="text"), "found str"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"dtype": "|O", b"data": 1}}), "not accepted"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"dtype": "|u1", b"data": 999}}), "999"),
        (msgpack.packb({"a": {b"__npgeneric__": True, b"dtype": "<f4", b"data": [1]}}), "not accepted"),
        (msgpack.packb([1]), "found list"),
        (msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": "|u1", b"shape": [0]}), "found ndarray"),
        (msgpack.packb({b"key": 1}), "keys are strings"),
        (msgpack.packb({"a": msgpack.ExtType(1, b"")}), "extension"),
        (msgpack.packb({"a": [[]] * 300}), "lists and maps"),
        (b"\x81\xa1a" + b"\x91" * 2000, "not a message"),
        (pack({"a": 1})[:-1], "not a message"),
        (pack({"a": 1}) + b"\xc0", "not a message"),
        (b"", "not a message"),
        (bytes(LIMIT + 1), "at most"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(data, what):
    with pytest.raises(WireError, match=what.replace("|", r"\|")):
        unpack(data, limit=LIMIT)


@pytest.mark.parametrize("header", [b"\xdd", b"\xdf"], ids=["lists", "maps"])
def test_announced_sizes_take_no_memory(header):
    """Each header announces as many entries as the message has bytes; msgpack makes room for them at once."""
    data = b"\x81\xa1a" + (header + struct.pack(">I", LIMIT - 3)) * 400
    data += bytes(LIMIT - len(data))
    for reader in (unpack, wire.unpack):
        tracemalloc.start()
        with pytest.raises(WireError):
            reader(data, limit=LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 32 * LIMIT


@given(st.binary(max_size=300))
def test_noise_is_one_error(noise):
    try:
        assert isinstance(unpack(noise, limit=LIMIT), dict)
    except WireError:
        pass
