"""One evaluation on several machines without a scheduler: each runs a part of the rows, and the parts are joined.

::

    rows ─▶ Shard(1, 3).part(rows) ─▶ run ─▶ folder ─┐
         ─▶ Shard(2, 3).part(rows) ─▶ run ─▶ folder ─┼─ merge ─▶ the folder that one machine would have written
         ─▶ Shard(3, 3).part(rows) ─▶ run ─▶ folder ─┘
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vla.errors import ConfigError, DataError
from vla.files import write_text
from vla.ledger import differences, read_ledger, write_ledger
from vla.recordings import RANK, read_recordings
from vla.results import Result, write_results
from vla.rows import Row, row_from_json

_SHOWN = 20
_POLICY = ("embodiment", "checkpoint")


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``of``, counted from 1: a block of consecutive rows, so that few tasks are compiled twice."""

    number: int
    of: int

    def __post_init__(self):
        if not 1 <= self.number <= self.of:
            raise ConfigError(f"shard {self.number}/{self.of}: expected i/n with i from 1 to n")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From ``"2/8"``.

        Raises:
            ConfigError: it is not two whole numbers, or the first is not from 1 to the second.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal()):
            raise ConfigError(f"shard {text!r}: expected i/n, e.g. 2/8")
        return cls(int(number), int(of))

    def part(self, rows: Sequence[Row]) -> list[Row]:
        """Its rows: all parts together have each row once, and differ by at most one row in size.

        Raises:
            ConfigError: there are fewer rows than parts.
        """
        if len(rows) < self.of:
            raise ConfigError(f"shard {self.number}/{self.of}: {len(rows)} rows cannot be divided into {self.of}")
        return list(rows[len(rows) * (self.number - 1) // self.of : len(rows) * self.number // self.of])

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON value."""
        return asdict(self)


@dataclass(frozen=True)
class Joined:
    """Parts that fit together, of which nothing is written yet.

    Attributes:
        folders: of the parts.
        out: folder of the whole run.
        protocol: of the whole run.
        results: in the order of its rows.
    """

    folders: tuple[Path, ...]
    out: Path
    protocol: dict[str, Any]
    results: tuple[Result, ...]

    def write(self) -> list[Result]:
        """Write results, protocol and films; returns the results."""
        self.out.mkdir(parents=True, exist_ok=True)
        _copy_recordings(self.folders, self.out)
        write_results(self.out / "results.parquet", self.results)
        write_ledger(self.out, self.protocol, self.results)
        return list(self.results)


def join(folders: Sequence[Path], out: Path, *, allow_missing: bool = False) -> Joined:
    """See that runs are parts of one evaluation, and put their results together.

    Args:
        folders: that :func:`vla.evaluate.run_rows` wrote; a run that was stopped counts with what it finished.
        out: folder of the joined run; it is one like any other, and can be resumed.
        allow_missing: join what is there, although rows of the evaluation have no result yet.

    Raises:
        ConfigError: protocol, checkpoint, embodiment or versions differ (each is named), a row has two results, rows
            are missing, or ``out`` already holds a run.
        DataError: a file is missing or damaged.
    """
    if not folders:
        raise ConfigError("there is nothing to merge")
    if (out / "protocol.json").exists():
        raise ConfigError(f"{out} already holds a run; choose another folder or remove it")
    read = [read_ledger(folder) for folder in folders]
    protocols = [_without_shard(folder, protocol) for folder, (protocol, _) in zip(folders, read, strict=True)]
    _refuse_differences(folders, protocols, [results for _, results in read])
    rows = protocols[0]["rows"]
    found: dict[Row, Result] = {}
    twice: list[Row] = []
    for _, results in read:
        twice += [result.row for result in results if result.row in found]
        found |= {result.row: result for result in results}
    if twice:
        raise ConfigError(f"{len(twice)} rows have results in more than one folder:\n{_listing(twice)}")
    order = [row_from_json(row) for row in rows]
    missing = [row for row in order if row not in found]
    if missing and not allow_missing:
        raise ConfigError(f"{len(missing)} of {len(order)} rows have no result yet:\n{_listing(missing)}")
    said = next((protocol for protocol in protocols if protocol["embodiment"] is not None), protocols[0])
    return Joined(tuple(folders), out, said, tuple(found[row] for row in order if row in found))


def _without_shard(folder: Path, protocol: dict[str, Any]) -> dict[str, Any]:
    """As if it had been run in one go: with all rows."""
    whole = dict(protocol)
    shard = whole.pop("shard", None)
    if shard is not None:
        whole["rows"] = shard["rows"]
    if not isinstance(whole.get("rows"), list):
        raise DataError(folder / "protocol.json", "rows", expected="a list", found=repr(whole.get("rows"))[:80])
    return whole


def _refuse_differences(
    folders: Sequence[Path], protocols: Sequence[dict[str, Any]], results: Sequence[Sequence[Result]]
) -> None:
    """Every setting, fingerprint and version has to be the same."""
    settings = [{key: protocol[key] for key in protocol if key not in _POLICY} for protocol in protocols]
    if all(protocol["checkpoint"] for protocol in protocols):  # told apart by its bytes: each machine has its own path
        settings = [_without_path(setting) for setting in settings]
    policies = [{key: protocol[key] for key in _POLICY} for protocol in protocols]
    policies = [{} if policy["embodiment"] is None else policy for policy in policies]  # no row yet: it did not say
    versions = [
        {f"version of {package}": version for package, version in _versions(folder, part).items()}
        for folder, part in zip(folders, results, strict=True)
    ]
    lines: list[str] = []
    for told in (settings, policies, versions):
        places = [place for place, value in enumerate(told) if value]
        for place in places[1:]:
            lines += [f"{folders[place]}: {line}" for line in differences(told[places[0]], told[place])]
    if lines:
        listing = "\n".join(f"  - {line}" for line in lines)
        raise ConfigError(f"these runs are not parts of one evaluation ('there' is {folders[0]}):\n{listing}")


def _without_path(settings: dict[str, Any]) -> dict[str, Any]:
    policy = settings.get("policy")
    if not isinstance(policy, dict):
        return settings
    return settings | {"policy": {key: value for key, value in policy.items() if key != "checkpoint"}}


def _versions(folder: Path, results: Sequence[Result]) -> dict[str, str]:
    """Of a part's results; a process that died did not say any."""
    kinds = Counter(json.dumps(result.versions, sort_keys=True) for result in results if result.versions)
    if len(kinds) > 1:
        first, second = (json.loads(kind) for kind in list(kinds)[:2])
        listing = "\n".join(f"  - version of {line}" for line in differences(first, second))
        raise ConfigError(f"{folder} was itself made with different versions:\n{listing}")
    return json.loads(next(iter(kinds))) if kinds else {}


def _listing(rows: Sequence[Row]) -> str:
    lines = [f"  - {row.suite}/{row.task} init {row.init} seed {row.seed}" for row in rows[:_SHOWN]]
    return "\n".join([*lines, *([f"  - and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else [])])


def _copy_recordings(folders: Sequence[Path], out: Path) -> None:
    """Films and Rerun recordings of all parts, failures first."""
    entries: list[dict[str, Any]] = []
    for folder in folders:
        for entry in read_recordings(folder):
            for kind in ("video", "rrd"):
                if entry.get(kind) and (folder / entry[kind]).exists():
                    (out / entry[kind]).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(folder / entry[kind], out / entry[kind])
            entries.append(entry)
    if entries:
        entries.sort(key=lambda entry: RANK.get(entry["measured"], len(RANK)))
        write_text(out / "recordings.json", json.dumps(entries, indent=1) + "\n")
