"""Asks :mod:`vla.datasets.hdf5_scan` in a child process with limits: whatever a damaged file does, it does there."""

import contextlib
import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vla.datasets.hdf5_scan import COLUMNS, MAX_CHUNKS, MAX_DEMOS, MAX_FIELDS
from vla.errors import DataError

MEMORY_BYTES = 4 << 30
PROCESSOR_SECONDS = 600  # of one child, however many files
FILE_SECONDS = 30.0
"""Longest wait for a file's next bytes; listing 50 demonstrations takes 0.1 s."""
_MAX_HEAD = 256 << 20  # bytes
_MAX_ERROR = 400  # characters of what the child said when it died

_LAYOUT = "an HDF5 file laid out as robomimic's are"


@dataclass(frozen=True)
class Scan:
    """What :func:`vla.datasets.hdf5_scan.scan` found in a file.

    Attributes:
        attributes: of the group ``data``.
        demos: name, fields (place in the table and type) and attributes of each demonstration.
        table: where each array lies; columns as in :mod:`vla.datasets.hdf5_scan`.
        chunks: offset [bytes], size [bytes] and filter mask of each chunk.
    """

    attributes: dict[str, Any]
    demos: list[dict[str, Any]]
    table: Int64[np.ndarray, "fields columns"]
    chunks: Int64[np.ndarray, "chunks 3"]


class Sandbox:
    """The child process; a context manager. It is replaced when a file kills it."""

    def __init__(self, *, file_seconds: float = FILE_SECONDS):
        self._file_seconds = file_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None
        self._rest = b""

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def scan(self, file: Path) -> Scan:
        """Where the arrays of a file lie.

        Raises:
            DataError: libhdf5 refuses the file, dies of it, or takes too long or too much memory.
        """
        head = self._ask(file, None)
        try:
            fields, chunks = int(head["fields"]), int(head["chunks"])
            if not (0 <= fields <= MAX_DEMOS * MAX_FIELDS and 0 <= chunks <= MAX_CHUNKS):
                raise ValueError(f"{fields} fields, {chunks} chunks")
            raw = self._read(file, 8 * (fields * COLUMNS + chunks * 3))
            numbers = np.frombuffer(raw, np.int64)
            table, rest = numbers[: fields * COLUMNS].reshape(-1, COLUMNS), numbers[fields * COLUMNS :]
            return Scan(head["attributes"], head["demos"], table, rest.reshape(-1, 3))
        except (KeyError, ValueError, TypeError) as error:
            self._end()
            raise DataError(file, "file", expected=_LAYOUT, found=str(error)) from error

    def model_file(self, file: Path, demo: str) -> str:
        """The simulator's model that a demonstration carries, XML.

        Raises:
            DataError: as :meth:`scan`, or it carries none.
        """
        text = self._ask(file, demo).get("text")
        if not isinstance(text, str) or not text:
            expected = "attribute model_file, the simulator's model"
            raise DataError(file, f"data/{demo}", expected=expected, found="none")
        return text

    def _ask(self, file: Path, demo: str | None) -> dict[str, Any]:
        process = self._started()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died in between: reading will say so
            process.stdin.write(json.dumps({"file": str(file), "demo": demo}).encode() + b"\n")
            process.stdin.flush()
        try:
            return json.loads(self._read(file, None))
        except ValueError as error:
            self._end()
            raise DataError(file, "file", expected=_LAYOUT, found=str(error)) from error

    def _read(self, file: Path, count: int | None) -> bytes:
        """``count`` bytes of the answer, or a line of it."""
        process = self._started()
        assert process.stdout is not None
        parts, have = [self._rest], len(self._rest)
        begin = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while (b"\n" not in parts[-1]) if count is None else have < count:
                if not selector.select(max(0.0, begin + self._file_seconds - time.monotonic())):
                    self._end()
                    raise DataError(file, "file", expected=_LAYOUT, found=f"nothing in {self._file_seconds:g} s")
                part = os.read(process.stdout.fileno(), 1 << 20)
                have += len(part)
                if not part or (count is None and have > _MAX_HEAD):
                    raise DataError(file, "file", expected=_LAYOUT, found=self._last_words(len(part)))
                parts.append(part)
        whole = b"".join(parts)
        end = whole.index(b"\n") + 1 if count is None else count
        self._rest = whole[end:]
        return whole[:end]

    def _last_words(self, alive: int) -> str:
        """Why the child died."""
        errors, process = self._errors, self._process
        assert process is not None
        if alive:
            self._end()
            return f"more than {_MAX_HEAD} bytes of names"
        code = process.wait()
        errors.seek(0)
        lines = errors.read()[-10_000:].decode("utf-8", "replace").strip().splitlines()
        self._end()
        if code < 0:
            return f"a file that makes libhdf5 end with signal {-code}"
        reason = lines[-1].partition(": ")[2] or lines[-1] if lines else f"a file that ends libhdf5 with code {code}"
        return reason[:_MAX_ERROR]

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._errors = tempfile.TemporaryFile()
            # read-only folders cannot be locked; and a file must not make libhdf5 load a plug-in
            environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE", "HDF5_PLUGIN_PRELOAD": "::"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vla.datasets.hdf5_scan"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**environment, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")},
            )
            self._rest = b""
            with _limits_of(self._process.pid) as limit:
                limit(resource.RLIMIT_AS, MEMORY_BYTES)
                limit(resource.RLIMIT_CPU, PROCESSOR_SECONDS)
                limit(resource.RLIMIT_CORE, 0)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
            self._errors.close()


@contextlib.contextmanager
def _limits_of(process: int) -> Iterator[Any]:
    """Set another process's limits; a function between fork and exec would not be safe beside threads."""
    set_limit = getattr(resource, "prlimit", None)

    def limit(what: int, value: int) -> None:
        if set_limit is not None:  # Linux
            _, hard = set_limit(process, what)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            set_limit(process, what, (value, hard))

    with contextlib.suppress(ProcessLookupError):
        yield limit
