"""A recorded simulator model, XML, with its meshes and textures found in the packages installed here.

Demonstrations carry the model that they were made with, and in it paths of the machine where that was. Only the part of
a path that is inside robosuite's or LIBERO's own assets is kept: nothing that a file names elsewhere is ever opened.
"""

import importlib.util
import os
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path, PurePosixPath

from vla.errors import DataError
from vla.sim import libero_suites

_WITH_FILES = ("mesh", "texture", "hfield", "skin")
_MAX_CHARACTERS = 64 << 20


def with_installed_assets(xml: str, source: str) -> str:
    """The model with its files' paths where they are here.

    Args:
        xml: as the demonstration carries it.
        source: of the demonstration, for errors.

    Raises:
        DataError: it is no model, or a mesh or texture is not in the installed packages; all of those are named.
    """
    root, missing = _resolved(xml, source)
    if missing:
        expected = "meshes and textures of the installed robosuite and LIBERO"
        raise DataError(source, "model_file", expected=expected, found=f"others: {listed(missing)}")
    return ElementTree.tostring(root, encoding="unicode")


def missing_assets(xml: str, source: str) -> tuple[str, ...]:
    """Meshes and textures of a model that the installed packages lack, as the model names them.

    Raises:
        DataError: it is no model.
    """
    return _resolved(xml, source)[1]


def listed(missing: tuple[str, ...], most: int = 5) -> str:
    """Some of them, and how many there are besides."""
    more = f" and {len(missing) - most} more" if len(missing) > most else ""
    return ", ".join(missing[:most]) + more


def installed(path: str) -> Path | None:
    """Where a recorded asset lies here; None if it is neither robosuite's nor LIBERO's, or is not installed."""
    parts = PurePosixPath(os.path.normpath(path.replace("\\", "/"))).parts
    if "assets" not in parts:
        return None
    place = len(parts) - 1 - parts[::-1].index("assets")
    owner = next((part for part in reversed(parts[:place]) if part.lower().startswith(("robosuite", "libero"))), "")
    if not owner:
        return None
    folder = _robosuite_assets() if owner.lower().startswith("robosuite") else _libero_assets()
    found = folder.joinpath(*parts[place + 1 :])
    return found if found.is_file() else None


def _resolved(xml: str, source: str) -> tuple[ElementTree.Element, tuple[str, ...]]:
    """The model with the paths that are known here, and those that are not."""
    if len(xml) > _MAX_CHARACTERS or "<!" in xml.replace("<!--", ""):
        found = "a document type or entities" if len(xml) <= _MAX_CHARACTERS else f"{len(xml)} characters"
        raise DataError(source, "model_file", expected="a plain MuJoCo model", found=found)
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise DataError(source, "model_file", expected="XML of a MuJoCo model", found=str(error)) from error
    for element in root.iter():
        if element.tag not in _WITH_FILES and ("file" in element.attrib or element.tag == "include"):
            raise DataError(source, "model_file", expected="no other files", found=f"<{element.tag}> that names one")
    missing: set[str] = set()
    for element in root.iter():
        for name in [key for key in element.attrib if key.startswith("file")]:
            path = installed(element.attrib[name])
            if path is None:
                missing.add(element.attrib[name])
            else:
                element.set(name, str(path))
    for compiler in root.iter("compiler"):  # paths are absolute now
        for name in ("meshdir", "texturedir", "assetdir"):
            compiler.attrib.pop(name, None)
    return root, tuple(sorted(missing))


@cache
def _robosuite_assets() -> Path:
    libero_suites.import_libero()
    package = importlib.util.find_spec("robosuite")
    assert package is not None and package.submodule_search_locations  # import_libero imported it
    return Path(package.submodule_search_locations[0]) / "models" / "assets"


@cache
def _libero_assets() -> Path:
    libero_suites.import_libero()
    from libero.libero import get_libero_path

    return Path(get_libero_path("assets"))
