"""Messages survive the trip unchanged; whatever is malformed is one typed error."""

import math
import socket
import struct
import threading
import time

import hypothesis.extra.numpy as hnp
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla import wire
from vla.wire import FrameBuffer, WireClosed, WireError, WireTimeout, frame, pack, receive, send, unpack

arrays = st.sampled_from(wire.DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary() | arrays
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
messages = st.dictionaries(st.text(), values, max_size=5)


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@given(messages)
def test_messages_survive_the_trip(message):
    assert same(message, unpack(pack(message)))


@given(messages, st.data())
def test_truncated_messages_are_refused(message, data):
    packed = pack(message)
    with pytest.raises(WireError):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes_never_crash(noise):
    try:
        assert isinstance(unpack(noise), dict)
    except WireError:
        pass


@given(messages, st.data())
@settings(max_examples=200)
def test_flipped_bytes_never_crash(message, data):
    packed = bytearray(pack(message))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        unpack(bytes(packed))
    except WireError:
        pass


def array_of(*fields):
    return msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(list(fields)))})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (array_of("|O", [1], bytes(8)), "not accepted"),
        (array_of("<c8", [1], bytes(8)), "not accepted"),
        (array_of(["<f4"], [1], bytes(4)), "not accepted"),
        (array_of("<f4", [3], bytes(8)), "12 bytes, found 8"),
        (array_of("<f4", [2**40, 2**40], b""), "bytes, found 0"),
        (array_of("<f4", [-1], bytes(4)), "shape"),
        (array_of("<f4", [True], bytes(4)), "shape"),
        (array_of("<f4", [1] * 40, bytes(4)), "shape"),
        (array_of("<f4", [1], "text"), "found str"),
        (array_of("<f4", [1]), "dtype, shape and bytes"),
        (msgpack.packb({"a": msgpack.ExtType(9, b"")}), "unknown extension 9"),
        (msgpack.packb([1, 2]), "a message is a map"),
        (msgpack.packb({1: 2}), "not a message"),
        (pack({}) + b"\x00", "not a message"),
        (b"\x81\xa1a" + b"\x91" * 5000 + b"\x00", "not a message"),
    ],
)
def test_malformed_messages(data, says):
    with pytest.raises(WireError, match=says):
        unpack(data)


def test_what_may_not_travel():
    for value in (np.array([None]), np.array(["a"]), {1, 2}, object(), 2**70, np.array([1j])):
        with pytest.raises(WireError):
            pack({"value": value})
    with pytest.raises(WireError, match="at most 10 bytes"):
        unpack(pack({"a": bytes(20)}), limit=10)


def test_layout_does_not_matter():
    array = np.arange(24, dtype=">f4").reshape(4, 6)[::2, ::-1]
    back = unpack(pack({"a": array}))["a"]
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable and back.dtype == np.dtype("<f4")
    assert unpack(pack({"a": np.float32(0.5), "b": (1, 2)})) == {"a": 0.5, "b": [1, 2]}


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 17))
def test_frames_come_out_whole_however_they_are_cut(payloads, cut):
    stream = b"".join(map(frame, payloads))
    buffer = FrameBuffer()
    got = [item for at in range(0, len(stream), cut) for item in buffer.feed(stream[at : at + cut])]
    assert got == payloads


def test_an_announced_giant_is_refused_before_it_is_read():
    with pytest.raises(WireError, match="was announced"):
        list(FrameBuffer(limit=1000).feed(b"GET / HTTP/1.1\r\n"))  # a browser on the wrong port
    with pytest.raises(WireError, match="at most 10 bytes"):
        frame(bytes(11), limit=10)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_send_and_receive(pair):
    ours, theirs = pair
    message = {"op": "observe", "image": np.zeros((256, 256, 3), np.uint8)}
    thread = threading.Thread(target=send, args=(ours, message), kwargs={"timeout": 5.0})
    thread.start()
    assert same(message, receive(theirs, timeout=5.0))
    thread.join()


def test_silence_trickle_and_closing_have_their_own_errors(pair):
    ours, theirs = pair
    with pytest.raises(WireTimeout):
        receive(theirs, timeout=0.02)

    done = threading.Event()

    def trickle():
        ours.sendall(struct.pack(">I", 1000))
        while not done.wait(0.01):
            ours.sendall(b"\x00")

    thread = threading.Thread(target=trickle)
    thread.start()
    begin = time.monotonic()
    with pytest.raises(WireTimeout):
        receive(theirs, timeout=0.1)
    assert time.monotonic() - begin < 1.0
    done.set()
    thread.join()
    ours.close()
    with pytest.raises(WireClosed):
        while True:
            receive(theirs, timeout=1.0, limit=2**32)
    with pytest.raises(WireError):
        send(theirs, {}, timeout=1.0)
        send(theirs, {}, timeout=1.0)
