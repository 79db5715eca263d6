"""Statistics in the files of three other programs: openpi, OpenVLA and LeRobot.

::

    openpi   norm_stats.json          {"norm_stats": {"state", "actions"}}: mean std q01 q99
    OpenVLA  dataset_statistics.json  {<data set>: {"action", "proprio", counts}}: mean std min max q01 q99, action mask
    LeRobot  meta/stats.json          {<feature>}: mean std min max count, from v3.0 on quantiles

None of them says which number is which channel, what unit it has, or whether an open gripper is 0, 1 or -1: the caller
does, with the embodiment that the file's vectors follow (:func:`~vla.statistics_convert.convert_statistics` goes on
from there). What a file does not hold stays None; nothing is made up.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError, StatisticsMissing, UnknownName
from vla.files import write_text
from vla.normalize import FIELDS, ChannelStatistics, Statistics
from vla.statistics_estimator import pool

Layout = Literal["openpi", "openvla", "lerobot"]
_LARGEST = float(np.finfo(np.float32).max)  # what statistics are of are float32; squares of more would overflow
_MOST = 2**53  # steps
LEROBOT_STATE, LEROBOT_ACTION = "observation.state", "action"


def read_openpi(path: Path, spec: EmbodimentSpec, *, count: int) -> Statistics:
    """The statistics in an openpi ``norm_stats.json``; it has no min and max.

    Args:
        path: the file.
        spec: what its vectors hold.
        count: steps they were computed over, which the file does not say.

    Raises:
        DataError: the file is not one, or its vectors are not as long as the spec's.
    """
    table = _object(path, read_table(path).get("norm_stats"), "norm_stats")
    parts = (("state", spec.state_names), ("actions", spec.action.names))
    return Statistics(
        {
            name: numbers
            for key, names in parts
            if names
            for name, numbers in _channels(path, table, key, names, count).items()
        }
    )


def read_openvla(path: Path, spec: EmbodimentSpec, *, data_set: str | None = None) -> Statistics:
    """The statistics of one data set in an OpenVLA ``dataset_statistics.json``.

    Args:
        path: the file.
        spec: what its vectors hold; OpenVLA's gripper is 1 open, 0 closed after its own transforms.
        data_set: name in the file; needed where it holds several.

    Raises:
        DataError: the file is not one, or its vectors are not as long as the spec's.
        UnknownName: it holds no such data set, or several and none was named.
    """
    tables = {
        name: table for name, table in read_table(path).items() if isinstance(table, Mapping) and "action" in table
    }
    if data_set is None and len(tables) == 1:
        (data_set,) = tables
    if data_set not in tables:
        raise UnknownName(f"data set in {path}", data_set or "", tables)
    table = tables[data_set]
    count = table.get("num_transitions")
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST:
        expected = "steps, a whole number above 0"
        raise DataError(path, f"{data_set}: num_transitions", expected=expected, found=repr(count)[:60])
    channels = _channels(path, table, "action", spec.action.names, count)
    if spec.state and table.get("proprio") is not None:  # some published files leave the state out
        channels |= _channels(path, table, "proprio", spec.state_names, count)
    return Statistics(channels)


def read_lerobot(
    path: Path,
    spec: EmbodimentSpec,
    *,
    state: str = LEROBOT_STATE,
    action: str = LEROBOT_ACTION,
    count: int | None = None,
) -> Statistics:
    """The statistics in a LeRobot ``meta/stats.json``; versions before 3.0 have no quantiles.

    Args:
        path: the file.
        spec: what the features hold.
        state: name of the state's feature.
        action: name of the action's feature.
        count: steps, for files (v2.0) that do not say.

    Raises:
        DataError: the file is not one, its vectors are not as long as the spec's, or it does not say the count.
    """
    return lerobot_statistics(path, read_table(path), spec, state=state, action=action, count=count)


def lerobot_statistics(
    path: Path,
    table: Mapping[str, Any],
    spec: EmbodimentSpec,
    *,
    state: str = LEROBOT_STATE,
    action: str = LEROBOT_ACTION,
    count: int | None = None,
) -> Statistics:
    """As :func:`read_lerobot`, of a table that was read already: feature, then field, then a list of numbers."""
    channels = _channels(path, table, action, spec.action.names, count)
    if spec.state:
        channels |= _channels(path, table, state, spec.state_names, count)
    return Statistics(channels)


def read_lerobot_episodes(
    path: Path,
    spec: EmbodimentSpec,
    *,
    state: str = LEROBOT_STATE,
    action: str = LEROBOT_ACTION,
    episodes: frozenset[int] | None = None,
) -> Statistics:
    """The pooled statistics of a LeRobot v2.1 ``meta/episodes_stats.jsonl``, line by line; quantiles cannot be pooled.

    Args:
        path: the file.
        spec: what the features hold.
        state: name of the state's feature.
        action: name of the action's feature.
        episodes: numbers of those to pool; None for all.

    Raises:
        DataError: a line is not one of them, or an episode is missing.
    """
    parts = [(action, spec.action.names)] + ([(state, spec.state_names)] if spec.state else [])
    found: dict[str, list[dict[str, ChannelStatistics]]] = {key: [] for key, _ in parts}
    seen: set[int] = set()
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            row = _object(path, _parsed(path, line, f"line {number}"), f"line {number}")
            episode = row.get("episode_index")
            if not isinstance(episode, int) or episode in seen:
                expected, shown = "another episode_index on each line", repr(episode)
                raise DataError(path, f"line {number}", expected=expected, found=shown)
            seen.add(episode)
            if episodes is None or episode in episodes:
                table = _object(path, row.get("stats"), f"line {number}: stats")
                for key, names in parts:
                    found[key].append(_channels(path, table, key, names, None))
    if episodes is not None and episodes - seen:
        expected = "each episode once"
        raise DataError(path, "episodes", expected=expected, found=f"none with number {min(episodes - seen)}")
    channels: dict[str, ChannelStatistics] = {}
    for key, names in parts:
        channels |= _pooled(path, names, found[key])
    return Statistics(channels)


def write_openpi(path: Path, statistics: Statistics, spec: EmbodimentSpec) -> None:
    """Write an openpi ``norm_stats.json``.

    Raises:
        StatisticsMissing: a channel has no mean, std, q01 or q99.
    """
    fields = ("mean", "std", "q01", "q99")
    table = {"actions": _vectors(statistics, spec.action.names, fields)}
    if spec.state:
        table = {"state": _vectors(statistics, spec.state_names, fields)} | table
    write_text(path, json.dumps({"norm_stats": table}, indent=2))


def write_openvla(path: Path, statistics: Statistics, spec: EmbodimentSpec, *, data_set: str, episodes: int) -> None:
    """Write an OpenVLA ``dataset_statistics.json``; the mask leaves the gripper as it is, as OpenVLA does.

    Raises:
        StatisticsMissing: a channel lacks one of the six numbers.
        ConfigError: the gripper is not OpenVLA's (1 open, 0 closed).
    """
    gripper = spec.action.gripper
    if gripper is not None and (gripper.closed, gripper.opened) != (0.0, 1.0):
        raise ConfigError(f"OpenVLA's gripper is 0 closed, 1 open; these statistics are of {gripper}: convert them")
    mask = [channel.kind != "gripper" for channel in spec.action.channels]
    table: dict[str, Any] = {"action": _vectors(statistics, spec.action.names, FIELDS) | {"mask": mask}}
    if spec.state:
        table["proprio"] = _vectors(statistics, spec.state_names, FIELDS)
    table |= {"num_transitions": _count(statistics, spec), "num_trajectories": episodes}
    write_text(path, json.dumps({data_set: table}, indent=2))


def write_lerobot(
    path: Path,
    statistics: Statistics,
    spec: EmbodimentSpec,
    *,
    state: str = LEROBOT_STATE,
    action: str = LEROBOT_ACTION,
) -> None:
    """Write state and action into a LeRobot ``meta/stats.json``; its other features, if it is there, stay.

    Raises:
        StatisticsMissing: a channel has no mean, std, min or max.
        DataError: the file is there and is not one.
    """
    table = read_table(path) if path.exists() else {}
    for key, names in ((state, spec.state_names), (action, spec.action.names)):
        if names:
            with_quantiles = all(statistics.channels[name].q01 is not None for name in names)
            fields = FIELDS if with_quantiles else FIELDS[:4]
            table[key] = _vectors(statistics, names, fields) | {"count": [_count(statistics, spec)]}
    write_text(path, json.dumps(table, indent=4))


def _vectors(statistics: Statistics, names: tuple[str, ...], fields: tuple[str, ...]) -> dict[str, list[Any]]:
    return {key: vector.tolist() for key, vector in statistics.arrays(names, fields).items()}


def _count(statistics: Statistics, spec: EmbodimentSpec) -> int:
    counts = {statistics.channels[name].count for name in (*spec.state_names, *spec.action.names)}
    if len(counts) != 1:
        raise StatisticsMissing(f"the channels were measured over different numbers of steps: {sorted(counts)}")
    return counts.pop()


def _pooled(
    path: Path, names: tuple[str, ...], parts: list[dict[str, ChannelStatistics]]
) -> dict[str, ChannelStatistics]:
    if not parts:
        raise StatisticsMissing(f"{path}: no episode to pool statistics of")
    tables = [Statistics(part).arrays(names, ("mean", "std", "min", "max")) for part in parts]
    counts = np.array([part[names[0]].count for part in parts])
    moments = pool(counts, *(np.stack([table[key] for table in tables]) for key in ("mean", "std", "min", "max")))
    columns = (moments.mean.tolist(), moments.std.tolist(), moments.min.tolist(), moments.max.tolist())
    return {
        name: ChannelStatistics(mean, std, low, high, None, None, moments.count, None)
        for name, mean, std, low, high in zip(names, *columns, strict=True)
    }


def _channels(
    path: Path, table: Mapping[str, Any], key: str, names: tuple[str, ...], count: int | None
) -> dict[str, ChannelStatistics]:
    """Statistics of a feature's vectors by the names of its channels."""
    feature = _object(path, table.get(key), key)
    if feature.get("mean") is None or feature.get("std") is None:
        raise DataError(path, key, expected="mean and std", found=", ".join(sorted(feature)) or "nothing")
    there = [field for field in FIELDS if feature.get(field) is not None]
    vectors = {field: _vector(path, f"{key}: {field}", feature[field], len(names)) for field in there}
    stated = feature.get("count")
    if stated is not None:
        count = int(_vector(path, f"{key}: count", stated, 1)[0])
    if count is None or not 1 <= count <= _MOST:
        expected = "steps that the statistics are of, from the file or the caller"
        raise DataError(path, f"{key}: count", expected=expected, found=repr(stated if count is None else count)[:60])

    def number(field: str, place: int) -> float | None:
        return vectors[field][place] if field in vectors else None

    return {
        name: ChannelStatistics(
            vectors["mean"][place],
            vectors["std"][place],
            number("min", place),
            number("max", place),
            number("q01", place),
            number("q99", place),
            count,
            None,
        )
        for place, name in enumerate(names)
    }


def _vector(path: Path, field: str, value: Any, size: int) -> list[float]:
    if not isinstance(value, list) or len(value) != size:
        found = f"{len(value)} of them" if isinstance(value, list) else repr(value)[:60]
        raise DataError(path, field, expected=f"{size} numbers", found=found)
    for number in value:
        if not isinstance(number, int | float) or isinstance(number, bool) or not abs(number) <= _LARGEST:
            found = "a whole number of hundreds of digits" if isinstance(number, int) else repr(number)[:60]
            raise DataError(path, field, expected="numbers that float32 holds", found=found)
    return value


def _object(path: Path, value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(path, field, expected="a JSON object", found=repr(value)[:60])
    return value


def read_table(path: Path) -> dict[str, Any]:
    """The JSON object that any of these files is.

    Raises:
        DataError: it cannot be read, or is none.
    """
    with _opened(path) as file:
        return dict(_object(path, _parsed(path, file.read(), "contents"), "contents"))


def _parsed(path: Path, text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(path, field, expected="JSON", found=str(error)) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield file
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, "contents", expected="a readable text file", found=str(error)) from error
