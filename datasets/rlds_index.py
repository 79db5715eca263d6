"""The index of a split: one pass over its shards, after which every number is a row and every picture a byte range.

::

    shard 0 ─index_shard─▶ part 0 ┐
    shard 1 ─index_shard─▶ part 1 ├─joined─▶ index (mapped into memory)
    ...          in processes     ┘

It holds all fields, whatever they mean, and lies in the cache folder. It is made anew when a shard's size or time or a
JSON file of the data set has changed. Parts of a pass that was stopped are used by the next one.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, Shaped, UInt8

from vla.child_process import cores
from vla.datasets import storage
from vla.datasets.array_file import array_writer, map_arrays, read_meta
from vla.datasets.rlds_shard import Job, index_shard, json_lines, part_key, planned
from vla.datasets.rlds_specification import FEATURES, INFO, Specification
from vla.datasets.storage import Stored
from vla.errors import DataError
from vla.protocols import Progress
from vla.workers import Crash, Crew

FORMAT = 3
_ALONE = 128 << 20  # below so many bytes a pass is over before processes have started
_KNOWN = 4096  # texts kept decoded
_CHUNK = 1 << 20  # rows that are copied at a time when parts are joined
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RldsIndex:
    """Where everything of one split lies; arrays are mapped, not read. :mod:`vla.datasets.rlds_shard` names them.

    Attributes:
        file: the index itself.
        shards: files of the split; None for one that was not there.
        content: changes with what the shards hold.
        arrays: by name.
    """

    file: Path
    shards: tuple[Stored | None, ...]
    content: str
    arrays: dict[str, Shaped[np.ndarray, "..."]]
    _texts: dict[int, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def open(cls, file: Path) -> "RldsIndex":
        """The index in that file.

        Raises:
            DataError: it is not one.
        """
        meta, arrays = read_meta(file), map_arrays(file)
        try:
            shards = tuple(None if shard is None else Stored(*shard) for shard in meta["shards"])
            if meta["format"] != FORMAT or "starts" not in arrays:
                raise KeyError("starts")
            return cls(file, shards, meta["content"], arrays)
        except (KeyError, TypeError) as error:
            raise DataError(file, "index", expected=f"format {FORMAT}", found=f"no {error}") from error

    @property
    def starts(self) -> Int64[np.ndarray, "episodes_and_one"]:
        """First step of each episode, and the number of all steps."""
        return self.arrays["starts"]

    @property
    def shard(self) -> Int32[np.ndarray, "episodes"]:
        """Number of the file that an episode is in."""
        return self.arrays["shard"]

    def text(self, number: int) -> str:
        """A text by its number; empty for -1."""
        known = self._texts.get(number)
        if known is None:
            ends = self.arrays["text_ends"]
            place = slice(int(ends[number - 1]) if number > 0 else 0, int(ends[number])) if number >= 0 else slice(0)
            known = self.arrays["text_bytes"][place].tobytes().decode()
            if len(self._texts) >= _KNOWN:
                self._texts.clear()
            self._texts[number] = known
        return known

    def entries(self, name: str) -> list[dict[str, Any]]:
        """``flaws`` or ``broken``."""
        return _entries(self.arrays[name])


def rlds_index(
    specification: Specification, split: str, cache: Path, *, workers: int = 0, progress: Progress | None = None
) -> RldsIndex:
    """The index of one split, from the cache folder if it is still true, else made now.

    Args:
        specification: of the data set.
        split: one of its splits.
        cache: folder of the index.
        workers: processes that read shards; 0 for one a core, 1 for none beside this one.
        progress: told the bytes read and the bytes there are.

    Raises:
        DataError: a file cannot be read, or the cache is not writable; damage within shards is noted in the index.
    """
    key = hashlib.sha256(repr((specification.folder, split)).encode()).hexdigest()[:16]
    file = cache / f"{specification.name}-{split}-{key}.index"
    shards = storage.stored_in(specification.folder, specification.splits[split].files)
    truth = {
        "format": FORMAT,
        "shards": [None if shard is None else [shard.place, shard.size, shard.token] for shard in shards],
        "json": _json_digest(specification.folder),
    }
    if not _is_true(file, truth):
        with _locked(file):
            if not _is_true(file, truth):  # another process may have made it while this one waited
                logger.info("indexing %s, split %s", specification.folder, split)
                _build(specification, split, shards, file, truth, workers, progress)
    return RldsIndex.open(file)


def _is_true(file: Path, truth: dict[str, Any]) -> bool:
    if not file.exists():
        return False
    try:
        meta = read_meta(file)
        return all(meta.get(key) == value for key, value in truth.items())
    except (DataError, AttributeError):
        return False  # a damaged or outdated index costs a new pass, nothing else


def _json_digest(folder: str) -> str:
    texts = (storage.read(storage.join(folder, name)) for name in (FEATURES, INFO))
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Only one process of this machine makes an index; the others wait for it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise DataError(file, "index", expected="a writable folder with space", found=str(error)) from error
    try:
        yield
    finally:
        os.close(lock)


def _build(
    specification: Specification,
    split: str,
    shards: Sequence[Stored | None],
    file: Path,
    truth: dict[str, Any],
    workers: int,
    progress: Progress | None,
) -> None:
    parts = file.with_suffix(".parts")
    lengths = specification.splits[split].lengths
    jobs = [
        Job(shard, length, specification.steps, specification.episode, parts / f"{number}.part")
        for number, (shard, length) in enumerate(zip(shards, lengths, strict=True))
        if shard is not None
    ]
    _read_shards(jobs, workers, progress)
    files = specification.splits[split].files
    _join(specification, files, shards, lengths, parts, file, truth)
    shutil.rmtree(parts, ignore_errors=True)
    for other in file.parent.iterdir():
        if other.name.startswith(f"{file.stem}-") and other.suffix == ".columns":
            other.unlink(missing_ok=True)  # made of an index that is no more


def _read_shards(jobs: Sequence[Job], workers: int, progress: Progress | None) -> None:
    total, done = sum(job.shard.size for job in jobs), 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    waiting = [job for job in jobs if not _has_part(job)]
    told(total - sum(job.shard.size for job in waiting))
    count = min(workers or cores(), len(waiting))
    alone = any(job.shard.place.startswith("memory://") for job in jobs)  # other processes have another memory
    if count < 2 or alone or (not workers and sum(job.shard.size for job in waiting) < _ALONE):
        for job in waiting:
            index_shard(job, told)
        return
    with Crew(ShardReader, count) as crew:
        for answer in crew.run(waiting):
            if isinstance(answer.value, Crash):
                found = f"the process that read it ended twice: {answer.value.error}"
                raise DataError(answer.job.shard.place, "shard", expected="a file that can be indexed", found=found)
            told(answer.job.shard.size)


class ShardReader:
    """Indexes shards inside a worker process."""

    def __call__(self, job: Job) -> Path:
        """Write the part of one shard."""
        return index_shard(job)

    def close(self) -> None:
        """Nothing is held."""


def _has_part(job: Job) -> bool:
    try:
        return read_meta(job.part)["shard"] == part_key(job)
    except (DataError, KeyError, TypeError):
        return False  # not there yet, or of another pass


def _join(
    specification: Specification,
    files: Sequence[str],
    shards: Sequence[Stored | None],
    lengths: Sequence[int],
    folder: Path,
    file: Path,
    truth: dict[str, Any],
) -> None:
    """Copy the parts one after the other into one file; only their sizes are in memory together."""
    fields = planned(specification.steps, specification.episode)
    parts = [None if shard is None else folder / f"{number}.part" for number, shard in enumerate(shards)]
    sizes: dict[str, int] = dict.fromkeys([*fields, "length", "text_bytes", "text_ends"], 0)
    for part in parts:
        if part is not None:
            arrays = map_arrays(part)
            for name in sizes:
                sizes[name] += len(arrays[name])
    episodes = sizes["length"]
    plan = {name: (dtype, (sizes[name], *width)) for name, (dtype, width) in fields.items()}
    plan |= {"starts": ("<i8", (episodes + 1,)), "shard": ("<i4", (episodes,))}
    plan |= {name: ("<i8", (episodes,)) for name in ("record", "offset")}
    plan |= {"text_bytes": ("|u1", (sizes["text_bytes"],)), "text_ends": ("<i8", (sizes["text_ends"],))}
    digest = hashlib.sha256(truth["json"].encode())
    flaws: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    steps = texts = text_bytes = before = count = 0
    with array_writer(file, plan) as out:
        out.append("starts", np.zeros(1, np.int64))
        for number, (part, length) in enumerate(zip(parts, lengths, strict=True)):
            place = storage.join(specification.folder, files[number])
            if part is None:
                gone = {"expected": "a file", "found": "No such file", "missing": length}
                broken.append({"shard": place, "record": before, "offset": None, **gone})
                before += length
                continue
            arrays = map_arrays(part)
            digest.update(read_meta(part)["digest"].encode())
            ends = steps + np.cumsum(arrays["length"])
            out.append("starts", ends)
            out.append("shard", np.full(len(ends), number, np.int32))
            out.append("record", arrays["record"] + before)
            out.append("offset", arrays["offset"])
            out.append("text_bytes", arrays["text_bytes"])
            out.append("text_ends", arrays["text_ends"] + text_bytes)
            for name in fields:
                for start in range(0, len(arrays[name]), _CHUNK):
                    rows = arrays[name][start : start + _CHUNK]
                    out.append(name, np.where(rows < 0, rows, rows + texts) if name.startswith(_TEXTS) else rows)
            flaws += [entry | {"episode": entry["episode"] + count} for entry in _entries(arrays["flaws"])]
            broken += [
                {"shard": place} | entry | {"record": entry["record"] + before} for entry in _entries(arrays["broken"])
            ]
            steps, count = int(ends[-1]) if len(ends) else steps, count + len(ends)
            texts, text_bytes = texts + len(arrays["text_ends"]), text_bytes + len(arrays["text_bytes"])
            before += length
        out.add("flaws", json_lines(flaws))
        out.add("broken", json_lines(broken))
        out.meta = {**truth, "content": digest.hexdigest()[:32]}


_TEXTS = ("texts/", "said/")


def _entries(lines: UInt8[np.ndarray, "n"]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.tobytes().splitlines()]
