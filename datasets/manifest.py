"""The files of a data set with their sizes and checksums, written with it: what changes later does not go unseen.

TFRecords and the pages of our Parquet files have checksums of their own; JSON, the footers of Parquet files and videos
have none, and one flipped bit there is another number or another picture. The list is compared when a data set is
indexed, and stands in a JSON file with a checksum over itself::

    {"format": 1, "files": {"meta/info.json": [1234, "89abcdef"], ...}, "crc32": "01234567"}

The checksum is CRC-32 as in Parquet, PNG and zlib, some 3 GB/s: whole videos are read for it.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vla.errors import DataError
from vla.quirks import Quirk

MANIFEST = "vla_manifest.json"
CHANGED = "changed-since-written"

type Sum = tuple[int, int]
"""Size [bytes] and CRC-32 of a file."""

_FORMAT = 1
_CHUNK = 1 << 20  # bytes read at once


def sum_of(data: bytes) -> Sum:
    """Of a file's contents."""
    return len(data), zlib.crc32(data)


def file_sum(path: Path) -> Sum:
    """Of a file, read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    size = crc = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_CHUNK):
            size, crc = size + len(piece), zlib.crc32(piece, crc)
    return size, crc


def folder_sums(folder: Path, known: Mapping[str, Sum]) -> dict[str, Sum]:
    """Of all files below a folder by their names relative to it; those ``known`` are not read again."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: known[name] if name in known else file_sum(folder / name) for name in files}


def manifest_text(sums: Mapping[str, Sum]) -> str:
    """Contents of the file."""
    files = {name: [size, f"{crc:08x}"] for name, (size, crc) in sums.items()}
    return json.dumps({"format": _FORMAT, "files": files, "crc32": _own(files)}, indent=1)


def changes(
    place: str, data: bytes | None, look: Callable[[str], Sum | None], *, named_elsewhere: Iterable[str] = ()
) -> Quirk | None:
    """What differs from the list, as one quirk; None if nothing does.

    Args:
        place: of the list, path or URL.
        data: its contents; None if it is not there.
        look: gives what a file is now; None for one that is not there.
        named_elsewhere: first parts of names; of these files a missing one is not told here.

    Raises:
        DataError: ``look`` raises it.
    """
    remedy = "what is there is read as it is now"
    if data is None:
        return Quirk(CHANGED, place, "file", "the list of the data set's files", "nothing there", remedy)
    try:
        sums = _parsed(data)
    except (ValueError, RecursionError) as error:
        expected = "the list of the data set's files, with a checksum that fits"
        return Quirk(CHANGED, place, "file", expected, str(error)[:200], remedy)
    wrong: list[tuple[str, Sum, Sum | None]] = []
    spared = tuple(named_elsewhere)
    for name, sum in sums.items():
        now = look(name)
        if now != sum and (now is not None or not name.startswith(spared)):
            wrong.append((name, sum, now))
    if not wrong:
        return None
    name, sum, now = wrong[0]
    found = _shown(now) if now else "nothing there"
    if len(wrong) > 1:
        found += f"; {len(wrong) - 1} of the other {len(sums) - 1} files differ too"
    return Quirk(CHANGED, place, name, f"{_shown(sum)} as it was written", found, remedy)


def folder_changes(file: Path, folder: Path, *, named_elsewhere: Iterable[str] = ()) -> Quirk | None:
    """:func:`changes` of a folder on disk.

    Args:
        file: the list.
        folder: that its names are relative to.
        named_elsewhere: see :func:`changes`.

    Raises:
        DataError: a file cannot be read.
    """

    def look(name: str) -> Sum | None:
        path = folder / name
        try:
            return file_sum(path) if path.is_file() else None
        except OSError as error:
            raise DataError(path, "file", expected="a readable file", found=error.strerror or str(error)) from error

    try:
        data = file.read_bytes() if file.is_file() else None
    except OSError as error:
        raise DataError(file, "file", expected="a readable file", found=error.strerror or str(error)) from error
    return changes(str(file), data, look, named_elsewhere=named_elsewhere)


def _parsed(data: bytes) -> dict[str, Sum]:
    value = json.loads(data)
    if not isinstance(value, dict) or value.get("format") != _FORMAT or not isinstance(value.get("files"), dict):
        raise ValueError("another JSON value")
    files = value["files"]
    if value.get("crc32") != (own := _own(files)):
        raise ValueError(f"checksum {own} of the list, but {value.get('crc32')!r} stands in it")
    sums = {}
    for name, entry in files.items():
        if not (isinstance(entry, list) and len(entry) == 2 and type(entry[0]) is int and isinstance(entry[1], str)):
            raise ValueError(f"{entry!r} for {name}")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{name}, which is not below the data set")
        sums[name] = (entry[0], int(entry[1], 16))
    return sums


def _own(files: Mapping[str, list]) -> str:
    return f"{zlib.crc32(json.dumps(files).encode()):08x}"


def _shown(sum: Sum) -> str:
    return f"{sum[0]} bytes with CRC-32 {sum[1]:08x}"
