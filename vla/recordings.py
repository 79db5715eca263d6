"""Films and Rerun recordings of a run's rows: which are worth one, and the list of those there are.

::

    results ─ choose_rows ─▶ jobs ─▶ run once more ─▶ videos/ rrd/ recordings.json
"""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vla.episode_worker import EpisodeJob
from vla.errors import DataError
from vla.files import write_text
from vla.results import Result
from vla.rows import Row
from vla.workers import Answer, Crash

RANK = {"failure": 0, "error": 1, "success": 2}
"""What people want to see first."""

_FIELDS = frozenset(("name", "row", "status", "steps", "measured", "video", "rrd"))


def choose_rows(results: Sequence[Result], count: int) -> list[Row]:
    """Rows worth looking at: failures first, then successes, the tasks in turn; never errors."""
    chosen: list[Row] = []
    for status in ("failure", "success"):
        tasks: dict[tuple[str, str], list[Row]] = {}
        for result in results:
            if result.status == status:
                tasks.setdefault((result.row.suite, result.row.task), []).append(result.row)
        for round_ in itertools.zip_longest(*tasks.values()):
            chosen += [row for row in round_ if row is not None]
    return chosen[:count]


def jobs_for(rows: Sequence[Row], out: Path, videos: int, recordings: int) -> list[EpisodeJob]:
    """The first ``videos`` rows to film, the first ``recordings`` to record, each with the files it is to leave."""
    jobs = []
    for place, row in enumerate(rows[: max(videos, recordings)]):
        name = file_name(row)
        video = out / "videos" / f"{name}.mp4" if place < videos else None
        rrd = out / "rrd" / f"{name}.rrd" if place < recordings else None
        jobs.append(EpisodeJob(row, video, rrd))
    return jobs


def unrecorded(jobs: Sequence[EpisodeJob], out: Path) -> list[EpisodeJob]:
    """Those whose files are not there yet."""
    noted = {entry["name"] for entry in read_recordings(out)}
    return [
        job
        for job in jobs
        if file_name(job.row) not in noted or any(file and not file.exists() for file in (job.video, job.rrd))
    ]


def note(answer: Answer, measured: Result, jobs: Sequence[EpisodeJob], out: Path) -> None:
    """Add one to ``recordings.json``: failures first, then in the order of ``jobs``, then whatever was there before.

    The recorded run's own outcome is told beside the measured one.
    """
    job, crashed = answer.job, isinstance(answer.value, Crash)
    made = {entry["name"]: entry for entry in read_recordings(out)}
    before = made.get(file_name(job.row), {})
    made[file_name(job.row)] = {
        "name": file_name(job.row),
        "row": job.row.to_json(),
        "status": "error" if crashed else answer.value.status,
        "steps": 0 if crashed else answer.value.steps,
        "measured": measured.status,
        "video": _there(job.video, out) or before.get("video"),
        "rrd": _there(job.rrd, out) or before.get("rrd"),
    }
    order = {name: place for place, name in enumerate(file_name(job.row) for job in jobs)}
    kept = sorted(made.values(), key=lambda entry: (RANK[entry["measured"]], order.get(entry["name"], len(order))))
    write_text(out / "recordings.json", json.dumps(kept, indent=1) + "\n")


def read_recordings(out: Path) -> list[dict[str, Any]]:
    """What was recorded in a run's folder, most interesting first; empty if nothing was.

    Each has ``name``, ``row``, ``status`` and ``steps`` of the recorded run, ``measured`` (the status of the run that
    counts), ``video`` and ``rrd``, paths relative to the folder or None.

    Raises:
        DataError: the list is damaged, or names a file outside the folder.
    """
    path = out / "recordings.json"
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(path, "file", expected="a list of recordings", found=str(error)) from error
    if not isinstance(entries, list):
        raise DataError(path, "file", expected="a list of recordings", found=type(entries).__name__)
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not entry.keys() >= _FIELDS or entry["measured"] not in RANK:
            raise DataError(
                path, f"entry {number}", expected=f"an object with {', '.join(sorted(_FIELDS))}", found=str(entry)[:80]
            )
        if outside := [entry[kind] for kind in ("video", "rrd") if not _is_inside(entry[kind])]:
            raise DataError(path, f"entry {number}", expected="files inside this folder", found=str(outside[0]))
    return entries


def _is_inside(name: str | None) -> bool:
    """Whether a recorded file's name stays in the run's folder, which may have come from another machine."""
    return name is None or not (Path(name).is_absolute() or ".." in Path(name).parts)


def _there(path: Path | None, folder: Path) -> str | None:
    return str(path.relative_to(folder)) if path and path.exists() else None


def file_name(row: Row) -> str:
    """Of what is recorded of a row, without an ending."""
    task = re.sub(r"[^a-z0-9]+", "-", row.task.lower()).strip("-")[:80]
    place = f"init{row.init}" if row.init >= 0 else f"sampled{row.widen:g}"
    return f"{row.suite}-{task}-{place}-seed{row.seed}"
