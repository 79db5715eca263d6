"""``report.html``: what was measured and how, in one page that opens from disk and that a stranger can read."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vla.charts import curve
from vla.errors import ConfigError, DataError
from vla.recordings import read_recordings
from vla.report_style import MAX_RUNS, write_page
from vla.report_tables import success_tables
from vla.report_text import (
    count_said,
    data_sets,
    errors_said,
    fact_list,
    interval_said,
    protocol_said,
    rows_said,
    scene_said,
    settings_said,
    task_said,
)
from vla.results import Comparison, Result, compare, read_results, summarise
from vla.rows import Row


@dataclass(frozen=True)
class NamedRun:
    """A run to show.

    Attributes:
        name: for people, e.g. ``"trained"``.
        folder: that :func:`~vla.evaluate.run_rows` wrote.
    """

    name: str
    folder: Path


@dataclass(frozen=True)
class _Run:
    name: str
    folder: Path
    results: list[Result]
    summary: dict[str, Any]
    protocol: dict[str, Any]
    recordings: list[dict[str, Any]]


def write_report(
    out: Path,
    runs: Sequence[NamedRun],
    *,
    title: str = "",
    training: Path | None = None,
    data: Mapping[str, Mapping[str, Any]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``report.html`` into ``out``; films are linked where they lie, everything else is inside the page.

    Args:
        out: folder; best one that holds the runs' folders, so that all can be moved together.
        runs: one to six, the most important first: the others are compared with it.
        title: of the page; made from the suites' names if empty.
        training: a training run's folder, with ``metrics.jsonl``.
        data: name of each data set that was trained on to what :func:`vla.describe.info` says of it.
        facts: anything else to tell; nested values become JSON.

    Returns:
        the file.

    Raises:
        ConfigError: there is no run, or more than six.
        DataError: a file of a run is missing or damaged; nothing is written.
    """
    if not 1 <= len(runs) <= MAX_RUNS:
        raise ConfigError(f"a report shows one to {MAX_RUNS} runs, found {len(runs)}")
    read = [_read(run) for run in runs]
    suites = list(dict.fromkeys(result.row.suite for result in read[0].results))
    title = title or f"Policy evaluation: {', '.join(suites)}"
    sections = [
        _headline(read),
        success_tables([run.name for run in read], [run.summary for run in read]),
        _films(read, out),
        _training(training) if training else "",
        data_sets(data or {}),
        _protocol(read, facts or {}, out),
        _rows(read),
    ]
    return write_page(
        out / "report.html", title, sections, note=" The numbers are in <code>results.parquet</code> of each run."
    )


def _read(run: NamedRun) -> _Run:
    results = read_results(run.folder)
    path = run.folder / "protocol.json"
    try:
        protocol = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(path, "file", expected="the protocol of a run", found=str(error)) from error
    return _Run(run.name, run.folder, results, summarise(results), protocol, read_recordings(run.folder))


def _headline(runs: Sequence[_Run]) -> str:
    cards = []
    for place, run in enumerate(runs):
        cell = run.summary["total"]
        rate = "–" if cell["rate"] is None else f"{100 * cell['rate']:.0f} %"
        errors = f"<br>{errors_said(cell)}, not counted" if cell["errors"] else ""
        cards.append(
            f'<div class="figure run-{place}"><div class="name">{escape(run.name)}</div><div class="rate">{rate}</div>'
            f'<div class="note">{cell["successes"]} of {cell["n"]} episodes solved{errors}<br>'
            f"95 % interval {interval_said(cell)}</div></div>"
        )
    total = runs[0].summary["total"]
    tasks = len(runs[0].summary["tasks"])
    lead = (
        f"The policy <b>{escape(runs[0].name)}</b> solved {total['successes']} of {total['n']} episodes "
        f"of {count_said(tasks, 'task')}."
    )
    sentences = [_compared(runs[0], run) for run in runs[1:]]
    return f'<p class="lead">{lead}</p><div class="figures">{"".join(cards)}</div>{"".join(sentences)}'


def _compared(first: _Run, other: _Run) -> str:
    names = f"<b>{escape(first.name)}</b> against <b>{escape(other.name)}</b>"
    try:
        found: Comparison = compare(first.results, other.results, allow_missing=True)
    except ConfigError as error:
        return f"<p>{names}: {escape(str(error))}.</p>"
    left_out = f" {count_said(found.left_out, 'row')} left out for an error or because only one side ran it." * (
        found.left_out > 0
    )
    return (
        f"<p>{names}, on the same {found.n} episodes: {100 * found.difference:+.0f} percentage points "
        f"(95 % interval {100 * found.low:+.0f} to {100 * found.high:+.0f}). {found.only_first} were solved by the "
        f"first only, {found.only_second} by the second only; if both were equally good, a split at least as uneven "
        f"would have probability {_probability(found.p_value)} (exact McNemar test).{left_out}</p>"
    )


def _films(runs: Sequence[_Run], out: Path) -> str:
    parts = []
    for run in runs:
        filmed = [entry for entry in run.recordings if entry.get("video")]
        if filmed:
            cards = "".join(_film(entry, run.folder, out) for entry in filmed)
            parts.append(f'<h3>{escape(run.name)}</h3><div class="films">{cards}</div>')
    if not parts:
        return ""
    note = (
        "Failures first. Chosen episodes were run once more with cameras on, from the same scene and the same seed, so "
        "that filming does not slow what is measured. <code>vla eval rrd FOLDER --failures</code> records more of them."
    )
    return f'<h2>Films</h2><p class="soft small">{note}</p>{"".join(parts)}'


def _film(entry: Mapping[str, Any], folder: Path, out: Path) -> str:
    row = Row(**entry["row"])
    differs = f" (when measured: {escape(entry['measured'])})" if entry["measured"] != entry["status"] else ""
    rrd = f"<br><code>rerun {escape(_plain_link(folder / entry['rrd'], out))}</code>" if entry.get("rrd") else ""
    return (
        f'<div class="film"><video controls muted loop playsinline preload="auto" '
        f'src="{_link(folder / entry["video"], out)}"></video><div class="what">'
        f'<span class="chip {escape(entry["status"])}">{escape(entry["status"])}</span>{differs} '
        f"after {entry['steps']} steps<br>{escape(task_said(row.task))}"
        f'<br><span class="soft">{escape(row.suite)}, {scene_said(row)}</span>{rrd}</div></div>'
    )


_METRICS = {
    "loss": "Loss",
    "lr": "Learning rate",
    "samples_per_s": "Samples per second",
}


def _training(folder: Path) -> str:
    path = folder / "metrics.jsonl"
    lines = _json_lines(path)
    names = [name for name in dict.fromkeys(key for line in lines for key in line) if name not in ("step", "minutes")]
    if len(lines) < 2:
        return f'<h2>Training</h2><p class="soft">{count_said(len(lines), "logged step")}: no curves to draw.</p>'
    figures = []
    for name in names:
        points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
        chart = curve([x for x, _ in points], [y for _, y in points], label=name, x_label="step")
        figures.append(f"<figure><figcaption>{escape(_METRICS.get(name, name))}</figcaption>{chart}</figure>")
    last = lines[-1]
    minutes = f" in {last['minutes']:.1f} minutes" if "minutes" in last else ""
    return (
        f"<h2>Training</h2><p>{last['step']:,} optimizer steps{minutes}. Horizontal axes count steps; pale lines are "
        f'single values, strong ones their running median.</p><div class="curves">{"".join(figures)}</div>'
    )


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a log that a kill may have cut off in its last line."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise DataError(path, "file", expected="training metrics", found=str(error)) from error
    result = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            value["step"]
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise DataError(path, f"line {number}", expected="JSON with a step", found=line[:80]) from error
        result.append(value)
    return result


def _protocol(runs: Sequence[_Run], facts: Mapping[str, Any], out: Path) -> str:
    shared = fact_list({"Rows": rows_said(runs[0].results), **facts})
    parts = []
    for run in runs:
        protocol = run.protocol
        versions = sorted({json.dumps(result.versions, sort_keys=True) for result in run.results if result.versions})
        checkpoints = sorted({result.checkpoint for result in run.results if result.checkpoint})
        latency = run.summary["total"]["latency_s"]
        said: dict[str, Any] = {
            "Policy": settings_said(protocol.get("policy")),
            "Weights": ", ".join(checkpoints),
            "Embodiment": protocol.get("embodiment") or "",
            **protocol_said(protocol.get("protocol") or {}),
            "Benchmark": settings_said(protocol.get("benchmark")),
            "Executed": "" if protocol.get("protocol") else _executed(protocol.get("execute")),
            "Policy process": "" if protocol.get("batch") is None else
            f"one for all simulators, {protocol['batch']} observations at once",
            "Inference": "" if latency is None else f"{1000 * latency:.3g} ms on average",
            "Rows": "" if _same_rows(run, runs[0]) else rows_said(run.results),
            "Versions": [", ".join(f"{k} {v}" for k, v in json.loads(one).items()) for one in versions],
            "Rerun": [f"rerun {_plain_link(run.folder / e['rrd'], out)}" for e in run.recordings if e.get("rrd")],
        }  # fmt: skip
        parts.append(f"<div><h3>{escape(run.name)}</h3>{fact_list(said)}</div>")
    note = (
        "The rows (task, initial state, seed) were fixed before the first episode. Success is the environment's own "
        "test during the episode."
    )
    return f'<h2>How it was measured</h2><p>{note}</p>{shared}<div class="columns">{"".join(parts)}</div>'


def _executed(execute: int | None) -> str:
    return (
        "all actions of a chunk"
        if execute is None
        else f"{execute} actions of each chunk before the policy looks again"
    )


def _rows(runs: Sequence[_Run]) -> str:
    table: dict[Row, dict[int, Result]] = {}
    for place, run in enumerate(runs):
        for result in run.results:
            table.setdefault(result.row, {})[place] = result
    head = "".join(f"<th>{escape(run.name)}</th>" for run in runs)
    lines = []
    for row in sorted(table):
        cells = []
        for place in range(len(runs)):
            result = table[row].get(place)
            if result is None:
                cells.append("<td>–</td>")
                continue
            why = f'<br><span class="soft small">{escape(result.error)}</span>' if result.error else ""
            said = result.error_kind or result.status
            cells.append(f'<td><span class="chip {result.status}">{said}</span> {result.steps}{why}</td>')
        lines.append(f"<tr><td>{escape(task_said(row.task))}</td><td>{scene_said(row)}</td>{''.join(cells)}</tr>")
    return (
        f"<details><summary>All {len(table)} rows, with steps</summary>"
        f'<div class="scroll"><table><tr><th>Task</th><th>Scene</th>{head}</tr>{"".join(lines)}</table></div></details>'
    )


def _same_rows(run: _Run, other: _Run) -> bool:
    return {result.row for result in run.results} == {result.row for result in other.results}


def _probability(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else "below 0.0001"


def _plain_link(path: Path, out: Path) -> str:
    return os.path.relpath(path, out)


def _link(path: Path, out: Path) -> str:
    return quote(Path(os.path.relpath(path, out)).as_posix())
