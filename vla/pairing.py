"""Which results of two runs belong together: the same row, the same scene, or only the same task.

::

    row     suite, task, initial state, seed: the same scene, and the same seed of the policy's noise
    scene   suite, task, initial state, whatever the seeds: logs of others, or a run with another rule for seeds
    none    nothing can be paired: tasks are compared as wholes
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vla.ledger import differences
from vla.results import Result, by_row

Pairing = Literal["row", "scene", "none"]
_SCENE_PREFIX = re.compile(r"^[A-Z][A-Z_]*SCENE\d+_")
_MANY_ERRORS = 0.02


@dataclass(frozen=True)
class Paired:
    """Two runs, matched.

    Attributes:
        kind: what a pair has in common.
        pairs: of results without an error on either side.
        first_only: results of the first without a counterpart; ``second_only`` likewise.
        errors: pairs left out because a side ended in an error.
        warnings: what a reader has to know, sentences.
    """

    kind: Pairing
    pairs: tuple[tuple[Result, Result], ...]
    first_only: int
    second_only: int
    errors: int
    warnings: tuple[str, ...]


def task_words(task: str) -> str:
    """A task as its sentence: ``KITCHEN_SCENE3_turn_on_the_stove`` is ``turn on the stove``, as logs of others say."""
    return " ".join(_SCENE_PREFIX.sub("", task).replace("_", " ").lower().split())


type TaskKey = Callable[[Result], tuple[str, str]]
"""Suite and name of a result's task."""


def task_key(first: Sequence[Result], second: Sequence[Result]) -> TaskKey:
    """What names the tasks of two runs alike: their own names if any of them is in both, else their sentences.

    Logs of others have sentences only, which say less: LIBERO-90 has 90 tasks and 74 sentences, because the same is to
    be done in several scenes.
    """
    if {_named(result) for result in first} & {_named(result) for result in second}:
        return _named
    return lambda result: (result.row.suite, task_words(result.row.task))


def _named(result: Result) -> tuple[str, str]:
    return result.row.suite, result.row.task


def pair(first: Sequence[Result], second: Sequence[Result]) -> Paired:
    """Match two runs row by row, else scene by scene.

    Raises:
        ConfigError: a row is there twice in one run.
    """
    for results in (first, second):
        by_row(results)  # refuses a row that is there twice
    kind, ours, theirs = _best(first, second)
    common = [key for key in ours if key in theirs]
    pairs = [(ours[key], theirs[key]) for key in common]
    counted = [pair for pair in pairs if all(result.status != "error" for result in pair)]
    first_only, second_only = len(first) - len(common), len(second) - len(common)
    warnings: list[str] = []
    if kind == "none":
        warnings.append(
            "No row of one run is in the other: compared as independent samples, task by task. Run both on the same "
            "rows for a much sharper comparison."
        )
    elif kind == "scene":
        warnings.append("The seeds differ: paired by suite, task and number of the initial state.")
    if kind != "none" and (first_only or second_only):
        warnings.append(f"Only rows in both runs are compared: {first_only} and {second_only} have no counterpart.")
    errors = [result for result in (*first, *second) if result.status == "error"]
    if len(errors) > _MANY_ERRORS * (len(first) + len(second)):
        warnings.append(
            f"{len(errors)} rows ended in an error and are left out; if a policy causes them, that flatters it."
        )
    warnings += made_differently(first, second)
    return Paired(kind, tuple(counted), first_only, second_only, len(pairs) - len(counted), tuple(warnings))


def _best(
    first: Sequence[Result], second: Sequence[Result]
) -> tuple[Pairing, dict[Hashable, Result], dict[Hashable, Result]]:
    """The way that pairs more rows; the row itself if both pair as many."""
    found: list[tuple[int, Pairing, dict[Hashable, Result], dict[Hashable, Result]]] = []
    task = task_key(first, second)

    def scene(result: Result) -> Hashable:
        return (*task(result), result.row.init) if result.row.init >= 0 else result.row

    ways: list[tuple[Pairing, Callable[[Result], Hashable]]] = [("row", lambda r: r.row), ("scene", scene)]
    for kind, key in ways:
        ours, theirs = _unique(first, key), _unique(second, key)
        found.append((len(ours.keys() & theirs.keys()), kind, ours, theirs))
    count, kind, ours, theirs = max(found, key=lambda way: way[0])
    return (kind, ours, theirs) if count else ("none", {}, {})


def _unique(results: Sequence[Result], key: Callable[[Result], Hashable]) -> dict[Hashable, Result]:
    """By key; what is there several times says not which of them is meant, and is left out."""
    counts = Counter(map(key, results))
    return {key(result): result for result in results if counts[key(result)] == 1}


def made_differently(first: Sequence[Result], second: Sequence[Result]) -> list[str]:
    """Sentences on settings and versions that are known of both runs and differ."""
    lines = []
    for what, field in (("The protocols", "protocol"), ("The versions", "versions")):
        ours, theirs = _said(first, field), _said(second, field)
        both = ours.keys() & theirs.keys() - {"name"}
        found = differences({key: ours[key] for key in sorted(both)}, {key: theirs[key] for key in sorted(both)})
        if found:
            shown = "; ".join(line.replace(" there, ", " first, ").replace(" now", " second") for line in found)
            lines.append(f"{what} differ: {shown}.")
    return lines


def _said(results: Sequence[Result], field: str) -> dict[str, Any]:
    """Settings of a run; where its own results disagree (several suites), none."""
    said: dict[str, Any] = {}
    mixed: set[str] = set()
    for result in results:
        for key, value in getattr(result, field).items():
            mixed |= {key} if said.setdefault(key, value) != value else set()
    return {key: value for key, value in said.items() if key not in mixed}
