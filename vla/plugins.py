"""Plug-ins by file name: a module with a ``Config`` in one of these folders is one, and nothing registers it."""

import dataclasses
import functools
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from vla.errors import ConfigError, DataError, UnknownName
from vla.protocols import EpisodeSource, Progress

Folder = Literal["datasets", "sim", "policies", "robot_driver", "robot_driver/teleop"]

_LISTED = 6  # names in a folder that are told
_CONFIG = re.compile(r"^class Config\b", re.MULTILINE)


@functools.cache
def plugin_names(folder: Folder) -> tuple[str, ...]:
    """Names of a folder's plug-ins, found without importing them."""
    files = sorted((Path(__file__).parent / folder).glob("*.py"))
    return tuple(file.stem for file in files if _CONFIG.search(file.read_text()))


def plugin(folder: Folder, name: str) -> ModuleType:
    """The plug-in of that name.

    Raises:
        UnknownName: there is none.
    """
    names = plugin_names(folder)
    if name not in names:
        raise UnknownName(f"plug-in of {folder}", name, names)
    return importlib.import_module(f"vla.{folder.replace('/', '.')}.{name}")


def plugins(folder: Folder) -> dict[str, ModuleType]:
    """All plug-ins of a folder by name, imported."""
    return {name: plugin(folder, name) for name in plugin_names(folder)}


def open_source(
    path: str | Path,
    *,
    split: str = "train",
    fixes: bool = True,
    tolerate: Sequence[str] = (),
    progress: Progress | None = None,
    **options: Any,
) -> EpisodeSource:
    """The episodes at a path or URL, by the first data set format that recognises it.

    Args:
        path: a data set's folder or file, or an fsspec URL (``gs://``, ``s3://``, ``hf://``...).
        split: part of the data set, for formats that have several.
        fixes: mend what is known to be wrong, for formats that know anything; off shows the data as stored.
        tolerate: kinds of quirks to read around (:mod:`vla.quirks`), or ``"all"``.
        progress: told how much of a long pass over the data is done and how much there is, by formats that need one.
        options: further fields of the format's ``Config``.

    Raises:
        DataError: no format recognises the path, or the data are damaged.
        QuirksFound: something is wrong that can be read around, and it is not tolerated.
        ConfigError: the format has no such option, or no splits.
    """
    path = str(path)  # Path would take one slash out of a URL
    layouts = []
    for name, module in plugins("datasets").items():
        layouts.append(getattr(module, "LAYOUT", name))
        if not module.accepts(path):
            continue
        known = {field.name for field in dataclasses.fields(module.Config)}
        if unknown := sorted(set(options) - known):
            choices = ", ".join(sorted(known - {"path"}))
            raise ConfigError(f"{path} is {layouts[-1]}: no option {', '.join(unknown)}; there are {choices}")
        if "split" in known:
            options["split"] = split
        elif split != "train":
            raise ConfigError(f"{path} is {layouts[-1]}, which has no splits: {split!r} cannot be chosen")
        if "fixes" in known:
            options["fixes"] = fixes
        if "tolerate" in known:
            options["tolerate"] = tuple(tolerate)
        if "progress" in known:
            options["progress"] = progress
        return module.Config(path=path, **options).make()
    raise DataError(path, "data set", expected=" or ".join(layouts), found=_listing(path))


def _listing(place: str) -> str:
    if "://" in place:
        return "something else, or nothing"
    path = Path(place)
    if not path.exists():
        of_the_hub = not path.is_absolute() and len(path.parts) == 2 and ".." not in path.parts
        return f"nothing there; a data set of the Hub is hf://datasets/{place}" if of_the_hub else "nothing there"
    if path.is_file():
        return "a file"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
    for name in names[:_LISTED]:
        if name.endswith("/") and any(module.accepts(str(path / name)) for module in plugins("datasets").values()):
            return f"a folder that holds one: {path / name}"
    return f"a folder with {', '.join(names[:_LISTED]) or 'nothing'}" + (", ..." if len(names) > _LISTED else "")
