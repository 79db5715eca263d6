"""State and action of every step, mended and side by side in a file, made once for an index and a reading.

What is costly (gathering channels, fixes over a whole episode, looking for numbers that are not finite) happens here,
so that reading a window later is a few rows of a mapped array. Episodes that cannot be used are noted and left out.

================ ============ ==========================================================
``state``        steps, s     rows as in the index; those of episodes left out are 0
``action``       steps, a
``time``         steps        [s], only of data that this project wrote
``row``          steps        only where fixes leave out steps by their numbers: ``state`` and ``action`` have the
                              other steps alone, one after the other, and this is each one's row in the index
``table``        episodes, 3  number in the index of each episode that is kept, its first row, and its steps
``broken``       bytes        JSON lines as in the index, with the field
================ ============ ==========================================================
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from vla.datasets.array_file import ArrayWriter, array_writer, map_arrays, read_meta
from vla.datasets.description import Camera
from vla.datasets.rlds_index import RldsIndex
from vla.datasets.rlds_reading import TIME_BITS, Reading
from vla.datasets.rlds_shard import json_lines
from vla.datasets.rlds_specification import STEPS, Specification, TextField
from vla.errors import DataError
from vla.protocols import Progress

FORMAT = 3
_TOGETHER = 1 << 16  # rows written at a time


def columns_file(
    index: RldsIndex,
    specification: Specification,
    chosen: Reading,
    cameras: Sequence[Camera],
    progress: Progress | None = None,
) -> Path:
    """The file, beside the index; made now unless it is there.

    Args:
        index: of the split.
        specification: of the data set.
        chosen: what the fields mean.
        cameras: that are needed.
        progress: told the episodes done and the episodes there are.

    Raises:
        DataError: the cache is not writable.
    """
    needed = repr((FORMAT, index.content, chosen.digest, [(c.name, c.field) for c in cameras]))
    key = hashlib.sha256(needed.encode()).hexdigest()
    file = index.file.with_name(f"{index.file.stem}-{key[:8]}.columns")
    try:
        if read_meta(file)["key"] == key:
            return file
    except (DataError, KeyError, TypeError):
        pass  # not there, or cut off: it is made now
    steps, episodes = int(index.starts[-1]), len(index.shard)
    spec = chosen.embodiment({})
    plan: dict[str, tuple[str, tuple[int, ...]]] = {
        "state": ("<f4", (steps, len(spec.state))),
        "action": ("<f4", (steps, spec.action.size)),
    }
    if chosen.own:
        plan["time"] = ("<f8", (steps,))
    if chosen.thins:
        plan["row"] = ("<i8", (steps,))
    maker = _Maker(index, specification, chosen, cameras)
    with array_writer(file, plan) as out:
        maker.fill(out, episodes, progress)
        out.meta = {"key": key, "sizes": {name: list(size) for name, size in maker.sizes.items()}}
    return file


def camera_sizes(file: Path) -> dict[str, tuple[int, int]]:
    """Camera name to height and width [pixels]."""
    return {name: (size[0], size[1]) for name, size in read_meta(file)["sizes"].items()}


class _Maker:
    def __init__(self, index: RldsIndex, specification: Specification, chosen: Reading, cameras: Sequence[Camera]):
        self.index, self.reading = index, chosen
        self.sizes = {camera.name: _usual_size(index, camera) for camera in cameras}
        self.cameras = cameras
        used = [f"{STEPS}/{field}" for field in (*chosen.fields, *(camera.field for camera in cameras))]
        if chosen.instruction:
            within = isinstance(specification.steps.get(chosen.instruction), TextField)
            used.append(f"{STEPS}/{chosen.instruction}" if within else chosen.instruction)
        used += chosen.holds
        self.flaws: dict[int, dict[str, Any]] = {}
        for flaw in index.entries("flaws"):
            if flaw["field"] in used:
                self.flaws.setdefault(flaw["episode"], flaw)

    def fill(self, out: ArrayWriter, episodes: int, progress: Progress | None) -> None:
        starts, dropped = self.index.starts, self.reading.dropped
        kept: list[tuple[int, int, int]] = []
        broken: list[dict[str, Any]] = []
        rows: list[dict[str, np.ndarray]] = []
        waiting = written = 0
        for episode in range(episodes):
            start, stop = int(starts[episode]), int(starts[episode + 1])
            arrays, trouble = self._episode(episode, slice(start, stop))
            first, length = start + dropped[0], stop - start - sum(dropped)
            if self.reading.thins:
                arrays = self._thinned(arrays, start, trouble is None)
                first, length = written, len(arrays["row"])
                written += length
            rows.append(arrays)
            waiting += len(arrays["action"])
            if waiting >= _TOGETHER:
                _append(out, rows)
                waiting = 0
            if trouble is not None:
                broken.append(trouble)
            elif length > 0 and self._holds(episode):
                kept.append((episode, first, length))
            if progress is not None and (episode % 256 == 255 or episode == episodes - 1):
                progress(episode + 1, episodes)
        _append(out, rows)
        out.add("table", np.array(kept, dtype=np.int64).reshape(-1, 3))
        out.add("broken", json_lines(broken))

    def _holds(self, episode: int) -> bool:
        """Whether the data set says of the episode what the fixes ask for."""
        return all(self.index.arrays[f"episode/{field}"][episode, 0] for field in self.reading.holds)

    def _thinned(self, arrays: dict[str, np.ndarray], start: int, whole: bool) -> dict[str, np.ndarray]:
        """The steps that stay, with their rows in the index; none of an episode that cannot be used."""
        count = len(arrays["action"])
        first, last = self.reading.dropped
        stay = np.zeros(count, bool)
        if whole:
            numbers = {
                field: self.index.arrays[f"steps/{field}"][start : start + count] for field in self.reading.fields
            }
            stay[first : count - last] = self.reading.kept(numbers)[first : count - last]
        steps = np.flatnonzero(stay)
        return {name: values[steps] for name, values in arrays.items()} | {"row": start + steps}

    def _episode(self, episode: int, steps: slice) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
        """Rows of one episode, and what is wrong with it."""
        flaw = self.flaws.get(episode)
        trouble = (flaw["field"], flaw["expected"], flaw["found"]) if flaw else self._wrong_size(episode)
        if trouble is None:
            numbers = {field: self.index.arrays[f"steps/{field}"][steps] for field in self.reading.fields}
            state, action = self.reading.columns(numbers)
            arrays = {"state": state, "action": action}
            if self.reading.own:
                arrays["time"] = numbers[TIME_BITS][:, 0].astype(np.int64).view(np.float64)
            if all(np.isfinite(values).all() for values in arrays.values()):
                return arrays, None
            trouble = _not_finite(numbers, arrays)
        spec, count = self.reading.embodiment({}), steps.stop - steps.start
        empty = {"state": np.zeros((count, len(spec.state))), "action": np.zeros((count, spec.action.size))}
        if self.reading.own:
            empty["time"] = np.zeros(count)
        return empty, self._entry(episode, *trouble)

    def _wrong_size(self, episode: int) -> tuple[str, str, str] | None:
        for camera in self.cameras:
            found = self.index.arrays[f"sizes/{camera.field}"][episode]
            height, width = self.sizes[camera.name]
            if (found[0], found[1]) != (height, width):
                expected = f"pictures of {height}x{width} as in most episodes"
                return f"{STEPS}/{camera.field}", expected, f"{found[0]}x{found[1]}"
        return None

    def _entry(self, episode: int, field: str, expected: str, found: str) -> dict[str, Any]:
        shard = self.index.shards[int(self.index.shard[episode])]
        return {
            "shard": shard.place if shard else "",
            "offset": int(self.index.arrays["offset"][episode]),
            "record": int(self.index.arrays["record"][episode]),
            "missing": 1,
            "field": field,
            "expected": expected,
            "found": found,
        }


def _not_finite(numbers: dict[str, Shaped[np.ndarray, "t n"]], arrays: dict[str, np.ndarray]) -> tuple[str, str, str]:
    """Which field it comes from, and the step."""
    for field, values in numbers.items():
        if field != TIME_BITS and not (finite := np.isfinite(values)).all():
            step = int(np.nonzero(~finite)[0][0])
            return f"{STEPS}/{field}", "finite numbers", f"{values[step].tolist()} in step {step}"
    names = ", ".join(name for name, values in arrays.items() if not np.isfinite(values).all())
    return names, "finite numbers", "some that are not after the data set's fixes"


def _usual_size(index: RldsIndex, camera: Camera) -> tuple[int, int]:
    """Height and width of most episodes' pictures [pixels]."""
    sizes = index.arrays[f"sizes/{camera.field}"]
    known, counts = np.unique(sizes[sizes[:, 0] > 0], axis=0, return_counts=True)
    if not len(known):
        return 1, 1  # no episode has one: none will be kept
    height, width = known[int(counts.argmax())].tolist()
    return height, width


def _append(out: ArrayWriter, rows: list[dict[str, np.ndarray]]) -> None:
    for name in rows[0] if rows else ():
        out.append(name, np.concatenate([arrays[name] for arrays in rows]))
    rows.clear()


def kept_range(arrays: dict[str, np.ndarray], index: RldsIndex, start: int, stop: int) -> tuple[int, int]:
    """Rows of the episodes whose records lie from ``start`` to before ``stop``."""
    records = index.arrays["record"][arrays["table"][:, 0]]
    low, high = np.searchsorted(records, [start, stop])
    return int(low), int(high)


def entries(file: Path, index: RldsIndex, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """What is broken among the records from ``start`` to before ``stop``, in their order."""
    lines = RldsIndex(file, (), "", map_arrays(file)).entries("broken")
    for entry in sorted([*index.entries("broken"), *lines], key=lambda entry: entry["record"]):
        if entry["record"] < stop and entry["record"] + max(1, entry["missing"]) > start:
            yield entry
