"""Checks of ``meta/`` against the data: totals, splits, statistics."""

import re
from collections.abc import Sequence

from vla.datasets.lerobot_info import Info, read_json
from vla.datasets.lerobot_tally import Tally
from vla.datasets.splits import parts


def check_totals(info: Info, tally: Tally, counted: dict[str, int | None]) -> None:
    """The totals of info.json and the ends of its splits against what was counted; None for what was not."""
    for field, count in counted.items():
        declared = info.value.get(field)
        if declared is not None and count is not None and (type(declared) is not int or declared != count):
            expected, remedy = f"{count}, as there are", "what is there counts"
            found = repr(declared)[:80]
            tally.add("wrong-total", info.file, field, expected=expected, found=found, remedy=remedy)
    episodes = counted["total_episodes"] or 0
    splits = info.value.get("splits", {})
    for name, span in splits.items() if isinstance(splits, dict) else (("splits", splits),):
        first, last = _span(span)
        if first is None or last is None or not 0 <= first < last <= episodes:
            expected, remedy = f"a range within 0:{episodes}", "it is cut where the episodes end"
            found = repr(span)[:80]
            tally.add("wrong-splits", info.file, f"splits: {name}", expected=expected, found=found, remedy=remedy)


def split_ranges(info: Info, split: str, episodes: int) -> tuple[tuple[int, int], ...]:
    """First episode and one past the last of each part that a split expression names (:mod:`vla.datasets.splits`).

    Splits are ranges of episodes, cut where the episodes end; without any, ``train`` is all.

    Raises:
        UnknownName: there is no such split.
        ConfigError: it is no such expression, or reaches past the split.
    """
    splits = info.value.get("splits")
    if not isinstance(splits, dict) or not splits:
        splits = {"train": f"0:{episodes}"}
    spans: dict[str, tuple[int, int]] = {}
    for name, span in splits.items():
        first, last = _span(span)
        first, last = (0, episodes) if first is None or last is None else (min(first, episodes), min(last, episodes))
        spans[name] = first, max(first, last)
    counts = {name: (last - first,) for name, (first, last) in spans.items()}
    named = parts(split, counts, info.folder.name, shards=False)
    return tuple((spans[part.split][0] + part.start, spans[part.split][0] + part.stop) for part in named)


def check_statistics(info: Info, name: str, fields: Sequence[str], tally: Tally) -> None:
    """Whether the file of statistics is there and, where it is one object, has the fields that are read.

    Raises:
        DataError: it is not JSON.
    """
    path = info.folder / name
    remedy = "statistics are computed from the data"
    if not path.is_file():
        tally.add("missing-statistics", path, "file", expected="statistics", found="nothing there", remedy=remedy)
    elif path.suffix == ".json":
        value = read_json(path)
        lacking = [field for field in fields if not isinstance(value, dict) or field not in value]
        if lacking:
            expected = f"statistics of {', '.join(lacking)}"
            tally.add("missing-statistics", path, "fields", expected=expected, found="none", remedy=remedy)


def _span(text: object) -> tuple[int | None, int | None]:
    match = re.fullmatch(r"(\d{1,12}):(\d{1,12})", text) if isinstance(text, str) else None
    return (int(match[1]), int(match[2])) if match else (None, None)
