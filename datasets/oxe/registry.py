"""The Open X-Embodiment data sets that are described here, one TOML file each, beside this module.

The file format is that of :mod:`vla.datasets.description`. A file's name is the data set's first name.
"""

import functools
import tomllib
from pathlib import Path

from vla.datasets.description import Description, read_description
from vla.errors import DataError, UnknownName

FOLDER = Path(__file__).parent


@functools.cache
def oxe_files() -> dict[str, Path]:
    """The file of every known name; data sets have several where copies of them go by another name.

    Raises:
        DataError: a file is not TOML, has no names, or two files have the same name.
    """
    files: dict[str, Path] = {}
    for file in sorted(FOLDER.glob("*.toml")):
        try:
            names = tomllib.loads(file.read_text()).get("names", [])
        except ValueError as error:
            raise DataError(file, "file", expected="TOML", found=str(error)) from error
        if not names or set(names) & set(files):
            raise DataError(file, "names", expected="at least one, each in one file only", found=repr(names))
        files |= dict.fromkeys(names, file)
    return files


@functools.cache
def oxe_description(name: str) -> Description:
    """What the numbers and pictures of the data set of that name mean.

    Args:
        name: as the data set calls itself in its ``dataset_info.json``.

    Raises:
        UnknownName: nobody described it here.
    """
    files = oxe_files()
    if name not in files:
        raise UnknownName("Open X-Embodiment data set", name, files)
    return read_description(files[name])
