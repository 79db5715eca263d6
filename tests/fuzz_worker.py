"""Reads data sets that may be damaged, one a line, in a process that may die of it: the other half of test_fuzz.py.

Lines in: ``{"path": ..., "options": {...}}``. Lines out: ``{"outcome": "read", "digest": ..., "quirks": n}``,
``{"outcome": "refused", "error": ..., "message": ...}`` for a typed error, ``{"outcome": "untyped", ...}`` for any
other, which is a fault of the reader.
"""

import hashlib
import json
import resource
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np

MEMORY = 3 * 2**30  # of address space above what the imports took [bytes]


def numbers_digest(path: str, options: dict) -> dict:
    """Everything that a training would see, as one number; pictures are decoded but only their sizes count."""
    from vla.plugins import open_source

    source = open_source(path, **options)
    digest = hashlib.sha256()
    digest.update(source.spec.fingerprint.encode())
    for index in range(len(source)):
        episode = source[index]
        for values in (episode.state, episode.action, episode.time):
            digest.update(np.ascontiguousarray(values).tobytes())
        digest.update(repr((episode.instruction, episode.success)).encode())
        for name, frames in episode.images.items():
            digest.update(f"{name} {len(frames)} {np.asarray(frames[0]).shape}".encode())
            for step in range(len(frames)):
                _ = frames[step]
    return {"outcome": "read", "digest": digest.hexdigest(), "quirks": len(source.quirks)}


def main() -> None:
    from vla.errors import VlaError
    from vla.plugins import plugins

    plugins("datasets")
    import av  # noqa: F401  what readers import late must not count as memory of a case
    import h5py  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import tensorflow_datasets  # noqa: F401

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    print(json.dumps({"outcome": "ready"}), flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        with tempfile.TemporaryDirectory() as cache:
            options = case["options"] | ({"cache": Path(cache)} if case.get("cache") else {})
            try:
                answer = numbers_digest(case["path"], options)
            except VlaError as error:
                answer = {"outcome": "refused", "error": type(error).__name__, "message": str(error)[:300]}
            except BaseException as error:  # noqa: BLE001  whatever it is, it is the finding
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(where.filename).name}:{where.lineno}"
                answer = {"outcome": "untyped", "error": type(error).__name__, "message": f"{place}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
