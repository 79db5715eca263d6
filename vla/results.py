"""Results of evaluations: one line a row while they are made, one Parquet file when they are, and what they say."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vla.clustered import clustered_wilson
from vla.errors import ConfigError, DataError
from vla.files import whole_file
from vla.intervals import mcnemar_exact, paired_difference, wilson
from vla.protocol_libero import split_suite
from vla.rows import Row

STATUSES = ("success", "failure", "error")
KINDS = ("crash", "time-out", "out of memory", "fault")
"""Of errors: the process died or raised, the row took too long, memory ran out, policy or body gave up themselves."""


@dataclass(frozen=True)
class Result:
    """What came of one row.

    Attributes:
        row: the scene.
        status: ``"success"``, ``"failure"``, or ``"error"``: a crash, which says nothing about the policy.
        steps: control steps made.
        wall_s: time the episode took [s].
        latency_s: mean time of an inference [s]; NaN if there was none.
        inferences: how many there were.
        error: what went wrong; empty unless ``status`` is ``"error"``.
        error_kind: one of ``KINDS``; empty unless ``status`` is ``"error"`` and this was said.
        attempts: 2 if the first one took its process down.
        actions: 16 hex digits of all actions sent: two runs that agree in them did the same, bit for bit.
        policy: name of the policy, for people.
        embodiment: fingerprint of the policy's embodiment.
        checkpoint: fingerprint of the policy's weights; empty if it has none.
        versions: package name to version, of those that were loaded; ``renderer`` to the OpenGL library.
        protocol: how the benchmark was run (:mod:`vla.protocol_libero`); empty if that was not said.
    """

    row: Row
    status: str
    steps: int = 0
    wall_s: float = 0.0
    latency_s: float = math.nan
    inferences: int = 0
    error: str = ""
    error_kind: str = ""
    attempts: int = 1
    actions: str = ""
    policy: str = ""
    embodiment: str = ""
    checkpoint: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.status not in STATUSES:
            raise ConfigError(f"status {self.status!r} is none of {', '.join(STATUSES)}")
        if self.error_kind and (self.error_kind not in KINDS or self.status != "error"):
            raise ConfigError(
                f"a {self.status} of kind {self.error_kind!r}: expected one of {', '.join(KINDS)}, of an error"
            )

    @property
    def success(self) -> bool:
        """Whether the task was solved."""
        return self.status == "success"

    def to_json(self) -> dict[str, Any]:
        """One flat JSON value, the row's fields first; NaN becomes None."""
        value = self.row.to_json() | {item.name: getattr(self, item.name) for item in fields(self)[1:]}
        value["latency_s"] = None if math.isnan(self.latency_s) else self.latency_s
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Result":
        """The result that :meth:`to_json` wrote.

        Raises:
            ConfigError: a field is missing, unknown or out of range.
        """
        rest = dict(value)
        try:
            row = Row(**{item.name: rest.pop(item.name) for item in fields(Row)})
            rest["latency_s"] = math.nan if rest["latency_s"] is None else rest["latency_s"]
            return cls(row, **rest)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"result: {error} does not fit a result's fields") from error


def write_results(path: Path, results: Sequence[Result]) -> None:
    """One Parquet file, a line a row, sorted by row; whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    text, whole, real = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    schema = pyarrow.schema(
        [
            *(("suite", text), ("task", text), ("init", whole), ("seed", whole), ("widen", real)),
            *(("status", text), ("success", pyarrow.bool_()), ("steps", whole), ("wall_s", real)),
            *(("latency_s", real), ("inferences", whole), ("error", text), ("error_kind", text)),
            *(("attempts", whole), ("actions", text), ("policy", text), ("embodiment", text), ("checkpoint", text)),
            *(("versions", text), ("protocol", text)),
        ]
    )
    lines = [
        result.to_json()
        | {"success": result.success}
        | {key: json.dumps(getattr(result, key), sort_keys=True) for key in ("versions", "protocol")}
        for result in sorted(results, key=lambda result: result.row)
    ]
    with whole_file(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines, schema=schema), temporary)


def read_results(*paths: Path) -> list[Result]:
    """Results of one or more Parquet files, or of the folders they lie in, sorted by row.

    Raises:
        DataError: a file is missing or is not one of results.
        ConfigError: two of them have the same row.
    """
    found: list[Result] = []
    for path in paths:
        found += _read(path if path.suffix == ".parquet" else path / "results.parquet")
    by_row(found)
    return sorted(found, key=lambda result: result.row)


def _read(path: Path) -> list[Result]:
    import pyarrow
    import pyarrow.parquet

    try:
        lines = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError(path, "file", expected="a Parquet file of results", found=found) from error
    try:
        for line in lines:
            del line["success"]
            line |= {key: json.loads(line[key]) for key in ("versions", "protocol") if key in line}
        return [Result.from_json(line) for line in lines]
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DataError(path, "columns", expected="the columns of results", found=str(error)) from error


def by_row(results: Iterable[Result]) -> dict[Row, Result]:
    """Results by their row.

    Raises:
        ConfigError: a row is there twice.
    """
    table: dict[Row, Result] = {}
    for result in results:
        if result.row in table:
            raise ConfigError(f"row {result.row} is there twice: its results cannot be counted together")
        table[result.row] = result
    return table


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """Success by task, suite and perturbation and in all, as JSON values.

    Errors are counted apart and enter no rate.

    Returns:
        ``{"total": cell, "tasks": [{"suite": ..., "task": ...} | cell, ...], "suites": [{"suite": ...} | cell, ...],
        "perturbations": [{"perturbation": ...} | cell, ...]}`` in the order of their first result, where a cell has
        ``n`` (without errors), ``successes``, ``rate`` (None if ``n`` is 0), ``low`` and ``high`` (Wilson, 95 %),
        ``clustered`` (low and high with the task as the unit, None for fewer than two tasks), ``errors``,
        ``error_kinds`` (how many of each kind),
        ``mean_steps``, ``mean_steps_success``, ``mean_wall_s`` and ``latency_s`` (None if there are none) and
        ``wall_s``.
    """

    def cells(key: Callable[[Result], tuple[str, ...]], *names: str) -> list[dict[str, Any]]:
        groups: dict[tuple[str, ...], list[Result]] = {}
        for result in results:
            groups.setdefault(key(result), []).append(result)
        return [dict(zip(names, group, strict=True)) | _cell(members) for group, members in groups.items()]

    return {
        "total": _cell(results),
        "tasks": cells(lambda result: (result.row.suite, result.row.task), "suite", "task"),
        "suites": cells(lambda result: (result.row.suite,), "suite"),
        "perturbations": cells(lambda result: (perturbation(result.row),), "perturbation"),
    }


def perturbation(row: Row) -> str:
    """What is changed against LIBERO's own scenes: LIBERO-PRO's suffix, ``"sampled"`` places, ``"none"``."""
    changed = split_suite(row.suite)[1]
    if row.init == -1:
        widened = f"sampled x{row.widen:g}" if row.widen != 1 else "sampled"
        return f"{changed}, {widened}" if changed else widened
    return changed or "none"


def _cell(results: Sequence[Result]) -> dict[str, Any]:
    scored = [result for result in results if result.status != "error"]
    solved = [result for result in scored if result.success]
    low, high = wilson(len(solved), len(scored))
    by_task, solved_by_task = (Counter((r.row.suite, r.row.task) for r in group) for group in (scored, solved))
    return {
        "n": len(scored),
        "successes": len(solved),
        "rate": len(solved) / len(scored) if scored else None,
        "low": low,
        "high": high,
        "clustered": clustered_wilson([solved_by_task[task] for task in by_task], list(by_task.values())),
        "errors": len(results) - len(scored),
        "error_kinds": dict(Counter(result.error_kind or "crash" for result in results if result.status == "error")),
        "mean_steps": _mean([result.steps for result in scored]),
        "mean_steps_success": _mean([result.steps for result in solved]),
        "mean_wall_s": _mean([result.wall_s for result in scored]),
        "latency_s": _mean([result.latency_s for result in scored if not math.isnan(result.latency_s)]),
        "wall_s": sum(result.wall_s for result in results),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Comparison:
    """Two sets of results over the same rows.

    Attributes:
        n: rows counted.
        both: rows in which both succeeded; ``only_first``, ``only_second`` and ``neither`` likewise.
        left_out: rows not counted: an error on a side, or (if allowed) not run on a side.
        difference: first rate minus second.
        low: of the difference's 95 % interval (Newcombe, paired).
        high: likewise.
        p_value: exact McNemar, two-sided.
    """

    n: int
    both: int
    only_first: int
    only_second: int
    neither: int
    left_out: int
    difference: float
    low: float
    high: float
    p_value: float

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON value."""
        return asdict(self)


def compare(first: Sequence[Result], second: Sequence[Result], *, allow_missing: bool = False) -> Comparison:
    """Compare two policies row by row.

    Rows that ended in an error on either side are left out and counted as such.

    Args:
        first: e.g. of the new policy.
        second: e.g. of the old one.
        allow_missing: compare the rows that are in both, instead of refusing when some are not.

    Raises:
        ConfigError: a row is only on one side, is there twice, or no row is left to compare.
    """
    ours, theirs = by_row(first), by_row(second)
    apart = sorted(ours.keys() ^ theirs.keys())
    if apart and not allow_missing:
        shown = ", ".join(f"{row.task} init {row.init} seed {row.seed}" for row in apart[:3])
        raise ConfigError(f"{len(apart)} rows are on one side only ({shown}...): run both on the same rows")
    pairs = [(ours[row], theirs[row]) for row in ours if row in theirs]
    pairs = [pair for pair in pairs if all(result.status != "error" for result in pair)]
    if not pairs:
        raise ConfigError("there is no row that both sides finished without an error")
    both = sum(a.success and b.success for a, b in pairs)
    only_first = sum(a.success and not b.success for a, b in pairs)
    only_second = sum(b.success and not a.success for a, b in pairs)
    neither = len(pairs) - both - only_first - only_second
    difference, low, high = paired_difference(both, only_first, only_second, neither)
    return Comparison(
        n=len(pairs),
        both=both,
        only_first=only_first,
        only_second=only_second,
        neither=neither,
        left_out=len(ours.keys() | theirs.keys()) - len(pairs),
        difference=difference,
        low=low,
        high=high,
        p_value=mcnemar_exact(only_first, only_second),
    )
