"""Pictures of settled LIBERO scenes, kept as PNG files and compared: the renderer's fingerprint.

::

    python -m vla.sim.golden_frames make FOLDER
    python -m vla.sim.golden_frames check FOLDER     exit status 1 if a picture is not the same

Both cameras as policies see them (128 pixels, mirrored), exact and decimated. Against the stored ones, drawn by MuJoCo
3.3.2 through EGL: OSMesa agrees to 49 dB, and to 27 dB where meshes are decimated; MuJoCo 3.2.3 to 44 and 42 dB. The
darker floors of MuJoCo 3.3.3 leave 14 dB.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image as Picture

from vla.errors import DataError
from vla.experience import Image
from vla.files import whole_file
from vla.rows import Row
from vla.sim.libero import Config
from vla.sim.libero_world import Render

SCENES = (("libero_spatial", 5), ("libero_object", 0), ("libero_10", 0))
SIZE = 128
PSNR: dict[Render, float] = {"exact": 32.0, "decimated": 25.0}
"""The least that counts as the same picture [dB]."""


def frames(suite: str, task: int, render: Render) -> Iterator[tuple[str, Image]]:
    """File name and picture of each camera, of the settled first initial state."""
    benchmark = Config(camera_size=SIZE, render=render, allow_simulator_drift=True).make()
    try:
        body, entry = benchmark.open(Row(suite, benchmark.tasks(suite)[task], init=0, seed=0))
        entry.reset()
        for camera, picture in body.observe().images.items():
            yield f"{suite}_{task}_{render}_{camera}.png", picture
    finally:
        benchmark.close()


def psnr(first: Image, second: Image) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures [dB]; infinite if they are equal.

    Raises:
        ValueError: the pictures differ in size.
    """
    if first.shape != second.shape:
        raise ValueError(f"pictures of {first.shape} and {second.shape}")
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def read(folder: Path, name: str) -> Image:
    """A kept picture.

    Raises:
        DataError: it is missing or no picture.
    """
    try:
        with Picture.open(folder / name) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise DataError(folder / name, "file", expected="a PNG picture", found=str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("make", "check"))
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args(arguments)
    ratios: dict[str, float] = {}
    wrong: list[str] = []
    for suite, task in SCENES:
        for render in get_args(Render):
            for name, picture in frames(suite, task, render):
                if chosen.action == "make":
                    with whole_file(chosen.folder / name) as temporary:
                        Picture.fromarray(picture).save(temporary, format="PNG", optimize=True)
                ratios[name] = psnr(picture, read(chosen.folder, name))
                wrong += [name] * (ratios[name] < PSNR[render])
    # an infinite ratio is not JSON: 99 dB stands for equal pictures
    print(json.dumps({"dB": {name: round(min(99.0, ratio), 2) for name, ratio in ratios.items()}, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
