"""Named arrays and a JSON value in one ``.npz`` that is mapped into memory instead of read.

An uncompressed ``.npz`` is a zip of plain ``.npy`` files, so each array is a range of the file: worker processes share
its pages, and a reader touches only the rows it needs.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import DataError
from vla.files import whole_file

_META = "meta"
_LOCAL_HEADER = 30  # bytes before the name in a zip entry (APPNOTE 4.3.7)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], meta: Any) -> None:
    """Write under another name, then rename: a reader sees all or nothing.

    Raises:
        DataError: the file cannot be written, e.g. on a full disk.
    """
    text = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_META: text}, **arrays)
    except OSError as error:
        raise DataError(path, "index", expected="a writable folder with space", found=str(error)) from error


def read_meta(path: Path) -> Any:
    """The JSON value of a file of :func:`write_arrays`.

    Raises:
        DataError: the file is not one.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{_META}.npy") as member:
            return json.loads(np.lib.format.read_array(member, allow_pickle=False).tobytes())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(path, _META, expected="an index file", found=str(error)) from error


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of :func:`write_arrays`, read-only and not yet read.

    Raises:
        DataError: the file is not one.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name == _META:
                    continue
                file.seek(entry.header_offset + _LOCAL_HEADER - 4)
                lengths = np.frombuffer(file.read(4), "<u2")
                file.seek(entry.header_offset + _LOCAL_HEADER + int(lengths.sum()))
                version = np.lib.format.read_magic(file)
                if version != (1, 0):
                    raise ValueError(f"array {name} in .npy version {version}")
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                if fortran or dtype.hasobject:
                    raise ValueError(f"array {name} of {dtype} in an order or type that is not written here")
                if 0 in shape:
                    arrays[name] = np.zeros(shape, dtype)
                else:
                    arrays[name] = np.memmap(path, dtype, "r", file.tell(), shape)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(path, "arrays", expected="an index file", found=str(error)) from error
    return arrays
