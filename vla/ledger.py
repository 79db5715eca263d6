"""A run on disk while it is under way: its protocol, and one line a finished row.

The protocol is written before the first row and never changes; results made under another one are not added to it.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vla.errors import ConfigError, DataError
from vla.files import write_text
from vla.results import Result
from vla.rows import Row


class Ledger:
    """Results of one run so far; open one with :func:`open_ledger`.

    Attributes:
        finished: by row, as read from the file and appended since.
        protocol: what is measured, ``embodiment`` and ``checkpoint`` (None until a policy has said them) included.
    """

    def __init__(self, folder: Path, file: BinaryIO, finished: dict[Row, Result], protocol: dict[str, Any]):
        self._folder, self._file = folder, file
        self.finished, self.protocol = finished, protocol

    def append(self, result: Result) -> None:
        """Write one result so that a crash right after cannot lose it.

        Raises:
            ConfigError: it was made by another policy than the protocol says.
            OSError: it cannot be written, e.g. the disk is full.
        """
        if result.embodiment:  # a process that died did not say
            self.check_policy(result.embodiment, result.checkpoint)
        self._file.write(json.dumps(result.to_json()).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())  # a power cut counts as a crash
        self.finished[result.row] = result

    def check_policy(self, embodiment: str, checkpoint: str) -> None:
        """Note which policy this is, or see that it is the one that was noted.

        Raises:
            ConfigError: it is another one.
        """
        found = {"embodiment": embodiment, "checkpoint": checkpoint}
        if self.protocol["embodiment"] is None:
            self.protocol.update(found)
            _write(self._folder, self.protocol)
            return
        _refuse(self._folder, differences({key: self.protocol[key] for key in found}, found))


@contextmanager
def open_ledger(folder: Path, rows: Sequence[Row], settings: dict[str, Any]) -> Iterator[Ledger]:
    """The run in ``folder``, begun or resumed; locked until the block ends.

    Args:
        folder: made if need be.
        rows: all rows of the run.
        settings: everything else that decides the results, JSON values.

    Raises:
        ConfigError: the folder has a run with other rows or settings, or is in use.
        DataError: a file in it is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"embodiment": None, "checkpoint": None, **settings, "rows": [row.to_json() for row in rows]}
    path = folder / "rows.jsonl"
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{folder} is being written to by another process") from error
        finished = _read(path, file)
        protocol = _protocol(folder, wanted, started=bool(finished))
        yield Ledger(folder, file, finished, protocol)


def _protocol(folder: Path, wanted: dict[str, Any], *, started: bool) -> dict[str, Any]:
    path = folder / "protocol.json"
    if not path.exists():
        if started:
            raise DataError(path, "file", expected="the protocol of the rows beside it", found="no such file")
        _write(folder, wanted)
        return wanted
    stored = _parsed(path)
    known_later = {key: stored[key] for key in ("embodiment", "checkpoint")}
    _refuse(folder, differences(stored, wanted | known_later))
    return stored


def read_ledger(folder: Path) -> tuple[dict[str, Any], list[Result]]:
    """Protocol and finished rows of a run, also of one that was stopped; nothing is changed.

    Raises:
        DataError: a file is missing or damaged.
    """
    path, lines = folder / "protocol.json", folder / "rows.jsonl"
    try:
        protocol = _parsed(path)
        content = lines.read_bytes()
    except FileNotFoundError as error:
        raise DataError(str(error.filename), "file", expected="a file of a run", found="no such file") from error
    return protocol, list(_results(lines, content[: content.rfind(b"\n") + 1]).values())


def write_ledger(folder: Path, protocol: dict[str, Any], results: Sequence[Result]) -> None:
    """A run as :func:`open_ledger` would have left it; an older one in the folder is replaced."""
    lines = "".join(json.dumps(result.to_json()) + "\n" for result in results)
    write_text(folder / "rows.jsonl", lines)
    _write(folder, protocol)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(path, "file", expected="JSON", found=str(error)) from error
    if not isinstance(stored, dict) or not {"embodiment", "checkpoint"} <= stored.keys():
        raise DataError(path, "file", expected="a protocol", found="other JSON")
    return stored


def _write(folder: Path, protocol: dict[str, Any]) -> None:
    write_text(folder / "protocol.json", json.dumps(protocol, indent=1) + "\n")


def _refuse(folder: Path, found: list[str]) -> None:
    if found:
        listing = "\n".join(f"  - {line}" for line in found)
        raise ConfigError(
            f"{folder} holds a run under another protocol; choose another folder or remove it:\n{listing}"
        )


def differences(stored: Any, wanted: Any, name: str = "") -> list[str]:
    """One line for each setting that differs; of rows only how many."""
    if name.endswith("rows") and isinstance(stored, list) and isinstance(wanted, list):
        if stored == wanted:
            return []
        common = sum(row in wanted for row in stored)
        return [f"{name}: {len(stored)} there, {len(wanted)} now, {common} in both"]
    if isinstance(stored, dict) and isinstance(wanted, dict):
        prefix = f"{name}." if name else ""
        keys = list(dict.fromkeys([*stored, *wanted]))
        return [line for key in keys for line in differences(stored.get(key), wanted.get(key), f"{prefix}{key}")]
    return [] if stored == wanted else [f"{name}: {stored!r} there, {wanted!r} now"]


def _read(path: Path, file: BinaryIO) -> dict[Row, Result]:
    """Finished rows; a last line that a crash tore is cut off. Of two results of a row the later one counts."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return _results(path, content[:whole])


def _results(path: Path, content: bytes) -> dict[Row, Result]:
    finished: dict[Row, Result] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            result = Result.from_json(json.loads(line))
        except (ValueError, TypeError, ConfigError) as error:
            raise DataError(path, f"line {number}", expected="a result", found=str(error)) from error
        finished[result.row] = result
    return finished
