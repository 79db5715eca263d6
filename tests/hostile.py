"""Clients that mean no good, for a policy server to survive: what they send follows from a seed."""

import socket
import struct

import msgpack
import numpy as np
from served import NATIVE, SPEC, observation
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vla.wire_openpi import pack

GOOD = pack(NATIVE.message(observation()))
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
DTYPES = ["|O", "O", "<c16", "|V8", "<M8[s]", "<U4", ">f8", "", "f", 3, None, ["<f4"], "<f8", "|u1"]
SHAPES = [[2**62], [2**31, 2**31], [0, 2**63 - 1], [-1], [1.5], [[1]], "8", None, [], [1] * 40, [2**32] * 8, [2]]


def fields(random):
    """A field that is not what it should be."""
    value = [
        None, True, -1, 2**63, float("nan"), "text", b"bytes", [], [[]], {}, {"a": {}}, list(range(50)),
        {b"__ndarray__": True},
        {b"__ndarray__": True, b"data": bytes(16), b"dtype": _pick(random, DTYPES), b"shape": _pick(random, SHAPES)},
        {b"__npgeneric__": True, b"data": _pick(random, [1, 1e400, "x", None]), b"dtype": _pick(random, DTYPES)},
        np.zeros(int(random.integers(0, 5)), _pick(random, ["<f8", "<f4", "|u1", "<i8"])),
        np.full(2, np.inf, np.float32),
    ]  # fmt: skip
    key = _pick(random, [*NATIVE.describe(), "reset", "", "observation", "x" * 300])
    return pack(NATIVE.message(observation()) | {key: _pick(random, value)})


def resets(random):
    """An episode that cannot begin."""
    fit = {"instruction": "go", "seed": 1, "fingerprint": SPEC.fingerprint}
    wrong = {_pick(random, [*fit, "more"]): _pick(random, [None, -1, 2**64 - 1, "", [], {}, 1.5, b"", True])}
    return pack({"reset": _pick(random, [fit | wrong, wrong, list(fit), "reset", None])})


def truncated(random):
    """A message that ends too early."""
    return GOOD[: int(random.integers(0, len(GOOD)))]


def flipped(random):
    """A message with some bytes changed."""
    data = bytearray(GOOD)
    for place in random.integers(0, len(data), int(random.integers(1, 8))):
        data[place] = int(random.integers(0, 256))
    return bytes(data)


def noise(random):
    """Anything."""
    return random.bytes(int(random.integers(0, 400)))


def announced(random):
    """Lists and maps that say they hold more than memory does."""
    header = _pick(random, [b"\xdd", b"\xdf", b"\xdc", b"\xde", b"\xc6", b"\xc9", b"\xdb"])
    size = _pick(random, [2**32 - 1, 2**16, 4000, len(GOOD)])
    data = header + (struct.pack(">I", size) if header not in (b"\xdc", b"\xde") else struct.pack(">H", size % 2**16))
    return b"\x81\xa1a" + data * int(random.integers(1, 3000)) + bytes(100)


def nested(random):
    """Deep or many."""
    return _pick(random, [b"\x91" * 60_000, b"\x81\xa1a" * 20_000, msgpack.packb({"a": [[]] * 20_000}), b"\x80" * 9000])


def large(random):
    """More than is taken."""
    return bytes(NATIVE.max_bytes + int(random.integers(-2, 50_000)))


def text(random):
    """The wrong kind of frame."""
    return _pick(random, ["", "hello", "x" * 10_000, "{}"])


def good(random):
    """What others send meanwhile."""
    return GOOD


MESSAGES = (fields, fields, fields, resets, truncated, flipped, noise, announced, nested, large, text, good)


class Attacker:
    """Sends messages, opening a connection whenever it has none."""

    def __init__(self, address):
        self.address, self.connection, self.doubtful = address, None, False

    def send(self, message):
        """How the server reacted: ``"chunk"``, ``"error"`` or ``"closed"``; never silence."""
        if self.connection is None:
            options = {"compression": None, "proxy": None, "close_timeout": 1, "max_size": None}
            self.connection = connect(self.address, **options).__enter__()
            self.connection.recv(timeout=20)
        try:
            self.connection.send(message)
            reply = self.connection.recv(timeout=20)
        except ConnectionClosed as end:
            self.connection = None
            assert end.rcvd is not None, "the connection broke without a closing frame"
            if self.doubtful:  # the end that the last error announced
                self.doubtful = False
                return self.send(message)
            return f"closed {end.rcvd.code}"
        self.doubtful = isinstance(reply, str)
        return "error" if self.doubtful else "reply"

    def close(self):
        if self.connection is not None:
            self.connection.close()


def handshakes(random):
    """Bytes that are no good handshake, or frames after one that the protocol forbids."""
    length = struct.pack(">Q", _pick(random, [2**63 - 1, 2**40, 10**7]))
    frame = _pick(
        random,
        [
            b"\x82\x05hello",  # not masked
            b"\xf2\x80mask",  # reserved bits
            b"\x83\x80mask",  # unknown kind
            b"\x89\xfe\x01\x00mask" + bytes(256),  # a ping that is too long
            b"\x80\x80mask",  # goes on with nothing
            b"\x82\xff" + length + b"mask",  # larger than memory
            b"\x88\x81mask\x00",  # a closing frame of one byte
            b"\x01\x82mask\xff\xff\x80\x80mask",  # text that is none
            random.bytes(60),
        ],
    )
    lines = [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"GET /" + b"a" * 20_000]
    lines += [b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"\x16\x03\x01\x02\x00" + random.bytes(50)]
    lines += [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", random.bytes(100) + b"\r\n\r\n", UPGRADE.replace(b"13", b"12")]
    return _pick(random, [UPGRADE + frame, UPGRADE + frame, *lines])


def broken(host, port, data, patience):
    """Send bytes and wait for the end of the connection; False if it does not come."""
    with socket.create_connection((host, port), timeout=patience) as connection:
        try:
            connection.sendall(data)
            while connection.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass  # reset by the server: an end too
    return True


def _pick(random, values):
    return values[int(random.integers(len(values)))]
