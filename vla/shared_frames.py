"""Pictures in memory that two processes share: written by the one that renders, read by the one that infers.

::

    simulator ─ write ─▶ [camera 0 | camera 1 | ...] ◀─ view ─ policy

The memory has no name in any file system. The kernel frees it with the last process that has it, however that ends.
"""

import mmap
import os
from collections.abc import Mapping, Sequence
from multiprocessing import reduction
from typing import Any

import numpy as np

from vla.embodiment import CameraSpec
from vla.experience import Image


class SharedFrames:
    """One picture for each camera. Passes to a process that is being spawned; to others goes :attr:`handle`.

    Args:
        cameras: that the pictures are of; their sizes decide the layout.
        handle: file descriptor of frames made elsewhere, owned from now on; None makes new ones.
    """

    def __init__(self, cameras: Sequence[CameraSpec], handle: int | None = None):
        self.cameras = tuple(cameras)
        sizes = [camera.height * camera.width * 3 for camera in self.cameras]
        total = max(1, sum(sizes))
        if handle is None:
            handle = os.memfd_create("frames")
            os.ftruncate(handle, total)
        self.handle = handle
        self._memory = mmap.mmap(handle, total)
        whole = np.frombuffer(self._memory, dtype=np.uint8)
        ends = np.cumsum(sizes)
        self._views = {
            camera.name: whole[end - size : end].reshape(camera.height, camera.width, 3)
            for camera, size, end in zip(self.cameras, sizes, ends, strict=True)
        }

    def write(self, images: Mapping[str, Image]) -> None:
        """Copy one picture of each camera in."""
        for name, view in self._views.items():
            np.copyto(view, images[name], casting="no")

    def view(self) -> dict[str, Image]:
        """The pictures where they lie: valid until the other side writes again."""
        return dict(self._views)

    def close(self) -> None:
        """Give the memory back; the other side keeps its own hold. Views must not be used any more."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1
            self._views = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (self.cameras, reduction.DupFd(self.handle))


def _attach(cameras: Sequence[CameraSpec], handle: Any) -> SharedFrames:
    return SharedFrames(cameras, handle.detach())
