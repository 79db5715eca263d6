"""A file of statistics in whatever form it has, as the statistics that a training on the data set needs.

::

    this project's own, OpenVLA's        after fixes, gripper 0 closed ... 1 open ───────────────────▶ Statistics
    openpi's, LeRobot's                  as the data set stores them ─ convert_statistics ───────────▶ Statistics
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from vla.embodiment import EmbodimentSpec
from vla.errors import DataError, StatisticsMissing
from vla.normalize import Statistics
from vla.statistics_convert import convert_statistics
from vla.statistics_files import Layout, read_lerobot, read_openpi, read_openvla, read_table


def read_statistics(path: Path, *, stored: EmbodimentSpec, canonical: EmbodimentSpec, count: int) -> Statistics:
    """The statistics in a file of this project, openpi, OpenVLA or LeRobot.

    Args:
        path: the file.
        stored: what the data set's numbers mean in its files; openpi and LeRobot measure those.
        canonical: what they mean after the data set's fixes; so OpenVLA and this project measure them.
        count: steps of the data set, for files that do not say of how many they are.

    Raises:
        DataError: the file is none of these, or its vectors are not as long as the data set's.
        UnknownName: an OpenVLA file holds several data sets.
        StatisticsMissing: the fixes turn rotations into another form, or a number is missing.
        SpecMismatch: no conversion exists between the two embodiments.
    """
    layout = layout_of(path, table := read_table(path))
    if layout == "own":
        try:
            return Statistics.from_json(table)
        except StatisticsMissing as error:
            raise DataError(path, "channels", expected="mean and std of each", found=str(error)) from error
    if layout == "openvla":
        return read_openvla(path, canonical)
    if layout == "openpi":
        return convert_statistics(read_openpi(path, stored, count=count), stored, canonical)
    return convert_statistics(read_lerobot(path, stored, count=count), stored, canonical)


def layout_of(path: Path, table: Mapping[str, Any]) -> Layout | Literal["own"]:
    """Whose form a table of statistics has.

    Args:
        path: named in errors.
        table: the file's JSON object.

    Raises:
        DataError: nobody's.
    """
    values = [value for value in table.values() if isinstance(value, Mapping)]
    if "norm_stats" in table:
        return "openpi"
    if any(isinstance(value.get("action"), Mapping) for value in values):
        return "openvla"
    if isinstance(table.get("action"), Mapping) and isinstance(table["action"].get("mean"), list):
        return "lerobot"
    if table and len(values) == len(table) and all(isinstance(value.get("mean"), int | float) for value in values):
        return "own"
    expected = "statistics of openpi, OpenVLA, LeRobot or vla data stats"
    raise DataError(
        path, "contents", expected=expected, found=f"an object of {', '.join(list(table)[:8]) or 'nothing'}"
    )
