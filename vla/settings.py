"""Settings as JSON and back: what a run's ``protocol.json`` says of its benchmark and policy, and those two again."""

import dataclasses
import importlib
import types
import typing
from pathlib import Path
from typing import Any

from vla.errors import ConfigError

TRUSTED = ("vla.sim.", "vla.policies.", "vla.commands.", "vla.embodiment.")
"""Modules whose dataclasses may be made from a file; nothing else is ever imported or called."""


def plain(value: Any) -> Any:
    """Settings as a JSON value: dataclasses with their type's name, anything unknown as its repr."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
        return {"type": f"{type(value).__module__}.{type(value).__qualname__}", **named}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value) if isinstance(value, Path) else repr(value)


def restore(value: Any) -> Any:
    """The dataclass that :func:`plain` made this value of.

    Raises:
        ConfigError: it is of a module that is not trusted, or its fields are not those of this version.
    """
    if isinstance(value, list):
        return tuple(restore(item) for item in value)
    if not isinstance(value, dict) or "type" not in value:
        return value
    name = str(value["type"])
    module, _, kind = name.rpartition(".")
    if not f"{module}.".startswith(TRUSTED):
        raise ConfigError(f"settings of type {name!r} cannot be made again: only those of {', '.join(TRUSTED)} can")
    try:
        made = getattr(importlib.import_module(module), kind)
        hints = typing.get_type_hints(made)
        fields = {key: _typed(hints.get(key), restore(item)) for key, item in value.items() if key != "type"}
        return made(**fields)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"settings of type {name!r} do not fit this version: {error}") from error


def _typed(hint: Any, value: Any) -> Any:
    """JSON has no paths."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return Path(value) if isinstance(value, str) and Path in options else value
