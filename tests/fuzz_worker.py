"""Reads data sets that may be damaged, one a line, in a process that may die of it: the other half of test_fuzz.py.

Lines in: ``{"what": ..., "path": ..., "options": {...}}``, where ``what`` is ``data`` (a data set), ``reference`` (a
file, by the library of its format), ``description`` or one of the layouts of statistics. Lines out: ``{"outcome":
"read", ...}`` with digests, ``{"outcome": "refused", "error": ..., "message": ...}`` for a typed error,
``{"outcome": "flood", ...}`` for one that memory ran out for or that took much of it, ``{"outcome": "untyped", ...}``
for any other, which is a fault of the reader.
"""

import contextlib
import hashlib
import json
import resource
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 3 * 2**30  # of address space above what the imports took [bytes]
FLOOD = 2**30  # of memory for a set of some kB [bytes]
HDF5_SECONDS = 10.0  # libhdf5 hangs on some files; its child is ended


def data(path: str, options: dict) -> dict:
    """Everything that a training would see, as one number."""
    from vla.plugins import open_source

    with tempfile.TemporaryDirectory() as cache:
        source = open_source(path, **options, cache=Path(cache))
        digest = hashlib.sha256()
        digest.update(source.spec.fingerprint.encode())
        for index in range(len(source)):
            episode = source[index]
            for values in (episode.state, episode.action, episode.time):
                digest.update(np.ascontiguousarray(values).tobytes())
            about = (episode.instruction, episode.success, episode.source, dict(episode.info))
            digest.update(repr(about).encode(errors="surrogatepass"))
            for name, frames in episode.images.items():
                digest.update(name.encode())
                for step in range(len(frames)):
                    digest.update(np.ascontiguousarray(frames[step]).tobytes())
        kinds = sorted({quirk.kind for quirk in source.quirks})
        return {"digest": digest.hexdigest(), "quirks": kinds}


def reference(path: str, options: dict) -> dict:
    """What the library of the file's own format finds in it: how it is built, and the values."""
    shape, values = {".hdf5": _hdf5, ".parquet": _parquet}.get(Path(path).suffix, _json)(path)
    digests = [hashlib.sha256(repr(part).encode(errors="surrogatepass")).hexdigest() for part in (shape, values)]
    return {"shape": digests[0], "digest": digests[1]}


def _hdf5(path: str) -> tuple[Any, Any]:
    import h5py

    shape: list[Any] = []
    values: list[Any] = []

    def look(name: str, item: Any) -> None:
        shape.append((name, sorted(item.attrs)))
        values.extend(repr(item.attrs[key]) for key in sorted(item.attrs))
        if isinstance(item, h5py.Dataset):
            shape.append((item.shape, item.dtype.str, item.chunks, item.compression))
            values.append(item[()].tobytes())

    with h5py.File(path, "r") as file:
        file.visititems(look)
    return shape, values


def _parquet(path: str) -> tuple[Any, Any]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    table.validate(full=True)
    return (str(table.schema), table.num_rows), table.to_pydict()


def _json(path: str) -> tuple[Any, Any]:
    value = [json.loads(line) for line in Path(path).read_text().splitlines() if line] if "jsonl" in path else None
    value = json.loads(Path(path).read_text()) if value is None else value
    return _skeleton(value), value


def _skeleton(value: Any) -> Any:
    """A JSON value without its numbers and texts."""
    if isinstance(value, dict):
        return {key: _skeleton(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_skeleton(inner) for inner in value]
    return "number" if type(value) in (int, float) else type(value).__name__


def description(path: str, options: dict) -> dict:
    """A description, and the robot that it makes."""
    from vla.datasets.description import read_description

    found = read_description(Path(path))
    sizes = {camera.name: (8, 8) for camera in found.cameras}
    made = [found.embodiment(sizes, fixes=fixes).fingerprint for fixes in (True, False)]
    return {"digest": hashlib.sha256(repr((found, made)).encode(errors="surrogatepass")).hexdigest()}


def statistics(path: str, options: dict) -> dict:
    """A file of statistics in the layout that the options name."""
    from vla import statistics_files
    from vla.embodiments.libero_panda import libero_panda

    spec, layout = libero_panda(32), options["layout"]
    reader = getattr(statistics_files, f"read_{layout}")
    found = reader(Path(path), spec, **({"count": 100} if layout in ("openpi", "lerobot") else {}))
    numbers = found.arrays((*spec.state_names, *spec.action.names), ("mean", "std"))
    assert all(np.isfinite(values).all() for values in numbers.values())
    return {"digest": hashlib.sha256(repr(found).encode()).hexdigest()}


WHAT = {"data": data, "reference": reference, "description": description, "statistics": statistics}


def answer_to(case: dict) -> dict:
    """How a case ended."""
    from vla.errors import VlaError

    Path("/proc/self/clear_refs").write_text("5")  # so that the peak is this case's
    before = _status("VmRSS")
    try:
        answer = {"outcome": "read", **WHAT[case["what"]](case["path"], case["options"])}
    except VlaError as error:
        answer = {"outcome": "refused", "error": type(error).__name__, "message": str(error)[:300]}
        if isinstance(error.__cause__, MemoryError):
            answer["outcome"] = "flood"
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the finding
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        answer = {"outcome": "untyped", "error": type(error).__name__, "message": f"{place}: {error}"[:300]}
    if (peak := _status("VmHWM") - before) > FLOOD:
        answer = {"outcome": "flood", "bytes": peak, "of": answer}
    return answer


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024


def main() -> None:
    from vla.datasets import hdf5_demos, hdf5_index
    from vla.datasets.hdf5_sandbox import Sandbox
    from vla.plugins import plugins

    plugins("datasets")
    import av  # noqa: F401  what readers import late must not count as memory of a case
    import h5py  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import tensorflow_datasets  # noqa: F401

    sandbox = Sandbox(file_seconds=HDF5_SECONDS)  # one child for all cases: starting it takes longer than a case
    for module in (hdf5_demos, hdf5_index):
        vars(module)["Sandbox"] = lambda: contextlib.nullcontext(sandbox)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    print(json.dumps({"outcome": "ready"}), flush=True)
    with sandbox:
        for line in sys.stdin:
            print(json.dumps(answer_to(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
