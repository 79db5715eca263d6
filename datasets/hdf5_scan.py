"""Where the numbers of HDF5 files lie: the program of a child process, because libhdf5 is not safe on a damaged file.

Of 2,000 files with flipped bits libhdf5 2.0 hung on four; the pure Python reader ``pyfive`` 1.3 asked for unbounded
memory on twenty. Neither may run in a training process, so libhdf5 runs here, with limits on memory and time that
:mod:`vla.datasets.hdf5_sandbox` sets, and only tells at which byte each array lies. What is not a plain array of
numbers in the file itself is left out or refused: links to other files, external and virtual storage, plug-in filters.

::

    stdin   {"file": ..., "demo": null}                 what lies where
            {"file": ..., "demo": "demo_3"}             the text of its attribute model_file
    stdout  a line of JSON {"demos", "attributes", "fields", "chunks"}, then int64[fields, COLUMNS], int64[chunks, 3]
            a line of JSON {"text": ...}
"""

import json
import sys
from typing import Any

import numpy as np

OFFSET, BYTES, FIRST, COUNT, RANK = range(5)
SHAPE, CHUNK, FILTERS = slice(5, 9), slice(9, 13), slice(13, 17)
COLUMNS = 17
"""Of a row: byte offset and length if contiguous, first chunk and number of chunks if not, then shape and so on."""

FILTER_NUMBERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}
MAX_DEMOS, MAX_FIELDS, MAX_CHUNKS = 100_000, 256, 20_000_000
MAX_TEXT, MAX_MODEL = 1 << 20, 64 << 20  # bytes of an attribute
ATTRIBUTES = (
    "env",
    "env_args",
    "env_info",
    "problem_info",
    "bddl_file_name",
    "bddl_file_content",
    "macros_image_convention",
    "repository_version",
    "total",
    "num_demos",
)


def scan(path: str) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """All demonstrations of a file: what they are called, and where each array of numbers lies.

    Raises:
        ValueError: the file is not laid out as robomimic's are.
    """
    import h5py

    demos: list[dict[str, Any]] = []
    rows: list[list[int]] = []
    chunks: list[tuple[int, int, int]] = []
    with h5py.File(path, "r") as file:
        data = _group(file, "data", "/")
        for name in _names(data, MAX_DEMOS, "data"):
            if isinstance(data.get(name, getlink=True), h5py.HardLink) and isinstance(data[name], h5py.Group):
                demos.append(_demo(data[name], name, rows, chunks))
        attributes = {name: _value(data.attrs, name) for name in ATTRIBUTES if name in data.attrs}
    places = sorted(range(len(demos)), key=lambda place: _natural(demos[place]["name"]))
    head = {"attributes": attributes, "demos": [demos[place] for place in places]}
    table = np.array(rows, np.int64).reshape(-1, COLUMNS)
    return head, table, np.array(chunks, np.int64).reshape(-1, 3)


def model_file(path: str, demo: str) -> str:
    """The simulator's model that a demonstration carries; empty if it carries none."""
    import h5py

    with h5py.File(path, "r") as file:
        attributes = _group(_group(file, "data", "/"), demo, "data").attrs
        if "model_file" not in attributes:
            return ""
        return str(_value(attributes, "model_file", MAX_MODEL))


def main() -> None:
    """Answer requests until there are none."""
    output = sys.stdout.buffer
    for line in sys.stdin:
        request = json.loads(line)
        if request["demo"] is not None:
            text = model_file(request["file"], request["demo"])
            output.write(json.dumps({"text": text}).encode() + b"\n")
        else:
            head, table, chunks = scan(request["file"])
            head |= {"fields": len(table), "chunks": len(chunks)}
            output.write(json.dumps(head).encode() + b"\n" + table.tobytes() + chunks.tobytes())
        output.flush()


def _demo(group: Any, name: str, rows: list[list[int]], chunks: list[tuple[int, int, int]]) -> dict[str, Any]:
    import h5py

    fields: dict[str, tuple[int, str]] = {}
    folders = {"": group}
    if isinstance(group.get("obs", getlink=True), h5py.HardLink):
        folders["obs/"] = _group(group, "obs", name)
    for prefix, folder in folders.items():
        for key in _names(folder, MAX_FIELDS, f"data/{name}/{prefix}"):
            if not isinstance(folder.get(key, getlink=True), h5py.HardLink) or key == "obs":
                continue
            array = folder[key]
            if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "fiub" or not 1 <= array.ndim <= 4:
                continue
            fields[prefix + key] = (len(rows), array.dtype.str)
            rows.append(_row(array, f"data/{name}/{prefix}{key}", chunks))
    attributes = {key: _value(group.attrs, key) for key in ("num_samples", "success", "ep_meta") if key in group.attrs}
    return {"name": name, "fields": fields, "attributes": attributes}


def _row(array: Any, field: str, chunks: list[tuple[int, int, int]]) -> list[int]:
    import h5py

    plan = array.id.get_create_plist()
    layout, rank = plan.get_layout(), array.ndim
    row = [0] * COLUMNS
    row[RANK] = rank
    row[SHAPE] = _padded(array.shape)
    if array.is_virtual or plan.get_external_count():
        raise ValueError(f"{field}: expected numbers in this file, found links to other files")
    if layout == h5py.h5d.CONTIGUOUS:
        offset = array.id.get_offset()
        row[OFFSET], row[BYTES] = (-1 if offset is None else offset), array.id.get_storage_size()
        return row
    if layout != h5py.h5d.CHUNKED:
        raise ValueError(f"{field}: expected contiguous or chunked storage, found layout {layout}")
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    if len(filters) > 4 or any(number not in FILTER_NUMBERS for number in filters):
        known = ", ".join(FILTER_NUMBERS.values())
        raise ValueError(f"{field}: expected filters among {known}, found numbers {filters}; rewrite it with h5repack")
    row[CHUNK], row[FILTERS] = _padded(array.chunks), _padded(tuple(filters))
    row[FIRST], row[COUNT] = len(chunks), array.id.get_num_chunks()
    if len(chunks) + row[COUNT] > MAX_CHUNKS:
        raise ValueError(f"{field}: expected at most {MAX_CHUNKS} chunks in a file, found {len(chunks) + row[COUNT]}")
    grid = [-(-size // edge) for size, edge in zip(array.shape, array.chunks, strict=True)]
    if row[COUNT] != np.prod(grid, dtype=object):
        raise ValueError(f"{field}: expected {np.prod(grid, dtype=object)} chunks, found {row[COUNT]}")
    found: list[Any] = [None] * row[COUNT]

    def note(info: Any) -> None:
        place = 0
        for start, edge, cells in zip(info.chunk_offset, array.chunks, grid, strict=True):
            place = place * cells + start // edge
        found[place] = (info.byte_offset, info.size, info.filter_mask)

    array.id.chunk_iter(note)
    if None in found:
        raise ValueError(f"{field}: expected every chunk once, found chunk {found.index(None)} missing")
    chunks.extend(found)
    return row


def _group(parent: Any, name: str, where: str) -> Any:
    import h5py

    if not isinstance(parent.get(name, getlink=True), h5py.HardLink) or not isinstance(parent[name], h5py.Group):
        raise ValueError(f"{where}: expected a group {name}, found none")
    return parent[name]


def _names(group: Any, most: int, where: str) -> list[str]:
    if len(group) > most:
        raise ValueError(f"{where}: expected at most {most} entries, found {len(group)}")
    return list(group)


def _value(attributes: Any, name: str, most: int = MAX_TEXT) -> Any:
    """A text or a number as JSON."""
    if attributes.get_id(name).get_storage_size() > most:
        raise ValueError(f"attribute {name}: expected at most {most} bytes")
    value = attributes[name]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        if len(value) > most:
            raise ValueError(f"attribute {name}: expected at most {most} bytes, found {len(value)}")
        return value
    if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "fiub":
        return np.asarray(value).item()
    raise ValueError(f"attribute {name}: expected a text or a number, found {type(value).__name__}")


def _padded(values: tuple[int, ...]) -> list[int]:
    return [*map(int, values), *[0] * (4 - len(values))]


def _natural(name: str) -> tuple[str, int, str]:
    """``demo_2`` before ``demo_10``."""
    stem = name.rstrip("0123456789")
    number = name[len(stem) :]
    return stem, int(number[:18] or 0), name


if __name__ == "__main__":
    main()
