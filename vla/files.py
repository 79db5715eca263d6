"""Files that are whole or not there: written under a temporary name, then renamed; and arrays read from a file."""

import os
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vla.errors import ConfigError

_DAMAGED = (
    *(EOFError, KeyError, zipfile.BadZipFile, zlib.error, struct.error),
    *(SyntaxError, tokenize.TokenError),  # of an array's header
    RuntimeError,  # a bit that turned over asks for a password or an unknown compression
    TypeError,  # one bare array: nothing that could be closed
)


def cache_folder() -> Path:
    """Where indexes, statistics and simplified meshes are kept: ``$XDG_CACHE_HOME/vla``, else ``~/.cache/vla``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends well, else is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its name when the block ends well, else is removed.

    Raises:
        ConfigError: ``path`` is there already.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already; choose another name or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an NPZ file by name; nothing in it is unpickled.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged or no NPZ file, for which zip, zlib and NumPy have errors of their own.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        raise ValueError(f"not a sound NPZ file: {error}") from error
