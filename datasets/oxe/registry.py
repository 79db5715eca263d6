"""The Open X-Embodiment data sets that are described here, one TOML file each, beside this module.

The file format is that of :mod:`vla.datasets.description`. A file's name is the data set's first name; the others are
those of copies in circulation. ``source`` says where an entry's facts are from and ``note`` what those sources leave
open: there the entry follows the loading code of Octo and OpenVLA, and says so.

Left out, because nobody documents what their numbers mean: ``mimic_play``, ``conq_hose_manipulation``, ``spoc``,
``qut_dexterous_manpulation`` and ``robo_ai_u_r5e``. Left out, because they have no arm's actions that could be written
as channels: ``robot_vqa`` (questions and answers), ``tidybot`` (actions are texts) and
``vima_converted_externally_to_rlds`` (pick-and-place primitives). Driving (``berkeley_gnm_*``) and walking
(``utokyo_saytap_*``) are here with channels of their own. Octo's and OpenVLA's own conversions of sets that were never
published in that form (``gnm_dataset``, ``aloha_static_dataset``, ``rh20t``, ``ppgm``, ``droid_wipe``) are not here.
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
