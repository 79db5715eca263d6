"""A LeRobot data set behind a URL, copied once into the cache folder: ``meta/`` first, then data and videos.

A copy can be broken off and taken up again: a file takes its name when it has the size that the listing says, and a
part of one is continued while the remote file is the same. What was copied is noted line by line beside the data set.

::

    <cache>/mirrors/<name>-<key of the URL>/          meta/ data/ videos/   the data set
                                            .mirror.jsonl          which version of each remote file was copied
                                            .part-<key>            the file under way
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vla.datasets.lerobot_info import codebase_version
from vla.datasets.lerobot_layout import INFO_FILE
from vla.datasets.lerobot_meter import Meter
from vla.datasets.network import network_errors
from vla.datasets.storage import file_system
from vla.errors import DataError
from vla.protocols import Progress

_CHUNK = 8 * 2**20  # bytes
_NOTES = ".mirror.jsonl"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class _Remote:
    """One file behind the URL.

    Attributes:
        name: below the data set's folder.
        path: as the file system knows it.
        size: bytes.
        version: changes when its contents do, as far as the file system says.
    """

    name: str
    path: str
    size: int
    version: str


def version_at(path: str) -> str | None:
    """``codebase_version`` of the data set at a path or URL; empty if info.json does not say, None if there is none.

    Raises:
        DataError: a URL does not answer, or is of no kind that is known.
        DependencyMissing: the library for that kind of URL is not installed.
    """
    try:
        if (local := _local(path)) is not None:
            text = (local / INFO_FILE).read_bytes()
        else:
            with _answers(path):
                system, root = file_system(path)
                text = system.cat_file(f"{root.rstrip('/')}/{INFO_FILE.as_posix()}")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise DataError(path, str(INFO_FILE), expected="a readable file", found=str(error)) from error
    try:
        return codebase_version(json.loads(text)) or ""
    except (ValueError, RecursionError):
        return ""  # a LeRobot data set whose info.json is damaged, which the reader will say


def local_folder(path: str, cache: Path, *, only_meta: bool = False, progress: Progress | None = None) -> Path:
    """The folder itself, or the copy in the cache of what a URL names.

    Args:
        path: folder or URL.
        cache: where copies go.
        only_meta: copy no data and no videos.
        progress: told how many bytes are here, and how many there are.

    Raises:
        DataError: there is nothing, a URL does not answer, or a file does not arrive whole.
        DependencyMissing: the library for that kind of URL is not installed.
    """
    if (local := _local(path)) is not None:
        if not local.is_dir():
            found = "nothing there"
            if _HUB_NAME.fullmatch(path):
                found += f"; for the data set of that name on the Hub: hf://datasets/{path}"
            raise DataError(path, "folder", expected="a LeRobot data set", found=found)
        return local
    with _answers(path):
        system, root = file_system(path)
        root = root.rstrip("/")
        files = _listing(system, root, path)
    chosen = [file for file in files if not only_meta or file.name.startswith("meta/")]
    key = hashlib.sha256(path.rstrip("/").encode()).hexdigest()[:12]
    folder = cache / "mirrors" / f"{PurePosixPath(root).name}-{key}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        _copy(system, chosen, folder, path, progress)
        if not only_meta:
            _remove_others(folder, {file.name for file in files})
    except FileNotFoundError as error:
        raise DataError(path, "files", expected="those that were listed", found=str(error)) from error
    return folder


def _local(path: str) -> Path | None:
    """The folder, with a name of its own even where it is given as ``.``; None for a URL of elsewhere."""
    place = path.removeprefix("file://")
    return None if "://" in place else Path(os.path.abspath(place))


@contextmanager
def _answers(url: str) -> Iterator[None]:
    """What goes wrong on the way becomes a DataError that names the URL; a missing file stays what it is."""
    import fsspec.exceptions

    try:
        yield
    except FileNotFoundError:
        raise
    except (*network_errors(), ValueError, RuntimeError, fsspec.exceptions.FSTimeoutError) as error:
        raise DataError(url, "connection", expected="an answer", found=str(error) or type(error).__name__) from error


def _listing(system: Any, root: str, url: str) -> list[_Remote]:
    """All files of the data set, ``meta/`` first; hidden ones are left out."""
    files = []
    for path, facts in system.find(root, detail=True).items():
        name = path.removeprefix(root).lstrip("/")
        parts = PurePosixPath(name).parts
        if any(part.startswith(".") for part in parts) or len(parts) < 2:
            continue
        if not isinstance(facts.get("size"), int):
            raise DataError(url, name, expected="a file with a known size", found=repr(facts.get("size")))
        marks = (
            "ETag",
            "etag",
            "md5Hash",
            "blob_id",
            "generation",
            "mtime",
            "LastModified",
            "last_modified",
            "created",
        )
        version = repr([facts["size"], *(str(facts[mark]) for mark in marks if facts.get(mark) is not None)])
        digest = hashlib.sha256(version.encode()).hexdigest()[:16]
        files.append(_Remote(name, path, facts["size"], digest))
    if not any(file.name == INFO_FILE.as_posix() for file in files):
        raise DataError(url, str(INFO_FILE), expected="a LeRobot data set", found=f"{len(files)} other files")
    return sorted(files, key=lambda file: (not file.name.startswith("meta/"), file.name))


def _copy(system: Any, files: list[_Remote], folder: Path, url: str, progress: Progress | None) -> None:
    notes = folder / _NOTES
    known = _read_notes(notes)
    meter = Meter(f"{url}, bytes", sum(file.size for file in files), progress)
    for file in files:
        target = folder / file.name
        if known.get(file.name) != file.version or not target.is_file() or target.stat().st_size != file.size:
            _fetch(system, file, folder, url)
            try:
                with notes.open("a") as lines:
                    lines.write(json.dumps([file.name, file.version]) + "\n")
            except OSError as error:
                raise _unwritable(folder, error) from error
        meter.step(file.size)


def _fetch(system: Any, file: _Remote, folder: Path, url: str) -> None:
    """Bring one file, continuing a part of it that is already here."""
    key = hashlib.sha256(f"{file.name} {file.version}".encode()).hexdigest()[:16]
    part, target = folder / f".part-{key}", folder / file.name
    have = part.stat().st_size if part.exists() else 0
    if have > file.size:
        part.unlink()
        have = 0
    with _answers(f"{url}/{file.name}"), system.open(file.path, "rb") as source:
        source.seek(have)
        while have < file.size:
            data = source.read(min(_CHUNK, file.size - have))
            if not data:
                break
            try:
                with part.open("ab") as sink:
                    sink.write(data)
            except OSError as error:
                raise _unwritable(folder, error) from error
            have += len(data)
        longer = have == file.size and bool(source.read(1))
    if have != file.size or longer:
        part.unlink(missing_ok=True)
        found = "more" if longer else f"only {have}"
        raise DataError(f"{url}/{file.name}", "size", expected=f"{file.size} bytes as listed", found=found)
    try:
        part.touch()
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> DataError:
    expected = "a writable cache folder with space"
    return DataError(folder, "copy", expected=expected, found=error.strerror or str(error))


def _read_notes(notes: Path) -> dict[str, str]:
    """Version of each file that was copied; a last line that was broken off does not count."""
    known: dict[str, str] = {}
    for line in notes.read_text().splitlines() if notes.exists() else ():
        try:
            name, version = json.loads(line)
        except (ValueError, TypeError):
            continue
        known[name] = version
    return known


def _remove_others(folder: Path, names: set[str]) -> None:
    """Files that the data set no longer has."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".") and name not in names:
            path.unlink()
