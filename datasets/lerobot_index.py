"""Everything of a LeRobot data set but its pictures, in one file of the cache folder that is mapped, not read.

It is made by one pass over the tables (:mod:`vla.datasets.lerobot_build`), and made anew when a file of the data set
has another size or time, or when other columns are wanted.
"""

import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, UInt8

from vla.datasets.array_file import map_arrays, read_meta, write_arrays
from vla.datasets.lerobot_build import Wanted, build
from vla.datasets.lerobot_info import Info
from vla.datasets.lerobot_listing import Tables
from vla.errors import DataError
from vla.protocols import Progress
from vla.quirks import Quirk

FORMAT = 2
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeRobotIndex:
    """The episodes that can be read.

    Attributes:
        file: the index itself.
        files: digest of the data set's files.
        quirks: what is wrong.
        sizes: feature name of each camera that has pictures to their height and width [pixels].
        listed: episodes in the data set's own table.
        position: place of each episode in that table.
        number: its ``episode_index``.
        steps: of each episode.
        start: its first row in ``columns``, ``time`` and ``text``.
        place: chunk and file number of its data file.
        row: its first row there.
        columns: feature name to the numbers of all steps.
        time: of all steps [s].
        text: number of each step's instruction.
        films: camera to chunk and file number of each episode's video; cameras with embedded pictures are not in it.
        film_start: where each episode begins in it [s].
        texts: all instructions, one after the other, UTF-8.
        text_ends: where each ends.
        extra: where the lines of our own file about the episodes begin and end; empty for data of others.
    """

    file: Path
    files: str
    quirks: tuple[Quirk, ...]
    sizes: dict[str, tuple[int, int]]
    listed: int
    position: Int64[np.ndarray, "n"]
    number: Int64[np.ndarray, "n"]
    steps: Int64[np.ndarray, "n"]
    start: Int64[np.ndarray, "n"]
    place: Int64[np.ndarray, "n 2"]
    row: Int64[np.ndarray, "n"]
    columns: dict[str, Float32[np.ndarray, "t c"]]
    time: Float64[np.ndarray, "t"]
    text: Int32[np.ndarray, "t"]
    films: dict[str, Int64[np.ndarray, "n 2"]]
    film_start: dict[str, Float64[np.ndarray, "n"]]
    texts: UInt8[np.ndarray, "b"]
    text_ends: Int64[np.ndarray, "k"]
    extra: Int64[np.ndarray, "n 2"]

    @classmethod
    def open(cls, file: Path) -> "LeRobotIndex":
        """The index in that file.

        Raises:
            DataError: it is not one.
        """
        meta, arrays = read_meta(file), map_arrays(file)
        try:
            return cls(
                file=file,
                files=meta["files"],
                quirks=tuple(Quirk(**quirk) for quirk in meta["quirks"]),
                sizes={key: (size[0], size[1]) for key, size in meta["sizes"].items()},
                listed=meta["listed"],
                columns=_group(arrays, "column/"),
                films=_group(arrays, "film/"),
                film_start=_group(arrays, "film_start/"),
                extra=arrays.get("extra", np.zeros((0, 2), np.int64)),
                **{key: arrays[key] for key in ("position", "number", "steps", "start", "place", "row")},
                **{key: arrays[key] for key in ("time", "text", "texts", "text_ends")},
            )
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(file, "index", expected=f"format {FORMAT}", found=f"no {error}") from error

    def instruction(self, text: int) -> str:
        """The text of that number."""
        first = int(self.text_ends[text - 1]) if text else 0
        return self.texts[first : int(self.text_ends[text])].tobytes().decode()


def lerobot_index(info: Info, tables: Tables, wanted: Wanted, cache: Path, progress: Progress | None = None) -> Path:
    """The index of a data set, from the cache folder if it is still true, else made now.

    Raises:
        DataError: the data set is damaged beyond what can be read around, or the cache is not writable.
    """
    folder = info.folder.resolve()
    key = hashlib.sha256(repr((FORMAT, str(folder), wanted)).encode()).hexdigest()[:16]
    file = cache / f"{folder.name}-{key}.npz"
    files = files_digest(folder)
    if not _is_true(file, files):
        logger.info("indexing %s", folder)
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".columns-", dir=cache) as spool:
                arrays, meta = build(info, tables, wanted, Path(spool), progress)
                write_arrays(file, arrays, meta | {"files": files})
        except OSError as error:
            expected = "a writable cache folder with space"
            raise DataError(cache, "index", expected=expected, found=error.strerror or str(error)) from error
    return file


def files_digest(folder: Path) -> str:
    """Hex digits of the names, sizes and times of all files of a data set; hidden ones do not count."""
    digest = hashlib.sha256()
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(top, name)
            try:
                status = path.stat()
            except OSError as error:  # a link to nowhere, as unfinished downloads leave
                raise DataError(path, "file", expected="a readable file", found=str(error)) from error
            fact = (str(path.relative_to(folder)), status.st_size, status.st_mtime_ns)
            digest.update(repr(fact).encode())
    return digest.hexdigest()[:16]


def _group(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _is_true(file: Path, files: str) -> bool:
    if not file.exists():
        return False
    try:
        return read_meta(file)["files"] == files
    except (DataError, KeyError, TypeError):
        return False  # a damaged index costs a new pass, nothing else
