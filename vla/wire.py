"""Messages with arrays as bytes, and bytes as frames on a socket: msgpack and numpy, nothing that can run code.

::

    message   a map with string keys: None, bool, int, float, str, bytes, lists, maps, arrays
    array     msgpack extension 1: [dtype, shape, raw little-endian bytes]; dtypes from a fixed list
    frame     4 bytes length, big-endian, then one message; longer than the limit is refused before it is read

Whoever reads trusts nothing: every malformed input is a :class:`WireError`, never a crash and never a large allocation.
"""

import math
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgpack
import numpy as np

from vla.errors import VlaError

MAX_MESSAGE = 64 * 2**20
"""Default limit of one message [bytes]; a dozen 1080p pictures."""

DTYPES = ("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")
"""What an array may hold: booleans, integers and floats, little-endian."""

MAX_CONTAINERS = 4096
"""Lists and maps in one message: an empty one takes a byte on the wire and 64 in memory."""

MAX_ITEMS = 2**16
"""Entries of one list or map: msgpack makes room for as many as a header announces, before the first is there."""

_ARRAY = 1  # msgpack extension code
_LENGTH = struct.Struct(">I")
_MAX_DIMENSIONS = 32


class WireError(VlaError):
    """A message or a frame is malformed, too large, or holds something that may not travel."""


class WireClosed(WireError):
    """The other side closed the connection."""


class WireTimeout(WireError):
    """The other side did not answer, or not fast enough."""


def pack(message: dict[str, Any]) -> bytes:
    """The message as bytes; tuples become lists, numpy scalars Python numbers.

    Raises:
        WireError: a value may not travel: an object array, a set, a map whose keys are not strings.
    """
    if not isinstance(message, dict):
        raise WireError(f"a message is a map, found {type(message).__name__}")
    return pack_with(message, _encode)


def pack_with(message: dict[str, Any], encode: Callable[[Any], Any]) -> bytes:
    """The message as msgpack.

    Args:
        message: what is sent.
        encode: makes of a value that msgpack does not know one that it knows; raises TypeError for any other.

    Raises:
        WireError: a value may not travel.
    """
    try:
        return cast(bytes, msgpack.packb(message, default=encode, use_bin_type=True))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"cannot be sent: {error}") from error


def unpack(data: bytes, *, limit: int = MAX_MESSAGE) -> dict[str, Any]:
    """The message that :func:`pack` wrote; arrays are writable copies.

    Raises:
        WireError: the bytes are not one whole message, are longer than ``limit``, or hold a malformed array.
    """
    return unpack_bounded(data, limit=limit, extension=_decode)


def unpack_bounded(
    data: bytes,
    *,
    limit: int,
    containers: int = MAX_CONTAINERS,
    items: int = MAX_ITEMS,
    extension: Callable[[int, bytes], Any] | None = None,
    map_hook: Callable[[dict[Any, Any]], Any] | None = None,
) -> dict[str, Any]:
    """A msgpack map from outside, in memory that is bounded by the arguments and not by what the bytes announce.

    Args:
        data: the bytes of one message.
        limit: how many there may be.
        containers: lists and maps in all.
        items: of one list or map.
        extension: makes values of msgpack's extensions; they are refused if None.
        map_hook: what becomes of each map; the outermost must stay one.

    Raises:
        WireError: the bytes are not one whole message, or exceed a bound.
    """
    if len(data) > limit:
        raise WireError(f"a message has at most {limit} bytes, found {len(data)}")
    left = containers

    def counted(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise WireError(f"a message has at most {containers} lists and maps")
        return map_hook(value) if map_hook and isinstance(value, dict) else value

    try:
        message = msgpack.unpackb(
            data,
            ext_hook=extension or _refuse,
            object_hook=counted,
            list_hook=counted,
            raw=False,
            strict_map_key=True,
            max_array_len=items,
            max_map_len=items,
        )
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        # msgpack's own errors (truncated, trailing bytes, too nested) are ValueErrors or UnpackExceptions
        raise WireError(f"not a message: {type(error).__name__}: {error}") from error
    if not isinstance(message, dict):
        raise WireError(f"a message is a map, found {type(message).__name__}")
    return message


def frame(payload: bytes, *, limit: int = MAX_MESSAGE) -> bytes:
    """The payload behind its length.

    Raises:
        WireError: it is longer than ``limit``.
    """
    if len(payload) > limit:
        raise WireError(f"a frame carries at most {limit} bytes, found {len(payload)}")
    return _LENGTH.pack(len(payload)) + payload


class FrameBuffer:
    """Bytes in as they arrive, whole frames out; for sockets that never block.

    Args:
        limit: largest payload [bytes]; a longer announced length is refused when its header arrives.
    """

    def __init__(self, limit: int = MAX_MESSAGE):
        self.limit = limit
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Payloads that ``data`` completes.

        Raises:
            WireError: a frame announces more than the limit.
        """
        self._bytes += data
        while len(self._bytes) >= _LENGTH.size:
            end = _LENGTH.size + _length(self._bytes[: _LENGTH.size], self.limit)
            if len(self._bytes) < end:
                return
            payload = bytes(self._bytes[_LENGTH.size : end])
            del self._bytes[:end]
            yield payload


def send(connection: socket.socket, message: dict[str, Any], *, timeout: float, limit: int = MAX_MESSAGE) -> None:
    """Send one message, in at most ``timeout`` seconds.

    Raises:
        WireTimeout: the other side does not read.
        WireClosed: the connection is gone.
    """
    connection.settimeout(timeout)
    try:
        connection.sendall(frame(pack(message), limit=limit))
    except TimeoutError as error:
        raise WireTimeout(f"the other side did not read within {timeout:g} s") from error
    except OSError as error:
        raise WireClosed(f"the connection is gone: {error}") from error


def receive(connection: socket.socket, *, timeout: float, limit: int = MAX_MESSAGE) -> dict[str, Any]:
    """Receive one message, the whole of it in at most ``timeout`` seconds.

    Raises:
        WireTimeout: it did not arrive in time.
        WireClosed: the connection ended.
        WireError: it is malformed or too long; the connection is then out of step and must be closed.
    """
    deadline = time.monotonic() + timeout
    length = _length(_read(connection, _LENGTH.size, deadline, timeout), limit)
    return unpack(bytes(_read(connection, length, deadline, timeout)), limit=limit)


def _read(connection: socket.socket, size: int, deadline: float, timeout: float) -> bytearray:
    # the deadline is for the whole message: a peer that trickles bytes cannot hold the reader for longer
    buffer = bytearray()
    while len(buffer) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise WireTimeout(f"no whole message within {timeout:g} s")
        connection.settimeout(left)
        try:
            part = connection.recv(min(size - len(buffer), 2**20))
        except TimeoutError as error:
            raise WireTimeout(f"no whole message within {timeout:g} s") from error
        except OSError as error:
            raise WireClosed(f"the connection is gone: {error}") from error
        if not part:
            raise WireClosed("the other side closed the connection")
        buffer += part
    return buffer


def _length(header: bytes | bytearray, limit: int) -> int:
    (length,) = _LENGTH.unpack(header)
    if length > limit:
        raise WireError(f"a frame carries at most {limit} bytes, one of {length} was announced")
    return length


def _encode(value: Any) -> Any:
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} has no wire form")
    return msgpack.ExtType(_ARRAY, msgpack.packb(list(describe(value)), use_bin_type=True))


def _decode(code: int, data: bytes) -> np.ndarray:
    if code != _ARRAY:
        raise WireError(f"unknown extension {code}")
    fields = msgpack.unpackb(data, raw=False, max_array_len=1024, max_map_len=0)
    if not isinstance(fields, list) or len(fields) != 3:
        raise WireError("an array is a list of dtype, shape and bytes")
    return view(*fields).copy()


def describe(value: np.ndarray) -> tuple[str, list[int], bytes]:
    """Dtype, shape and little-endian bytes of an array; :func:`view` undoes it.

    Raises:
        TypeError: the dtype is none of :data:`DTYPES`.
    """
    dtype = value.dtype.newbyteorder("<").str
    if dtype not in DTYPES:
        raise TypeError(f"an array of {value.dtype} has no wire form; known: {', '.join(DTYPES)}")
    return dtype, list(value.shape), np.ascontiguousarray(value, dtype=dtype).tobytes()


def view(dtype: Any, shape: Any, raw: Any) -> np.ndarray:
    """The array that three values from outside describe, over the very bytes: nothing is allocated.

    Raises:
        WireError: the dtype is none of :data:`DTYPES`, the shape is none, or the bytes are not as many as it needs.
    """
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WireError(f"arrays of {dtype!r} are not accepted; known: {', '.join(DTYPES)}")
    sizes = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes or len(shape) > _MAX_DIMENSIONS:
        raise WireError(f"an array's shape is up to {_MAX_DIMENSIONS} sizes from 0, found {str(shape)[:200]}")
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if not isinstance(raw, bytes) or len(raw) != expected:
        found = f"{len(raw)} bytes" if isinstance(raw, bytes) else type(raw).__name__
        raise WireError(f"an array of {dtype} with shape {shape} has {expected} bytes, found {found}")
    try:
        return np.frombuffer(raw, dtype=dtype).reshape(shape)
    except ValueError as error:  # a size beside a 0 may be beyond what numpy can count
        raise WireError(f"an array cannot have shape {shape}: {error}") from error


def _refuse(code: int, data: bytes) -> Any:
    raise WireError(f"unknown extension {code}")
