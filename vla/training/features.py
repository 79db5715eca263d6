"""Frozen vision features on disk, computed once for each distinct picture.

::

    <folder>/<key>/keys.bin            16 bytes a picture: digest of its pixels
                   0.f16, 1.f16 ...    one file a feature, (picture, version, ...) float16

The key names everything that features follow from: the frozen weights, the picture size, the shifts. Features are
written before the digests that announce them, so whatever was cut off by a kill is dropped and computed anew.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vla.training.augment import shifted
from vla.training.chance import numpy_chance

_DIGEST = 16
Extract = Callable[[UInt8[Tensor, "n h w 3"]], tuple[Tensor, ...]]


class FeatureStore:
    """Features of pictures, each in its original and in ``versions`` shifted versions.

    Args:
        folder: cache of any number of stores.
        extract: pictures to features; a function of the pictures alone.
        name: of what ``extract`` computes; another name, another store.
        image_size: of the square pictures.
        versions: shifted versions beside the original.
        shift: largest shift [pixels].
    """

    def __init__(self, folder: Path, extract: Extract, name: str, *, image_size: int, versions: int, shift: int):
        self.extract, self.versions, self.shift = extract, versions if shift else 0, shift
        key = f"{name}-{image_size}px-{self.versions}x{shift}"
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        blank = torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)
        self._shapes = [tuple(feature.shape[1:]) for feature in extract(blank)]
        self._files = [self.folder / f"{place}.f16" for place in range(len(self._shapes))]
        self._keys_file = self.folder / "keys.bin"
        self._rows: dict[bytes, int] = {}
        self._maps: list[np.ndarray] | None = None
        self._open()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, images: UInt8[np.ndarray, "n h w 3"]) -> Int64[np.ndarray, "n"]:
        """Rows of these pictures, computing what is not there yet."""
        digests = [hashlib.blake2b(image.tobytes(), digest_size=_DIGEST).digest() for image in images]
        new = {digest: image for digest, image in zip(digests, images, strict=True) if digest not in self._rows}
        if new:
            self._append(list(new), np.stack(list(new.values())))
        return np.array([self._rows[digest] for digest in digests], dtype=np.int64)

    def read(self, rows: Int64[np.ndarray, "*n"], version: Int64[np.ndarray, "*n"]) -> tuple[Tensor, ...]:
        """Features, float16; version 0 is the original."""
        if self._maps is None:
            shape = (len(self), self.versions + 1)
            self._maps = [
                np.memmap(file, np.float16, "r", shape=(*shape, *rest))
                for file, rest in zip(self._files, self._shapes, strict=True)
            ]
        return tuple(torch.from_numpy(table[rows, version]) for table in self._maps)

    def _append(self, digests: list[bytes], images: np.ndarray) -> None:
        versions = [images]
        for version in range(1, self.versions + 1):
            moved = [
                shifted(image[None], self.shift, numpy_chance(digest.hex(), version))
                for digest, image in zip(digests, images, strict=True)
            ]
            versions.append(np.concatenate(moved))
        flat = np.stack(versions, 1).reshape(-1, *images.shape[1:])
        for file, feature in zip(self._files, self.extract(torch.from_numpy(flat)), strict=True):
            with file.open("ab") as out:
                out.write(feature.to(torch.float16).cpu().numpy().tobytes())
        with self._keys_file.open("ab") as out:
            out.write(b"".join(digests))
        for digest in digests:
            self._rows[digest] = len(self._rows)
        self._maps = None

    def _open(self) -> None:
        """Take what is whole, cut off the rest."""
        for file in (self._keys_file, *self._files):
            file.touch()
        sizes = [2 * (self.versions + 1) * math.prod(shape) for shape in self._shapes]
        count = min(
            self._keys_file.stat().st_size // _DIGEST,
            *(file.stat().st_size // size for file, size in zip(self._files, sizes, strict=True)),
        )
        for file, size in zip((self._keys_file, *self._files), (_DIGEST, *sizes), strict=True):
            with file.open("rb+") as out:
                out.truncate(count * size)
        keys = self._keys_file.read_bytes()
        self._rows = {keys[place : place + _DIGEST]: place // _DIGEST for place in range(0, len(keys), _DIGEST)}


def weights_name(module: torch.nn.Module) -> str:
    """A digest of a module's weights, to name what it computes."""
    digest = hashlib.blake2b(type(module).__name__.encode(), digest_size=8)
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
