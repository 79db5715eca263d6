"""Files on this machine or behind a URL that fsspec knows (``gs://``, ``s3://``, ``hf://``...).

A place is a path or a URL, as text. Local files are read with ``pread`` on descriptors that stay open, which is what
makes random access cheap; everything else goes through fsspec, a ranged request for each read.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from vla.datasets.network import network_errors
from vla.errors import DataError, DependencyMissing

_CLOUD = ("gs://", "gcs://", "s3://", "s3a://")
_OPEN = 64  # descriptors kept open in each process


def is_url(place: str | Path) -> bool:
    """Whether fsspec is asked instead of the operating system."""
    return "://" in str(place)


def absolute(place: str | Path) -> str:
    """The place without ``..``, links or a slash at the end."""
    return str(place).rstrip("/") if is_url(place) else str(Path(place).resolve())


def join(folder: str | Path, name: str) -> str:
    """A file in a folder."""
    return f"{str(folder).rstrip('/')}/{name}" if is_url(folder) else str(Path(folder) / name)


def is_file(place: str | Path) -> bool:
    """Whether there is a file.

    Raises:
        DependencyMissing: the library for that kind of URL is not installed.
    """
    if is_url(place):
        system, path = file_system(str(place))
        return bool(system.isfile(path))
    return Path(place).is_file()


def names(folder: str | Path) -> list[str]:
    """Names in a folder, sorted; empty if it is not one.

    Raises:
        DependencyMissing: the library for that kind of URL is not installed.
    """
    if is_url(folder):
        system, path = file_system(str(folder))
        if not system.isdir(path):
            return []
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in system.ls(path, detail=False))
    return sorted(os.listdir(folder)) if Path(folder).is_dir() else []


def read(place: str | Path) -> bytes:
    """A whole, small file.

    Raises:
        DataError: it cannot be read.
        DependencyMissing: the library for that kind of URL is not installed.
    """
    try:
        if is_url(place):
            system, path = file_system(str(place))
            return system.cat_file(path)
        return Path(place).read_bytes()
    except network_errors() as error:
        raise DataError(place, "file", expected="a readable file", found=_reason(error)) from error


@dataclass(frozen=True)
class Stored:
    """A file as it was at one moment.

    Attributes:
        place: path or URL.
        size: [bytes].
        token: changes with the content: time of the last change of a local file, fsspec's own of a remote one.
    """

    place: str
    size: int
    token: str


def stored(place: str) -> Stored | None:
    """The file as it is now; None if it is not there.

    Raises:
        DataError: it cannot be looked at.
        DependencyMissing: the library for that kind of URL is not installed.
    """
    try:
        if not is_url(place):
            status = os.stat(place)
            return Stored(place, status.st_size, str(status.st_mtime_ns))
        system, path = file_system(place)
        return Stored(place, int(system.info(path)["size"]), str(system.ukey(path)))
    except FileNotFoundError:
        return None
    except (*network_errors(), KeyError, TypeError) as error:
        raise DataError(place, "file", expected="a readable file", found=str(error)) from error


def stored_in(folder: str, names: Sequence[str]) -> list[Stored | None]:
    """Files of a folder as they are now; None for one that is not there.

    Raises:
        DataError: one cannot be looked at.
        DependencyMissing: the library for that kind of URL is not installed.
    """
    if is_url(folder):
        system, path = file_system(folder)
        try:
            system.invalidate_cache(path)
            system.ls(path)  # one request, from which file systems that keep listings answer the following questions
        except network_errors() as error:
            raise DataError(folder, "folder", expected="one that can be listed", found=str(error)) from error
    return [stored(join(folder, name)) for name in names]


def open_stream(place: str) -> BinaryIO:
    """The file from its start, for one pass.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if not is_url(place):
            return open(place, "rb", buffering=1 << 20)
        system, path = file_system(place)
        return system.open(path, "rb", block_size=8 << 20)
    except network_errors() as error:
        raise DataError(place, "file", expected="a readable file", found=_reason(error)) from error


def read_range(file: Stored, offset: int, length: int) -> bytes:
    """Bytes of a file; fewer where it ends.

    Raises:
        DataError: it cannot be read, or has changed since it was looked at.
    """
    try:
        if "://" not in file.place:
            held = _opened(file)  # or another thread could have it closed before the read
            return os.pread(held.number, length, offset)
        system, path = file_system(file.place)
        return system.cat_file(path, start=offset, end=offset + length)
    except network_errors() as error:
        raise DataError(file.place, f"byte {offset}", expected=f"{length} bytes", found=_reason(error)) from error


def read_ranges(files: Sequence[Stored], ranges: Sequence[Sequence[int]]) -> list[bytes]:
    """Bytes of many places, each an offset and a length in its file; fewer where a file ends.

    Each file is looked up once: doing that for every place takes twice as long as reading a picture does.

    Raises:
        DataError: a file cannot be read, or has changed since it was looked at.
    """
    held: dict[int, _Descriptor] = {}  # by the identity of what is in ``files``, and so alive as long as they are
    found: list[bytes] = []
    for file, (offset, length) in zip(files, ranges, strict=True):
        descriptor = held.get(id(file))
        if descriptor is None and "://" in file.place:
            found.append(read_range(file, offset, length))
            continue
        try:
            if descriptor is None:
                descriptor = held[id(file)] = _opened(file)
            found.append(os.pread(descriptor.number, length, offset))
        except OSError as error:
            raise DataError(file.place, f"byte {offset}", expected=f"{length} bytes", found=_reason(error)) from error
    return found


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


class _Descriptor:
    """An open file, closed when nobody holds it any more: a thread that still reads keeps it from being closed."""

    __slots__ = ("number",)

    def __init__(self, file: Stored):
        self.number = -1
        self.number = os.open(file.place, os.O_RDONLY)
        status = os.fstat(self.number)
        if (status.st_size, str(status.st_mtime_ns)) != (file.size, file.token):
            found = f"{status.st_size} bytes, changed at another time: index it again"
            raise DataError(file.place, "file", expected=f"{file.size} bytes as when it was indexed", found=found)

    def __del__(self):
        if self.number >= 0:
            os.close(self.number)


@lru_cache(maxsize=_OPEN)
def _opened(file: Stored) -> _Descriptor:
    return _Descriptor(file)


def file_system(url: str) -> tuple[Any, str]:
    """File system and path of a URL; fsspec keeps the systems, and makes them anew in a forked process.

    Raises:
        DataError: fsspec knows no such kind of URL.
        DependencyMissing: the library for it is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except ImportError as error:
        install = ": pip install 'vla-stack[cloud]'" if url.startswith(_CLOUD) else ""
        raise DependencyMissing(f"{url}: {error}{install}") from error
    except ValueError as error:
        raise DataError(url, "URL", expected="a kind that fsspec knows", found=str(error)) from error
