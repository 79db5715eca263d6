"""LIBERO's and robomimic's demonstrations in HDF5: one file or a folder of files, any frame at random access.

::

    *.hdf5 ──libhdf5 in a child process, once──▶ index (cached) ─▶ source[episode].images["agentview"][step]
                                                                    one read of one frame, no libhdf5

    data/                    attributes: env_args or env_info (the controller), problem_info, bddl_file_content
      demo_0/                attributes: num_samples, model_file (the simulator's model)
        actions  states  obs/agentview_rgb  obs/ee_pos  ...

Files that hold simulator states only have neither cameras nor state channels here; ``vla data render`` makes both.
"""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vla.datasets.description import Description, read_description
from vla.datasets.hdf5_index import SHORT, DemoIndex, demo_index
from vla.datasets.hdf5_meaning import ACTIONS, Meaning, instruction_of, meaning, without_observations
from vla.datasets.hdf5_source import STATES, Hdf5Source, check_finite
from vla.datasets.splits import parts
from vla.errors import DataError
from vla.files import cache_folder
from vla.protocols import Progress
from vla.quirks import Quirk, admit

__all__ = ["LAYOUT", "Config", "Hdf5Source", "accepts"]

LAYOUT = "LIBERO or robomimic demonstrations (an HDF5 file on disk, or a folder of them)"
_SUFFIXES = (".hdf5", ".h5")
_SLACK = 1e-6  # beyond the controller's limits that is rounding

logger = logging.getLogger(__name__)


def accepts(path: str | Path) -> bool:
    """Whether it is an HDF5 file by its name, or a folder with one."""
    place = Path(path)
    return (place.is_file() and place.suffix in _SUFFIXES) or (place.is_dir() and bool(_files(place)))


@dataclass(frozen=True)
class Config:
    """HDF5 demonstrations on disk.

    Attributes:
        path: file, or folder whose ``.hdf5`` and ``.h5`` files are read in the order of their names.
        split: ``train``, all demonstrations, or a part of it: ``train[:90%]``, ``train[10:20]``.
        fixes: metres, radians and gripper 1 = open; what the controller cut off is cut off; LIBERO's pictures turned by
            180 degrees as its policies get them, and each action paired with what was seen before it. Off shows the
            data as stored.
        tolerate: kinds of quirks to read around: ``actions-out-of-range``, ``broken-file``, ``partial-field``,
            ``short-demonstration``, ``wrong-totals``.
        description: TOML file that says what the fields mean, for files whose own attributes do not; fields are called
            ``actions`` and ``obs/...``.
        instruction: text for demonstrations whose files have none.
        observations: read what was seen; off leaves actions and the simulator's states.
        cache: folder for the index; by default ``$XDG_CACHE_HOME/vla`` or ``~/.cache/vla``.
        progress: told how many files are indexed and how many there are.
    """

    path: Path
    split: str = "train"
    fixes: bool = True
    tolerate: tuple[str, ...] = ()
    description: Path | None = None
    instruction: str = ""
    observations: bool = True
    cache: Path | None = None
    progress: Progress | None = None

    def make(self) -> Hdf5Source:
        """The episodes.

        Raises:
            DataError: a file is damaged, or nobody says what its numbers mean.
            QuirksFound: something is wrong that can be read around, and is not tolerated.
            UnknownName: there is no such split.
            ConfigError: the split is not written as it should be.
        """
        path = Path(os.path.abspath(self.path))
        files = [path] if path.is_file() else _files(path)
        if not files:
            raise DataError(path, "files", expected=LAYOUT, found="none")
        index = demo_index(files, path.stem, Path(self.cache) if self.cache else cache_folder(), self.progress)
        description = read_description(Path(self.description), choosing=not self.fixes) if self.description else None
        found = _meaning(index, description)
        if not self.observations:
            found = without_observations(found)
        texts = tuple(
            instruction_of(attributes, index.fields, stamp.path) or self.instruction
            for stamp, attributes in zip(index.files, index.attributes, strict=True)
        )
        named = parts(self.split, {"train": (len(index),)}, path.name, shards=False)
        demos = np.concatenate([np.arange(part.start, part.stop) for part in named])
        source = Hdf5Source(index, found, self.fixes, texts, (), tuple((p.start, p.stop) for p in named))
        found_wrong = [*index.quirks, *_out_of_range(index, found, demos), *_too_short(index, demos, source.lost)]
        source = replace(source, quirks=admit(found_wrong, self.tolerate))
        if not len(source):
            expected, none = "at least one episode", f"none with more than {source.lost} steps"
            raise DataError(path, f"split {self.split}", expected=expected, found=none)
        if self.observations and STATES in index.fields and not found.description.cameras:
            logger.warning("%s: simulator states only, no pictures: make them with: vla data render %s", path, path)
        return source


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())


def _meaning(index: DemoIndex, description: Description | None) -> Meaning:
    """What all files mean alike.

    Raises:
        DataError: they differ, or a field is missing.
    """
    first = index.files[0].path
    if description:
        found = Meaning(description)
    else:
        each = [
            meaning(attributes, index.fields, _rate(index, number), stamp.path)
            for number, (stamp, attributes) in enumerate(zip(index.files, index.attributes, strict=True))
        ]
        found = each[0]
        for stamp, other in zip(index.files, each, strict=True):
            if other != found:
                expected = f"{found.description.robot} at {found.description.rate:g} Hz, the same as {Path(first).name}"
                raise DataError(stamp.path, "data, attributes", expected=expected, found=other.description.robot)
    widths = {name: int(np.prod(shape)) for name, (_, shape) in index.fields.items() if len(shape) < 2}
    found.description.check(widths, first)
    for camera in found.description.cameras:
        dtype, shape = index.fields.get(camera.field, ("nothing", ()))
        if dtype != "|u1" or len(shape) != 3 or shape[2] != 3:
            shown = f"{dtype} of shape {shape}"
            raise DataError(first, camera.field, expected="pictures, uint8 of shape (h, w, 3)", found=shown)
    return found


def _rate(index: DemoIndex, file: int) -> float | None:
    """Steps a second by the clock in a file's first states; None where there are no two of them."""
    demo = int(np.argmax(np.asarray(index._arrays["file"]) == file))
    if STATES not in index.fields or int(index.lengths[demo]) < 2:
        return None
    first, second = index.array(demo, STATES).read(0, 2)[:, 0]
    return round(1.0 / float(second - first), 6) if np.isfinite(second - first) and second > first else None


def _too_short(index: DemoIndex, demos: Int64[np.ndarray, "n"], lost: int) -> list[Quirk]:
    """Those of the demonstrations of which nothing is left."""
    remedy = "the demonstration is left out"
    return [
        Quirk(
            kind=SHORT,
            file=index.files[index.file(demo)].path,
            field=f"data/{index.name(demo)}",
            expected=f"more than {lost} steps, which reading takes away (--raw: not)",
            found=str(int(index.lengths[demo])),
            remedy=remedy,
        )
        for demo in np.unique(demos).tolist()
        if int(index.lengths[demo]) <= lost
    ]


def _out_of_range(index: DemoIndex, found: Meaning, demos: Int64[np.ndarray, "n"]) -> list[Quirk]:
    """Those of the demonstrations with actions that the controller cut off.

    Raises:
        DataError: an action is not finite.
    """
    quirks = []
    channels = [column for part in found.description.action for column in part.channels]
    for number in np.unique(demos).tolist():
        file, where = index.files[index.file(number)].path, f"data/{index.name(number)}/{ACTIONS}"
        actions = index.array(number, ACTIONS).read().reshape(int(index.lengths[number]), -1)
        check_finite(actions, file, where)
        outside = (actions < found.low - _SLACK) | (actions > found.high + _SLACK)
        steps = np.flatnonzero(outside.any(axis=1))
        if not len(steps):
            continue
        step, column = (int(place) for place in np.unravel_index(np.argmax(np.abs(actions)), actions.shape))
        channel = channels[column]
        worst = f"{actions[step, column]:.6g} in step {step}, channel {channel.name if channel else column}"
        quirks.append(
            Quirk(
                kind="actions-out-of-range",
                file=file,
                field=where,
                expected=f"numbers in [{found.low:g}, {found.high:g}]",
                found=f"{len(steps)} of {len(actions)} steps outside, the first is step {steps[0]}; worst {worst}",
                remedy="cut off as the controller did (--raw: kept as stored)",
            )
        )
    return quirks
