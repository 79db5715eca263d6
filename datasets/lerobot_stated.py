"""The statistics that LeRobot data sets carry of each episode, against the numbers they are of.

Neither side has checksums in data of others: where they contradict each other, one of them is not what was written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.datasets.lerobot_info import Info
from vla.datasets.lerobot_listing import read_lines
from vla.datasets.lerobot_parquet import integers, read_table
from vla.datasets.lerobot_tally import Tally

_PARTS = ("min", "max", "mean")
_ROUNDING = {"min": 1e-5, "max": 1e-5, "mean": 1e-3}
"""Of the largest number: float32, and sums of it taken one after the other."""

type Numbers = Callable[[int], Mapping[str, np.ndarray] | None]
"""Gives an episode's numbers by feature, each of shape (steps, channels); None for one that is not compared."""


def check_stated(info: Info, fields: Sequence[str], numbers: Numbers, tally: Tally) -> None:
    """Compare smallest, largest and mean number of each channel; statistics that are not there are not missed.

    Args:
        info: the data set.
        fields: features to compare.
        numbers: gives them.
        tally: collects what is wrong.

    Raises:
        DataError: a table of statistics is damaged.
    """
    for episode, field, stated in _stated(info, fields):
        known = numbers(episode)
        if known is None:
            continue
        values = known[field].astype(np.float64)
        scale = float(np.abs(values).max())
        for part, rounding in _ROUNDING.items():
            if part not in stated:
                continue
            there = getattr(values, part)(axis=0)
            said = _vector(stated[part], len(there))
            if said is None or not (np.abs(said - there) <= rounding * scale).all():
                shown = np.array2string(there, precision=6, max_line_width=10_000, threshold=8)
                tally.add(
                    "wrong-statistics",
                    info.folder / "meta",
                    f"statistics: {field}: {part}",
                    expected=f"{shown}, as the data has",
                    found=repr(stated[part])[:200],
                    remedy="the data counts",
                    episode=episode,
                )


def _stated(info: Info, fields: Sequence[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    if info.version == "v2.1" and (path := info.folder / "meta/episodes_stats.jsonl").is_file():
        for _, row in read_lines(path):
            table, episode = row.get("stats"), row.get("episode_index")
            if type(episode) is int and isinstance(table, dict):
                for field in fields:
                    if isinstance(stats := table.get(field), dict):
                        yield episode, field, stats
    elif info.version == "v3.0":
        names = {field: {part: f"stats/{field}/{part}" for part in _PARTS} for field in fields}
        every = [name for parts in names.values() for name in parts.values()]
        for path in sorted((info.folder / "meta/episodes").glob("*/*.parquet")):
            table = read_table(path, ["episode_index"], every)
            for row, episode in enumerate(integers(table, "episode_index", path).tolist()):
                for field, parts in names.items():
                    stats = {part: table[name][row].as_py() for part, name in parts.items() if name in table}
                    yield episode, field, {part: value for part, value in stats.items() if value is not None}


def _vector(value: Any, size: int) -> Float64[np.ndarray, "n"] | None:
    """Numbers of a list, or of a single number; None if it is no such list."""
    flat = value if isinstance(value, list) else [value]
    if len(flat) != size or not all(type(number) in (int, float) for number in flat):
        return None
    try:
        return np.array(flat, np.float64)
    except OverflowError:  # JSON has whole numbers that no float holds
        return None
