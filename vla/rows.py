"""What an evaluation is made of: rows, fixed before the run, each naming one scene down to the seed."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError
from vla.protocols import Body, Task

EVALUATION_SEEDS = 1_000_000
"""Rows of evaluations have seeds below this, demonstrations from there on: no sampled scene is in both."""


@dataclass(frozen=True, order=True)
class Row:
    """One episode to run.

    Attributes:
        suite: e.g. ``"libero_spatial"``.
        task: name of the task in the suite.
        init: number of the benchmark's own initial state; -1 to sample the objects' places anew.
        seed: decides whatever the initial state does not: fixture poses, sampled places, the policy's noise.
        widen: factor by which the regions are widened that places are sampled from; only with ``init`` -1.
    """

    suite: str
    task: str
    init: int
    seed: int
    widen: float = 1.0

    def __post_init__(self):
        if self.init < -1:
            raise ConfigError(f"initial state {self.init}: expected a number from 0, or -1 for a sampled one")
        if self.widen <= 0 or (self.widen != 1.0 and self.init != -1):
            raise ConfigError("regions can be widened, by a factor above 0, only for sampled places (init -1)")

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON value."""
        return asdict(self)


def row_from_json(value: Any) -> Row:
    """The row that :meth:`Row.to_json` wrote.

    Raises:
        ConfigError: a field is missing, unknown, of another kind or out of range.
    """
    kinds = {"suite": str, "task": str, "init": int, "seed": int, "widen": (int, float)}
    if not isinstance(value, dict) or not {"suite", "task", "init", "seed"} <= value.keys() <= kinds.keys():
        found = sorted(value) if isinstance(value, dict) else value
        raise ConfigError(f"a row has suite, task, init, seed and perhaps widen, found {found!r}")
    for key, item in value.items():
        if not isinstance(item, kinds[key]) or isinstance(item, bool) or (key == "seed" and item < 0):
            raise ConfigError(f"a row's {key} cannot be {item!r}")
    return Row(**value)


def read_rows(path: Path) -> list[Row]:
    """Rows from a JSON file (a list of them, or an object with ``rows``, such as a run's ``protocol.json``) or Parquet.

    Of a Parquet file only the columns of a row are read, so that ``results.parquet`` of a run names its rows.

    Raises:
        DataError: the file is missing or damaged, or a row in it is not one or is there twice.
    """
    values = _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    rows: list[Row] = []
    for number, value in enumerate(values):
        try:
            rows.append(row_from_json(value))
        except ConfigError as error:
            raise DataError(path, f"row {number}", expected="a row", found=str(error)) from error
    if not rows:
        raise DataError(path, "rows", expected="at least one", found="none")
    twice = next((row for row, count in Counter(rows).items() if count > 1), None)
    if twice:
        raise DataError(path, "rows", expected="each row once", found=f"{twice} again")
    return rows


def _json_rows(path: Path) -> list[Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(path, "file", expected="JSON with rows", found=str(error)) from error
    value = value.get("rows") if isinstance(value, dict) else value
    if not isinstance(value, list):
        raise DataError(path, "rows", expected="a list", found=type(value).__name__)
    return value


def _parquet_rows(path: Path) -> list[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        known = pyarrow.parquet.read_schema(path).names
        columns = [item.name for item in fields(Row) if item.name in known]
        return pyarrow.parquet.read_table(path, columns=columns).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(path, "file", expected="a Parquet file with rows", found=str(error)) from error


@runtime_checkable
class Benchmark(Protocol):
    """Scenes by row. Opening a row twice gives the same scene, whatever was opened in between."""

    def tasks(self, suite: str) -> Sequence[str]:
        """Names of a suite's tasks in the benchmark's order.

        Raises:
            UnknownName: there is no such suite.
        """
        ...

    def open(self, row: Row) -> tuple[Body, Task]:
        """The body and the task of a row; ``Task.reset`` sets its scene.

        A benchmark may hand out the same body again for the next row: only the last pair opened is usable.

        Raises:
            UnknownName: there is no such suite or task.
        """
        ...

    def close(self) -> None:
        """Give back simulators and graphics contexts."""
        ...


@runtime_checkable
class Simulator(Benchmark, Protocol):
    """A benchmark that can be chosen by its name (``sim/``): it says what it holds before a row is opened."""

    @property
    def spec(self) -> EmbodimentSpec:
        """Of every body it opens."""
        ...

    def suites(self) -> Sequence[str]:
        """Names of its suites."""
        ...
