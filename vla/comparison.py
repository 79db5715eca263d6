"""Two or more runs against each other: differences with intervals, exact tests, and what could have been seen at all.

::

    runs ─▶ pair ─┬─▶ rows paired:  exact McNemar, Newcombe's paired interval, Student's t and sign flips over tasks
                  └─▶ not paired:   exact test within tasks, Newcombe's interval for independent rates
         ─▶ Holm's correction over all comparisons made
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from vla.clustered import clustered_difference, sign_flip_exact
from vla.errors import ConfigError, DataError
from vla.harness_logs import is_harness_log, read_harness_log
from vla.intervals import holm, independent_difference, mcnemar_exact, paired_difference, stratified_exact
from vla.pairing import Paired, Pairing, TaskKey, pair, task_key, task_words
from vla.results import Result, by_row, read_results, summarise
from vla.sensitivity import ALPHA, smallest_independent, smallest_paired


@dataclass(frozen=True)
class Run:
    """A run to compare.

    Attributes:
        name: for people; no two runs share one.
        results: one a row.
        path: where it was read.
    """

    name: str
    results: tuple[Result, ...]
    path: Path


@dataclass(frozen=True)
class Contrast:
    """One run against another.

    Attributes:
        first: name of the first run; ``second`` of the second.
        pairing: what a pair of rows has in common, or ``"none"``.
        n: pairs compared, without errors; rows of both together if they are not paired.
        first_rate: success rate of the first over what is compared; ``second_rate`` likewise.
        both: pairs in which both succeeded; ``only_first``, ``only_second`` and ``neither`` likewise; None if not
            paired.
        difference: first rate minus second.
        low: of the difference's 95 % interval; ``high`` likewise.
        clustered: low and high of the interval with the task as the unit; None for fewer than two tasks, or unpaired.
        p_value: exact, two-sided: McNemar if paired, within tasks if not.
        favoured: name of the run that this test speaks for; empty if for neither. Not always the one with the higher
            rate: without pairs, one run may have had more rows of the easy tasks.
        p_tasks: exact sign-flip test of the tasks' differences; None if not paired.
        p_holm: ``p_value`` corrected for all comparisons made together.
        smallest: difference that would have been found with a probability of 0.8; None if none would.
        comparisons: how many were made together.
        first_only: rows of the first without a counterpart; ``second_only`` likewise.
        errors: pairs left out because a side ended in an error; rows with one, if not paired.
        warnings: sentences.
    """

    first: str
    second: str
    pairing: Pairing
    n: int
    first_rate: float
    second_rate: float
    both: int | None
    only_first: int | None
    only_second: int | None
    neither: int | None
    difference: float
    low: float
    high: float
    clustered: tuple[float, float] | None
    p_value: float
    favoured: str
    p_tasks: float | None
    p_holm: float
    smallest: float | None
    comparisons: int
    first_only: int
    second_only: int
    errors: int
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON value."""
        return asdict(self) | {"warnings": list(self.warnings)}


def read_runs(paths: Sequence[Path], names: Sequence[str] = ()) -> list[Run]:
    """Runs from result folders, Parquet files of results and logs of vla-evaluation-harness (a file, or a folder).

    A folder that holds several runs (the ``--out`` of ``vla eval --against``) gives all of them.

    Args:
        paths: of the runs.
        names: one for each run found; the paths' own names if empty.

    Raises:
        DataError: there is no run, or a file is damaged.
        ConfigError: a run has a row twice, or there are not as many names as runs, or one is there twice.
    """
    found = [run for path in paths for run in _runs(path)]
    if names and (len(names) != len(found) or len(set(names)) != len(names)):
        listing = ", ".join(str(run.path) for run in found)
        raise ConfigError(f"{len(found)} runs ({listing}) need as many different names, found {', '.join(names)}")
    for run in found:
        by_row(run.results)
    return [replace(run, name=name) for run, name in zip(found, names or _short([r.path for r in found]), strict=True)]


def _runs(path: Path) -> list[Run]:
    if path.suffix == ".parquet" or (path / "results.parquet").exists():
        folder = path.parent if path.name == "results.parquet" else path  # what the run is called after
        return [Run("", tuple(read_results(path)), folder)]
    if path.suffix == ".json":
        return [Run("", tuple(read_harness_log(path)), path)]
    if not path.is_dir():
        raise DataError(path, "file", expected="results (a folder, Parquet or a harness log)", found="nothing")
    inside = sorted(part for part in path.iterdir() if (part / "results.parquet").exists())
    inside.sort(key=lambda part: part.name != "trained")  # what its variants are compared with
    if inside:
        return [run for part in inside for run in _runs(part)]
    logs = [part for part in sorted(path.glob("*.json")) if is_harness_log(_json(part))]
    if not logs:
        raise DataError(path, "folder", expected="results.parquet or logs of vla-evaluation-harness", found="neither")
    return [Run("", tuple(result for log in logs for result in read_harness_log(log)), path)]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise DataError(path, "file", expected="JSON", found=str(error)) from error


def _short(paths: Sequence[Path]) -> list[str]:
    """As many last parts of each path as tell them all apart."""
    if not paths:
        return []
    parts = [path.resolve().with_suffix("").parts if path.suffix else path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"a run is there twice: {', '.join(map(str, paths))}")


def summarise_alike(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """:func:`vla.results.summarise` of each run, a task under the name that the first run which has it gives it.

    Logs of others name tasks by their sentence. A sentence that a run has in several scenes (libero_90) names none.
    """
    summaries = [summarise(run.results) for run in runs]
    names: dict[tuple[str, str], str] = {}
    for summary in summaries:
        words = [(cell["suite"], task_words(cell["task"])) for cell in summary["tasks"]]
        once = {key for key, count in Counter(words).items() if count == 1}
        for key, cell in zip(words, summary["tasks"], strict=True):
            if key in once:
                cell["task"] = names.setdefault(key, cell["task"])
    return summaries


def compare_runs(runs: Sequence[Run], *, all_pairs: bool = False) -> list[Contrast]:
    """The first run against each other one, or each against each, corrected for their number.

    Raises:
        ConfigError: there are fewer than two runs, or two have nothing that could be compared.
    """
    if len(runs) < 2:
        raise ConfigError(f"a comparison needs at least two runs, found {len(runs)}")
    pairs = list(combinations(runs, 2)) if all_pairs else [(runs[0], run) for run in runs[1:]]
    found = [contrast(first, second, comparisons=len(pairs)) for first, second in pairs]
    corrected = holm([one.p_value for one in found])
    return [replace(one, p_holm=value) for one, value in zip(found, corrected, strict=True)]


def contrast(first: Run, second: Run, *, comparisons: int = 1) -> Contrast:
    """One comparison; ``p_holm`` is left uncorrected, ``smallest`` is that of the strictest test among several.

    Raises:
        ConfigError: no row is left to compare.
    """
    matched = pair(first.results, second.results)
    if matched.kind != "none" and not matched.pairs:
        raise ConfigError(f"{first.name} and {second.name} have no row that both finished without an error")
    make = _unpaired if matched.kind == "none" else _paired
    return make(first, second, matched, comparisons)


def _paired(first: Run, second: Run, matched: Paired, comparisons: int) -> Contrast:
    split = Counter((a.success, b.success) for a, b in matched.pairs)
    both, only_first, only_second = split[True, True], split[True, False], split[False, True]
    n, neither = len(matched.pairs), split[False, False]
    difference, low, high = paired_difference(both, only_first, only_second, neither)
    task = task_key(first.results, second.results)
    counts = Counter(task(a) for a, _ in matched.pairs)
    gains = Counter(dict.fromkeys(counts, 0))
    for a, b in matched.pairs:
        gains[task(a)] += a.success - b.success
    by_task = [gains[name] for name in counts]
    p_value = mcnemar_exact(only_first, only_second)
    return Contrast(
        first=first.name,
        second=second.name,
        pairing=matched.kind,
        n=n,
        first_rate=(both + only_first) / n,
        second_rate=(both + only_second) / n,
        both=both,
        only_first=only_first,
        only_second=only_second,
        neither=neither,
        difference=difference,
        low=low,
        high=high,
        clustered=clustered_difference(by_task, list(counts.values())),
        p_value=p_value,
        favoured=_favoured(first, second, only_first - only_second),
        p_tasks=sign_flip_exact(by_task),
        p_holm=p_value,
        smallest=smallest_paired(n, only_first + only_second, alpha=ALPHA / comparisons),
        comparisons=comparisons,
        first_only=matched.first_only,
        second_only=matched.second_only,
        errors=matched.errors,
        warnings=matched.warnings,
    )


def _unpaired(first: Run, second: Run, matched: Paired, comparisons: int) -> Contrast:
    warnings = list(matched.warnings)
    name = task_key(first.results, second.results)
    ours, theirs = _by_task(first, name), _by_task(second, name)
    common = [task for task in ours if task in theirs]
    if common:
        tables = [(*ours[task], *theirs[task]) for task in common]
        left = (len(ours) - len(common), len(theirs) - len(common))
        if any(left):
            warnings.append(f"Only tasks in both runs are compared: {left[0]} and {left[1]} are in one only.")
        if len({first_n / second_n for _, first_n, _, second_n in tables}) > 1:
            warnings.append("Tasks have different shares in the two runs: trust the test, which is within tasks.")
    else:
        tables = [(*_sum(ours.values()), *_sum(theirs.values()))]
        warnings.append("The runs have no task in common: the difference is between tasks as well as policies.")
    first_solved, first_n, second_solved, second_n = (sum(table[place] for table in tables) for place in range(4))
    if not (first_n and second_n):
        raise ConfigError(f"{first.name} and {second.name} have no rows without an error to compare")
    difference, low, high = independent_difference(first_solved, first_n, second_solved, second_n)
    pooled = (first_solved + second_solved) / (first_n + second_n)
    p_value = stratified_exact(tables)
    excess = math.fsum(a - (a + b) * n / (n + m) for a, n, b, m in tables)  # of the first over what equals would share
    favoured = _favoured(first, second, excess)
    if favoured and favoured != _favoured(first, second, difference):
        warnings.append(f"Task by task {favoured} succeeds more often, although not over all rows together.")
    return Contrast(
        first=first.name,
        second=second.name,
        pairing="none",
        n=first_n + second_n,
        first_rate=first_solved / first_n,
        second_rate=second_solved / second_n,
        **dict.fromkeys(("both", "only_first", "only_second", "neither")),
        difference=difference,
        low=low,
        high=high,
        clustered=None,
        p_value=p_value,
        favoured=favoured,
        p_tasks=None,
        p_holm=p_value,
        smallest=smallest_independent(first_n, second_n, pooled, alpha=ALPHA / comparisons),
        comparisons=comparisons,
        first_only=len(first.results),
        second_only=len(second.results),
        errors=sum(result.status == "error" for run in (first, second) for result in run.results),
        warnings=tuple(warnings),
    )


def _favoured(first: Run, second: Run, lead: float) -> str:
    """Who leads, by what the first is ahead."""
    return "" if abs(lead) < 1e-9 else first.name if lead > 0 else second.name


def _by_task(run: Run, name: TaskKey) -> dict[tuple[str, str], tuple[int, int]]:
    """Successes and tries of each task, errors left out."""
    scored = [result for result in run.results if result.status != "error"]
    tries, solved = Counter(map(name, scored)), Counter(name(result) for result in scored if result.success)
    return {task: (solved[task], tries[task]) for task in tries}


def _sum(tables: Any) -> tuple[int, int]:
    pairs = list(tables)
    return sum(solved for solved, _ in pairs), sum(tries for _, tries in pairs)
