"""Errors are types; every message says what was expected and what was found.

::

    VlaError                 anything this project raises on purpose; the command line answers with exit code 2
    ├── SpecMismatch         a policy and a body (or data) whose embodiments do not fit
    ├── DataError            a file or a field that is not what its format says
    ├── UnknownName          a name that is not among the known ones; lists the closest
    ├── StatisticsMissing    normalisation asked for a channel nobody measured
    ├── ConfigError          a setting out of its range, or two that exclude each other
    ├── DependencyMissing    a library or a system package that is not installed
    ├── ChecksFailed         the work was done and its answer is no; the command line answers with exit code 1
    ├── PolicyFault          a policy that returned something no arm may be sent
    └── BodyFault            an arm, a simulator or an operator's device that stopped answering, or a safety stop
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class VlaError(Exception):
    """Base of all errors raised on purpose; carries a message fit for a user."""


class SpecMismatch(VlaError):
    """Two embodiments do not fit.

    Args:
        differences: one line for each differing channel, camera or field.
        have: name of the side that provides, e.g. the body.
        want: name of the side that requires, e.g. the policy.
    """

    def __init__(self, differences: Iterable[str], *, have: str, want: str):
        self.differences, self.have, self.want = tuple(differences), have, want
        listing = "\n".join(f"  - {line}" for line in self.differences)
        super().__init__(f"{want} does not fit {have}:\n{listing}")

    def __reduce__(self):
        return _rebuild_spec_mismatch, (self.differences, self.have, self.want)


def _rebuild_spec_mismatch(differences: tuple[str, ...], have: str, want: str) -> SpecMismatch:
    return SpecMismatch(differences, have=have, want=want)


class DataError(VlaError):
    """A file, or a field in it, is not what its format says.

    Args:
        file: path or URL.
        field: name of the field, record or offset within the file.
        expected: what the format asks for.
        found: what is there.
    """

    def __init__(self, file: str | Path, field: str, *, expected: str, found: str):
        self.file, self.field, self.expected, self.found = str(file), field, expected, found
        super().__init__(f"{file}: {field}: expected {expected}, found {found}")

    def __reduce__(self):
        return _rebuild_data_error, (self.file, self.field, self.expected, self.found)


def _rebuild_data_error(file: str, field: str, expected: str, found: str) -> DataError:
    return DataError(file, field, expected=expected, found=found)


class UnknownName(VlaError):
    """A name is not among the known ones; the message gives the closest.

    Args:
        kind: what is named, e.g. "task".
        name: the unknown name.
        known: all valid names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        self.kind, self.name, self.known = kind, name, tuple(known)
        close = difflib.get_close_matches(name, self.known, n=3, cutoff=0.5)
        shown = close or sorted(self.known)[:8]
        hint = "closest" if close else "known"
        super().__init__(f"unknown {kind} {name!r}; {hint}: {', '.join(shown) or '(none)'}")

    def __reduce__(self):
        return UnknownName, (self.kind, self.name, self.known)


class StatisticsMissing(VlaError):
    """Normalisation asked for a channel that has no statistics."""


class ConfigError(VlaError):
    """A setting is out of its range, or two settings exclude each other."""


class DependencyMissing(VlaError):
    """A library or a system package is not installed; the message names the command that installs it."""


class ChecksFailed(VlaError):
    """A command did its work and found what was examined to be wrong: exit code 1, its result is still printed.

    Args:
        message: what is wrong, for people.
        summary: what the command would have returned, a JSON value.
    """

    def __init__(self, message: str, summary: dict[str, Any]):
        self.message, self.summary = message, summary
        super().__init__(message)

    def __reduce__(self):
        return ChecksFailed, (self.message, self.summary)


class PolicyFault(VlaError):
    """A policy returned something that no arm may be sent (NaN, wrong shape, an old chunk)."""


class BodyFault(VlaError):
    """An arm or a simulator stopped answering, or was stopped for safety."""
