"""TFDS's way to name parts of a data set: ``train[:90%]``, ``val+train[10:20]``, ``train[-5shard:]``, ``all``.

The meaning is that of ``tfds.core.ReadInstruction``; percentages give the closest record (Python's ``round``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vla.datasets.rlds_specification import Split
from vla.errors import ConfigError, UnknownName

_PART = re.compile(r"(?P<name>[\w-]+)(?:\[(?P<slice>[^\[\]]*)\])?")
_BOUND = re.compile(r"(?P<value>-?[\d_.]+)(?P<unit>%|shard)?")


@dataclass(frozen=True)
class Part:
    """Records of one split, by number: ``start`` to before ``stop``."""

    split: str
    start: int
    stop: int


def parts(text: str, splits: Mapping[str, Split], data_set: str) -> tuple[Part, ...]:
    """What a split expression names, in its order.

    Raises:
        UnknownName: there is no such split.
        ConfigError: the text is no such expression, or reaches past the split.
    """
    found: list[Part] = []
    for piece in re.split(r"\s*\+\s*", text):
        match = _PART.fullmatch(piece)
        if match is None:
            raise _no_split(text)
        name, inner = match["name"], match["slice"]
        if name == "all" and inner is None and splits:
            found += [Part(each, 0, split.count) for each, split in splits.items()]
            continue
        if name not in splits:
            raise UnknownName(f"split of {data_set}", name, splits)
        found.append(_part(text, name, inner, splits[name]))
    return tuple(found)


def _part(text: str, name: str, inner: str | None, split: Split) -> Part:
    if inner is None:
        return Part(name, 0, split.count)
    bounds = [_bound(text, bound) for bound in inner.split(":")]
    units = {unit for _, unit in bounds if unit}
    values = [value for value, _ in bounds]
    if len(bounds) == 1 and units == {"shard"} and values[0] is not None:
        values = [values[0], str(int(_number(text, values[0])) + 1)]
    elif len(bounds) != 2 or values == [None, None]:
        raise _no_split(text)
    unit = bounds[0][1] or bounds[-1][1] or ""
    start, stop = (None if value is None else _number(text, value, whole=unit != "%") for value in values)
    if unit == "%":
        if max(abs(start or 0), abs(stop or 0)) > 100:
            raise ConfigError(f"split {text!r}: percentages go from -100 to 100")
        start = 0 if start is None else round(start * split.count / 100.0)
        stop = split.count if stop is None else round(stop * split.count / 100.0)
    elif unit == "shard":
        start = 0 if start is None else sum(split.lengths[: int(start)])
        if stop is not None:
            stop = sum(split.lengths[: int(stop) if stop > 0 else len(split.lengths) + int(stop)])
    start, stop = int(start or 0), split.count if stop is None else int(stop)
    if max(abs(start), abs(stop)) > split.count:
        raise ConfigError(f"split {text!r}: {name} has {split.count} records")
    start, stop = (bound + split.count if bound < 0 else bound for bound in (start, stop))
    return Part(name, start, max(start, stop))


def _bound(text: str, bound: str) -> tuple[str | None, str | None]:
    if not bound:
        return None, None
    match = _BOUND.fullmatch(bound)
    if match is None:
        raise _no_split(text)
    return match["value"], match["unit"]


def _number(text: str, value: str, *, whole: bool = True) -> float:
    try:
        return int(value) if whole else float(value)
    except ValueError as error:
        raise _no_split(text) from error


def _no_split(text: str) -> ConfigError:
    return ConfigError(f"split {text!r} is not written as train, train[:90%], train[10:20] or train+val")
