"""Makes the frames that ``loading.py`` reads: smooth scenes with moving things, the same episodes for every format.

Pictures are neither noise (which no codec can compress) nor flat: a table with some grain, light that falls off, and
discs and boxes that move along smooth curves. As JPEG of quality 90 they take 10 to 20 kB at 224 pixels, as those of
robot data sets do. An episode is a function of its number, so parts can be made in parallel and again.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np
import simplejpeg
from PIL import Image as PilImage

from vla.embodiment import EmbodimentSpec
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.experience import Episode, Image

CAMERA = "image_0"
QUALITY = 90


@dataclass(frozen=True)
class Size:
    """How much to make.

    Attributes:
        frames: in all.
        steps: of each episode.
        pixels: of the square pictures.
    """

    frames: int
    steps: int
    pixels: int

    @property
    def episodes(self) -> int:
        """Episodes in all."""
        return self.frames // self.steps


@dataclass(frozen=True)
class JpegFrames(Sequence[Image]):
    """Pictures as JPEG, which writers pass on as they are."""

    pictures: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "JpegFrames": ...
    def __getitem__(self, index: int | slice) -> "Image | JpegFrames":
        """One picture, decoded."""
        if isinstance(index, slice):
            return JpegFrames(self.pictures[index])
        return simplejpeg.decode_jpeg(self.pictures[index])

    def encoded(self, index: int) -> bytes:
        """One picture as it is stored."""
        return self.pictures[index]


def spec_of(size: Size) -> EmbodimentSpec:
    """One camera, seven numbers of state and of action."""
    return bridge_widowx((CAMERA,), size.pixels, size.pixels)


def episodes(size: Size) -> Iterator[Episode]:
    """All episodes in order, drawn on all cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for pictures, numbers in pool.map(partial(_draw, size), range(size.episodes), chunksize=2):
            time = np.arange(size.steps) / 5.0
            text = f"push the {('red', 'green', 'blue', 'white')[int(numbers[0, 0] * 1e6) % 4]} block to the corner"
            frames = {CAMERA: JpegFrames(pictures)}
            yield Episode(spec_of(size), numbers[:, :7], numbers[:, 7:], frames, time, text, True)


def make_rlds(folder: Path, size: Size) -> Path:
    """The frames as TFRecords, in shards of some 64 MB; made once."""
    from vla.datasets.rlds_writer import Writer

    path = folder / f"rlds_{size.frames}x{size.pixels}"
    if not path.exists():
        with Writer(path, spec_of(size), file_bytes=64 * 2**20) as writer:
            for episode in episodes(size):
                writer.add(episode)
    return path / "1.0.0"


def make_lerobot(folder: Path, size: Size, storage: str) -> Path:
    """The same frames as LeRobot v3.0, as ``image`` (the same JPEGs) or ``video``; made once."""
    from vla.datasets.lerobot_v3 import Writer

    path = folder / f"lerobot_{storage}_{size.frames}x{size.pixels}"
    if not path.exists():
        with Writer(path, spec_of(size), storage) as writer:  # pyright: ignore[reportArgumentType]
            for episode in episodes(size):
                writer.add(episode)
    return path


def _draw(size: Size, number: int) -> tuple[tuple[bytes, ...], np.ndarray]:
    chance = np.random.default_rng([7, number])
    pixels, steps = size.pixels, size.steps
    back = _smooth(chance, 5, pixels, 60, 200) + _smooth(chance, pixels // 3, pixels, -14, 14)
    rows, columns = np.mgrid[:pixels, :pixels].astype(np.float32) / pixels
    things = [
        (chance.uniform(0.05, 0.16), chance.uniform(40, 255, 3), chance.uniform(0.1, 0.9, 4), bool(chance.integers(2)))
        for _ in range(7)
    ]
    progress = (1 - np.cos(np.linspace(0, np.pi, steps))) / 2
    pictures = []
    for share in progress:
        picture = back.copy()
        for radius, colour, (x, y, to_x, to_y), round_one in things:
            dx, dy = columns - (x + share * (to_x - x)), rows - (y + share * (to_y - y))
            inside = dx * dx + dy * dy < radius**2 if round_one else np.maximum(abs(dx), abs(dy)) < radius
            shade = 1 - 1.5 * (dx + dy)[inside, None]
            picture[inside] = colour * shade
        pictures.append(simplejpeg.encode_jpeg(np.clip(picture, 0, 255).astype(np.uint8), quality=QUALITY))
    turns = chance.uniform(0.5, 2.0, 14) * progress[:, None] * np.pi
    numbers = (0.4 * np.sin(turns + chance.uniform(0, 6, 14))).astype(np.float32)
    numbers[:, 13] = progress > 0.5  # the gripper's command
    return tuple(pictures), numbers


def _smooth(chance: np.random.Generator, cells: int, pixels: int, low: float, high: float) -> np.ndarray:
    """Colours that change smoothly between the corners of a coarse grid."""
    grid = PilImage.fromarray(chance.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    large = np.asarray(grid.resize((pixels, pixels), PilImage.Resampling.BICUBIC), dtype=np.float32)
    return low + large / 255 * (high - low)
