"""A file of statistics in whatever form it has, as the statistics that a training on the data set needs.

::

    this project's own, OpenVLA's        after fixes, gripper 0 closed ... 1 open ───────────────────▶ Statistics
    openpi's, LeRobot's                  as the data set stores them ─ convert_statistics ───────────▶ Statistics
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from vla.embodiment import EmbodimentSpec
from vla.errors import DataError, StatisticsMissing
from vla.normalize import Statistics
from vla.statistics_convert import convert_statistics
from vla.statistics_files import Layout, read_lerobot, read_lerobot_episodes, read_openpi, read_openvla, read_table

EPISODES = ".jsonl"
"""A file with one line an episode, as LeRobot v2.1 has it (``meta/episodes_stats.jsonl``); quantiles are not in it."""


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
    if path.suffix == EPISODES:
        return convert_statistics(read_lerobot_episodes(path, stored), stored, canonical)
    layout = layout_of(path)
    if layout == "own":
        try:
            return Statistics.from_json(read_table(path))
        except StatisticsMissing as error:
            raise DataError(path, "channels", expected="mean and std of each", found=str(error)) from error
    if layout == "openvla":
        return read_openvla(path, canonical)
    if layout == "openpi":
        return convert_statistics(read_openpi(path, stored, count=count), stored, canonical)
    return convert_statistics(read_lerobot(path, stored, count=count), stored, canonical)


def layout_of(path: Path) -> Layout | Literal["own"]:
    """Whose form a file of statistics has.

    Raises:
        DataError: nobody's, or it cannot be read.
    """
    if path.suffix == EPISODES:
        return "lerobot"
    table = read_table(path)
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
