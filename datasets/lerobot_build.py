"""One pass over the tables of a LeRobot data set: which episodes can be read, where each lies, and all its numbers.

::

    listing (what the tables say) ─▶ videos: there, long enough ─▶ rows: there, as many, finite ─▶ totals ─▶ arrays
                                           └──────────── each deviation is a quirk ────────────┘
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from vla.datasets.lerobot_checks import check_statistics, check_totals
from vla.datasets.lerobot_films import check_films
from vla.datasets.lerobot_info import Info
from vla.datasets.lerobot_layout import MANIFEST_FILE
from vla.datasets.lerobot_listing import Listing, Tables
from vla.datasets.lerobot_meter import Meter
from vla.datasets.lerobot_parquet import integers, matrix, read_table
from vla.datasets.lerobot_spool import Spool, Texts, line_places
from vla.datasets.lerobot_stated import check_stated
from vla.datasets.lerobot_stills import check_stills
from vla.datasets.lerobot_tally import Tally
from vla.datasets.manifest import folder_changes
from vla.errors import DataError
from vla.protocols import Progress

_LATE = 0.1  # of a step: by how much time stamps may be off


@dataclass(frozen=True)
class Wanted:
    """What is read of a data set.

    Attributes:
        fields: features of numbers and how many each has.
        clock: column of measured times; empty if there is none beside ``timestamp``.
        instruction: column of texts or of their numbers in the table of tasks.
        cameras: features of pictures.
        format: of our own vla.json; 0 for data of others.
    """

    fields: tuple[tuple[str, int], ...]
    clock: str
    instruction: str
    cameras: tuple[str, ...]
    format: int


@dataclass
class _Build:
    """The pass under way.

    Attributes:
        keep: which listed episodes can be read.
        steps: of each that can be read.
        start: number of the first row of each in the columns.
        row: its first row in its data file.
    """

    info: Info
    listing: Listing
    wanted: Wanted
    tally: Tally
    spool: Spool
    texts: Texts
    keep: np.ndarray
    steps: Int64[np.ndarray, "n"]
    start: Int64[np.ndarray, "n"]
    row: Int64[np.ndarray, "n"]
    meter: Meter
    rows: int = 0  # of listed episodes in the data files
    written: int = 0

    def leave_out(self, kind: str, file: Path, where: str, index: int, *, expected: str, found: str) -> None:
        remedy, episode = "the episode is left out", int(self.listing.number[index])
        self.tally.add(kind, file, where, expected=expected, found=found, remedy=remedy, episode=episode)
        self.keep[index] = False

    def read(self) -> None:
        """All data files, in their order."""
        places, group = np.unique(self.listing.place, axis=0, return_inverse=True)
        order = np.argsort(group.reshape(-1), kind="stable")
        ends = np.cumsum(np.bincount(group.reshape(-1), minlength=len(places)))
        for number, (chunk, file) in enumerate(places.tolist()):
            members = order[(ends[number - 1] if number else 0) : ends[number]]
            path = self.info.data_file(chunk, file)
            if path.is_file():
                self._file(path, members)
            else:
                for index in members:
                    self.leave_out("missing-data", path, "file", index, expected="a data file", found="nothing there")
            self.meter.step(len(members))
        if not self.rows:
            first = self.info.data_file(*places[0].tolist())
            found = f"nothing there, nor any of the {len(places)} data files"
            raise DataError(first, "file", expected="a data file", found=found)

    def _file(self, path: Path, members: Int64[np.ndarray, "m"]) -> None:
        wanted, single = self.wanted, self.listing.first is None
        names = [name for name, _ in wanted.fields]
        required = [*names, *([] if single else ["episode_index"]), *filter(None, (wanted.clock, wanted.instruction))]
        table = read_table(path, required, ["timestamp", "episode_index", "index"])
        columns = {name: matrix(table[name], width, path, name) for name, width in wanted.fields}
        for name in ("timestamp", wanted.clock):
            if name in table:
                columns[name] = matrix(table[name], 1, path, name)
        runs = self._runs(path, table, columns, members)
        for index in members.tolist():
            first, count = runs.get(int(self.listing.number[index]), (0, 0))
            self._episode(path, table, columns, index, slice(first, first + count))

    def _runs(
        self, path: Path, table: dict[str, Any], columns: dict[str, np.ndarray], members: Int64[np.ndarray, "m"]
    ) -> dict[int, tuple[int, int]]:
        """First row and number of rows of each episode in a file."""
        if "episode_index" not in table:
            return {int(self.listing.number[members[0]]): (0, len(next(iter(columns.values()))))}
        owner = integers(table, "episode_index", path)
        starts = np.flatnonzero(np.diff(owner, prepend=owner[:1] - 1))
        counts = np.diff(starts, append=len(owner))
        listed = {int(number) for number in self.listing.number[members]}
        if self.listing.first is None:
            number = int(self.listing.number[members[0]])
            if len(owner) and not (owner == number).all():
                self.tally.add(
                    "wrong-episode-index",
                    path,
                    "episode_index",
                    expected="the number in the file's name",
                    found=f"{int(owner[owner != number][0])} in the file of {number}",
                    remedy="the file's name counts",
                    episode=number,
                )
            return {number: (0, len(owner))}
        runs: dict[int, tuple[int, int]] = {}
        for number, start, count in zip(owner[starts].tolist(), starts.tolist(), counts.tolist(), strict=True):
            if number in runs:
                found = f"episode {number} at row {runs[number][0]} and again at row {start}"
                raise DataError(path, "episode_index", expected="the rows of an episode side by side", found=found)
            runs[number] = (start, count)
            if number not in listed:
                self.tally.add(
                    "unlisted-rows",
                    path,
                    "episode_index",
                    expected="only episodes of the table of episodes",
                    found=f"{count} rows of one that it does not have there",
                    remedy="the rows are left out",
                    episode=number,
                )
        self._check_ranges(path, table, runs, members)
        return runs

    def _check_ranges(
        self, path: Path, table: dict[str, Any], runs: dict[int, tuple[int, int]], members: Int64[np.ndarray, "m"]
    ) -> None:
        if "index" not in table or self.listing.first is None:
            return
        numbers = integers(table, "index", path)
        for index in members.tolist():
            episode, first = int(self.listing.number[index]), int(self.listing.first[index])
            row = runs.get(episode, (0, 0))
            if row[1] and numbers[row[0]] != first:
                self.tally.add(
                    "wrong-range",
                    self.listing.file,
                    "dataset_from_index",
                    expected=f"{numbers[row[0]]}, the index of the episode's first row",
                    found=str(first),
                    remedy="rows are found by their episode_index",
                    episode=episode,
                )

    def _episode(
        self, path: Path, table: dict[str, Any], columns: dict[str, np.ndarray], index: int, rows: slice
    ) -> None:
        episode, count, listed = (
            int(self.listing.number[index]),
            rows.stop - rows.start,
            int(self.listing.length[index]),
        )
        self.rows += count
        if not count:
            self.leave_out("missing-rows", path, "rows", index, expected=f"{listed} rows", found="none")
            return
        if count != listed:
            self.tally.add(
                "wrong-length",
                self.listing.file,
                "length",
                expected=f"{count}, the rows in {path.name}",
                found=str(listed),
                remedy="the rows count",
                episode=episode,
            )
        if self.steps[index] == listed:
            self.steps[index] = count  # else a video is too short, which weighs more
        self.steps[index] = min(self.steps[index], count)
        stamps = self._stamps(path, columns, rows, episode)
        spooled: dict[str, np.ndarray] = {"text": self.texts.numbers(table, rows, episode, path).astype(np.int32)}
        clock = columns[self.wanted.clock][rows, 0] if self.wanted.clock else stamps
        for name, values in (
            *((f"column/{name}", columns[name][rows]) for name, _ in self.wanted.fields),
            ("time", clock),
        ):
            with np.errstate(over="ignore"):
                spooled[name] = values.astype(np.float64 if name == "time" else np.float32)
            wrong = np.argwhere(~np.isfinite(spooled[name]))
            if len(wrong):
                field = (self.wanted.clock or "timestamp") if name == "time" else name.removeprefix("column/")
                found = f"{values[tuple(wrong[0])]} in step {wrong[0][0]}"
                self.leave_out("not-finite", path, field, index, expected="finite numbers", found=found)
        if self.keep[index]:
            for name, values in spooled.items():
                self.spool.add(name, values)
            self.start[index], self.row[index] = self.written, rows.start
            self.written += count

    def numbers(self, number: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """Columns of an episode that is whole; None for another."""
        index = int(np.searchsorted(self.listing.number, number))
        if index == len(self.keep) or self.listing.number[index] != number or not self.keep[index]:
            return None
        if self.steps[index] != self.listing.length[index]:
            return None
        rows = slice(self.start[index], self.start[index] + self.steps[index])
        return {name: arrays[f"column/{name}"][rows] for name, _ in self.wanted.fields}

    def _stamps(
        self, path: Path, columns: dict[str, np.ndarray], rows: slice, episode: int
    ) -> Float64[np.ndarray, "t"]:
        """Times since the episode's first step [s]; compared with the rate."""
        period, steps = 1 / self.info.fps, np.arange(rows.stop - rows.start)
        if "timestamp" not in columns:
            expected, remedy = "a column of times", f"steps are {period:g} s apart"
            self.tally.add("missing-timestamps", path, "timestamp", expected=expected, found="none", remedy=remedy)
            return steps * period
        stamps = columns["timestamp"][rows, 0].astype(np.float64)
        since = stamps - stamps[0]
        if not math.isfinite(stamps[0]) or abs(stamps[0]) > _LATE * period:
            expected, found = "0 in an episode's first step", f"{stamps[0]:.4g} s"
            remedy = "times count from the first step; step i has picture i"
            self.tally.add(
                "late-timestamps", path, "timestamp", expected=expected, found=found, remedy=remedy, episode=episode
            )
        off = np.flatnonzero(np.abs(since - steps * period) > _LATE * period)
        if len(off):
            step = int(off[0])
            expected, found = f"step i at i/fps, step {step} at {step * period:.4f} s", f"{since[step]:.4f} s"
            remedy = "times are as stored; step i has picture i"
            self.tally.add(
                "uneven-timestamps", path, "timestamp", expected=expected, found=found, remedy=remedy, episode=episode
            )
        return since


def build(
    info: Info, tables: Tables, wanted: Wanted, folder: Path, progress: Progress | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and facts of an index (see :class:`~vla.datasets.lerobot_index.LeRobotIndex`).

    Args:
        info: the data set.
        tables: how its version writes them.
        wanted: what to read.
        folder: empty, for columns on their way.
        progress: told how many of the episodes' rows and videos were looked at, and how many there are.

    Raises:
        DataError: damage that cannot be read around, or no episode is left.
    """
    listing, tally = tables.episodes(info), Tally()
    count = len(listing.number)
    if listing.number[-1] != count - 1:
        missing = int(np.flatnonzero(listing.number != np.arange(count))[0])
        expected, remedy = "0, 1, 2, ...", "the others are read under their own numbers"
        found = f"no episode {missing}, {listing.number[-1] + 1 - count} missing in all"
        tally.add("episode-gap", listing.file, "episode_index", expected=expected, found=found, remedy=remedy)
    tasks = tables.tasks(info)
    texts = Texts(info, tasks, wanted.instruction, wanted.format > 0, tally)
    films_wanted = sum(camera.dtype == "video" and camera.name in wanted.cameras for camera in info.cameras)
    zeros = np.zeros(count, dtype=np.int64)
    state = _Build(
        info,
        listing,
        wanted,
        tally,
        Spool(folder),
        texts,
        np.ones(count, bool),
        listing.length.copy(),
        zeros,
        zeros.copy(),
        Meter(f"{info.folder}, episodes", count * (1 + films_wanted), progress),
    )
    films = check_films(info, listing, wanted.cameras, tally, state.keep, state.steps, state.meter)
    state.read()
    state.keep &= state.steps > 0
    stills = check_stills(info, listing, wanted.cameras, tally, state.keep, state.row)
    check_totals(
        info,
        tally,
        {
            "total_episodes": count,
            "total_frames": state.rows,
            "total_tasks": len(tasks),
            "total_chunks": int(listing.place[:, 0].max()) + 1 if listing.first is None else None,
        },
    )
    check_statistics(info, tables.statistics, [name for name, _ in wanted.fields], tally)
    if not state.keep.any():
        quirk = tally.quirks()[0]
        raise DataError(quirk.file, quirk.field, expected=quirk.expected, found=f"{quirk.found}: no episode is left")
    keep = np.flatnonzero(state.keep)
    arrays = state.spool.arrays() | texts.arrays()
    check_stated(info, [name for name, _ in wanted.fields], lambda number: state.numbers(number, arrays), tally)
    arrays |= {
        "position": keep,
        "number": listing.number[keep],
        "steps": state.steps[keep],
        "start": state.start[keep],
        "place": listing.place[keep],
        "row": state.row[keep],
    }
    for key in films:
        arrays[f"film/{key}"] = listing.videos[key][keep]
        arrays[f"film_start/{key}"] = listing.video_start[key][keep]
    arrays |= line_places(info, count, keep)
    sizes = {key: list(size) for key, size in (films | stills).items()}
    found = tally.quirks()
    if wanted.format > 1:  # a missing file of data is a quirk of its own
        changed = folder_changes(info.folder / MANIFEST_FILE, info.folder, named_elsewhere=("data/", "videos/"))
        found = (changed, *found) if changed else found
    quirks = [vars(quirk) for quirk in found]
    return arrays, {"sizes": sizes, "films": list(films), "listed": count, "quirks": quirks}
