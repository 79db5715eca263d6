"""Messages as openpi's client and server write them: msgpack maps in which an array is a map of four bytes keys.

::

    array     {b"__ndarray__": True, b"data": raw bytes, b"dtype": numpy's dtype string, b"shape": sizes}
    number    {b"__npgeneric__": True, b"data": value, b"dtype": numpy's dtype string}

Format: ``openpi_client/msgpack_numpy.py`` of openpi 0.1. What is read here is bounded as in :mod:`vla.wire`: dtypes
from a fixed list, sizes checked against the bytes that are there, arrays without a copy.
"""

from typing import Any

import numpy as np

from vla.wire import DTYPES, WireError, describe, pack_with, unpack_bounded, view

MAX_CONTAINERS = 256
"""Lists and maps in a request, arrays and shapes included; an observation has about ten."""

MAX_ITEMS = 4096
"""Entries of one list or map."""


def pack(message: dict[str, Any]) -> bytes:
    """The message as bytes.

    Raises:
        WireError: a value may not travel: an array of objects, a set.
    """
    return pack_with(message, _encode)


def unpack(data: bytes, *, limit: int) -> dict[str, Any]:
    """The message in the bytes; arrays are read-only views of them.

    Args:
        data: from outside.
        limit: how many bytes there may be.

    Raises:
        WireError: they are not one whole message of this format, or exceed a bound.
    """
    message = unpack_bounded(data, limit=limit, containers=MAX_CONTAINERS, items=MAX_ITEMS, map_hook=_decode)
    strange = [key for key in message if not isinstance(key, str)]
    if strange:
        raise WireError(f"a message's keys are strings, found {strange[0]!r}")
    return message


def _encode(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"a {type(value).__name__} has no wire form")
    dtype, shape, raw = describe(np.asarray(value))
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": dtype}
    return {b"__ndarray__": True, b"data": raw, b"dtype": dtype, b"shape": shape}


def _decode(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return view(value.get(b"dtype"), value.get(b"shape"), value.get(b"data"))
    if b"__npgeneric__" in value:
        dtype, number = value.get(b"dtype"), value.get(b"data")
        if dtype not in DTYPES or not isinstance(number, bool | int | float):
            raise WireError(f"a number of {str(dtype)[:40]!r} is not accepted; known: {', '.join(DTYPES)}")
        try:
            return np.dtype(dtype).type(number)
        except (OverflowError, ValueError) as error:
            raise WireError(f"{number!r} is no {dtype}: {error}") from error
    return value
