"""Settings given on the command line as ``NAME=VALUE``, for a ``Config`` that is known by its file's name only."""

import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vla.errors import ConfigError, UnknownName


def parse_settings(texts: Sequence[str], option: str) -> tuple[tuple[str, Any], ...]:
    """Names and values; a value that is no JSON is a text.

    Raises:
        ConfigError: one of them is not ``NAME=VALUE``.
    """
    return tuple(_parse(text, option) for text in texts)


def field_types(config: type, owner: str, names: Iterable[str]) -> dict[str, Any]:
    """Names and types of a ``Config``'s fields, among which are these names.

    Raises:
        UnknownName: one of them is not.
    """
    hints = typing.get_type_hints(config)
    known = [field.name for field in fields(config)]
    for name in names:
        if name not in known:
            raise UnknownName(f"setting of {owner}", name, known)
    return {name: hints[name] for name in known}


def make_config(config: type, owner: str, values: Mapping[str, Any], option: str) -> Any:
    """The ``Config`` with these fields.

    Raises:
        ConfigError: a field is missing, or a value is of another kind than its field.
    """
    hints = field_types(config, owner, values)
    values = {name: _typed(hints[name], value) for name, value in values.items()}
    for name, value in values.items():
        if not _is(value, hints[name]):
            kind = getattr(hints[name], "__name__", hints[name])
            raise ConfigError(f"{owner}: {name} is of type {kind}, found {value!r}")
    try:
        return config(**values)
    except TypeError as error:
        raise ConfigError(f"{owner}: {error}; give it with {option} NAME=VALUE") from error


def _typed(hint: Any, value: Any) -> Any:
    """A text as a path, where one is wanted."""
    return Path(value) if isinstance(value, str) and Path in _kinds(hint) else value


def _is(value: Any, hint: Any) -> bool:
    """Whether a value is a path or of a type that JSON has; of other types the ``Config`` itself has to see to it."""
    kinds = _kinds(hint)
    if not set(kinds) <= {bool, int, float, str, Path, type(None)}:
        return True
    return (
        type(value) in kinds or (type(value) is int and float in kinds) or (isinstance(value, Path) and Path in kinds)
    )


def _kinds(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _parse(text: str, option: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{option} {text!r}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
