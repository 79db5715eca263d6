"""Memory in which one process makes a result and another reads it where it lies.

::

    maker   empty(shape, type) ─▶ array in the slot ─ fill ─▶ pack ─┐ where each array lies, and all that is no array
    reader  returned() ◀─ nobody looks any more ◀─ views ◀─ unpack ◀┘

The memory has no name in any file system and only takes what was written to; the kernel frees it with the last process
that has it, however that ends.
"""

import mmap
import os
import pickle
import weakref
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

_ROOM = 1 << 36  # bytes of address space; far more than a batch has
_LINE = 64
_BESIDE = 16
"""Where arrays start in a cache line. To rows at multiples of 32 bytes libjpeg-turbo writes past the caches
(``movntdq``), which costs 6 % of decoding a picture of 224 pixels, whether its memory is in a cache or not."""


class Empty(Protocol):
    """Makes an array that is to be filled, as ``np.empty`` does."""

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Of this shape and type, with anything in it."""
        ...


def empty_for_pictures(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array as ``np.empty`` makes it, in memory of this process, where pictures are decoded to fastest."""
    kind = np.dtype(dtype)
    if kind.hasobject:
        return np.empty(shape, kind)
    size = prod(shape) * kind.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = (_BESIDE - _address(memory)) % _LINE
    return memory[start : start + size].view(kind).reshape(shape)


@dataclass(frozen=True)
class Packed:
    """A result without its arrays.

    Attributes:
        data: pickled.
        places: start and length of each array in the slot [bytes].
    """

    data: bytes
    places: tuple[tuple[int, int], ...]


class Slot:
    """Room for one result at a time.

    Args:
        handle: file descriptor of a slot made elsewhere, owned from now on; None makes a new one.
    """

    def __init__(self, handle: int | None = None):
        if handle is None:
            handle = os.memfd_create("batch")
            os.ftruncate(handle, _ROOM)
        self.handle = handle
        self._memory = mmap.mmap(handle, _ROOM)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._start = _address(self._bytes)
        self._used = _BESIDE
        self._lent: list[weakref.ref[np.ndarray]] = []

    def begin(self) -> None:
        """Make another result: what is in the slot is written over."""
        self._used = _BESIDE

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An array in the slot, see :class:`Empty`."""
        kind = np.dtype(dtype)
        if kind.hasobject:
            return np.empty(shape, kind)
        size = prod(shape) * kind.itemsize
        start = self._take(size)
        return self._bytes[start : start + size].view(kind).reshape(shape)

    def pack(self, value: Any) -> Packed:
        """A result; its arrays that lie elsewhere are copied into the slot."""
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        return Packed(data, tuple(self._placed(np.frombuffer(buffer.raw(), np.uint8)) for buffer in buffers))

    def unpack(self, packed: Packed) -> Any:
        """The result, its arrays where they lie: they keep what they show until :meth:`returned` is true."""
        views = [self._view(start, size) for start, size in packed.places]
        self._lent = [weakref.ref(view) for view in views]
        return pickle.loads(packed.data, buffers=views)  # noqa: S301 - a process of our own made it

    def returned(self) -> bool:
        """Whether nobody has an array of what was unpacked last any more."""
        return all(view() is None for view in self._lent)

    def close(self) -> None:
        """Give the memory back as soon as nobody has an array in it."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1
            del self._bytes, self._memory

    def _view(self, start: int, size: int) -> np.ndarray:
        """Alive as long as any array made of it: NumPy replaces a base that is an array by that one's base, and so on
        down to an array like this one, whose base is the memory.
        """
        return np.frombuffer(self._memory, np.uint8, size, start) if size else np.empty(0, np.uint8)

    def _placed(self, array: np.ndarray) -> tuple[int, int]:
        start = _address(array) - self._start
        if not 0 <= start <= _ROOM - len(array):
            start = self._take(len(array))
            self._bytes[start : start + len(array)] = array
        return start, len(array)

    def _take(self, size: int) -> int:
        start = self._used
        if size > _ROOM - start:
            raise MemoryError(f"a batch of more than {_ROOM >> 30} GiB")
        self._used = start + -(-size // _LINE) * _LINE
        return start


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
