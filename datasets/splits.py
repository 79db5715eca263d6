"""TFDS's way to name parts of a data set, for every format: ``train[:90%]``, ``val+train[10:20]``, ``all``.

The meaning is that of ``tfds.core.ReadInstruction``; percentages give the closest episode (Python's ``round``). Files
of an RLDS data set can be named too: ``train[-5shard:]``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vla.errors import ConfigError, UnknownName

_PART = re.compile(r"(?P<name>[\w-]+)(?:\[(?P<slice>[^\[\]]*)\])?")
_BOUND = re.compile(r"(?P<value>-?[\d_.]+)(?P<unit>%|shard)?")


@dataclass(frozen=True)
class Part:
    """Episodes of one split, by number: ``start`` to before ``stop``."""

    split: str
    start: int
    stop: int


def parts(text: str, splits: Mapping[str, Sequence[int]], data_set: str, *, shards: bool = True) -> tuple[Part, ...]:
    """What a split expression names, in its order.

    Args:
        text: the expression, or the whole name of a split.
        splits: by name, episodes in each of its files, or all of them as one number.
        data_set: named in errors.
        shards: whether files can be named.

    Raises:
        UnknownName: there is no such split.
        ConfigError: the text is no such expression, or reaches past the split.
    """
    if text in splits:
        return (Part(text, 0, sum(splits[text])),)
    found: list[Part] = []
    for piece in re.split(r"\s*\+\s*", text):
        match = _PART.fullmatch(piece)
        if match is None:
            raise _no_split(text)
        name, inner = match["name"], match["slice"]
        if name == "all" and inner is None and splits:
            found += [Part(each, 0, sum(lengths)) for each, lengths in splits.items()]
            continue
        if name not in splits:
            raise UnknownName(f"split of {data_set}", name, splits)
        found.append(_part(text, name, inner, splits[name], shards=shards))
    return tuple(found)


def _part(text: str, name: str, inner: str | None, lengths: Sequence[int], *, shards: bool) -> Part:
    count = sum(lengths)
    if inner is None:
        return Part(name, 0, count)
    bounds = [_bound(text, bound) for bound in inner.split(":")]
    units = {unit for _, unit in bounds if unit}
    if "shard" in units and not shards:
        raise ConfigError(f"split {text!r}: shards are files of RLDS data sets; here episodes and percentages count")
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
        start = 0 if start is None else round(start * count / 100.0)
        stop = count if stop is None else round(stop * count / 100.0)
    elif unit == "shard":
        start = 0 if start is None else sum(lengths[: int(start)])
        if stop is not None:
            stop = sum(lengths[: int(stop) if stop > 0 else len(lengths) + int(stop)])
    start, stop = int(start or 0), count if stop is None else int(stop)
    if max(abs(start), abs(stop)) > count:
        raise ConfigError(f"split {text!r}: {name} has {count} episodes")
    start, stop = (bound + count if bound < 0 else bound for bound in (start, stop))
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
