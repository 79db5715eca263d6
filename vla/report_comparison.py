"""``comparison.html``: runs against each other, in one page that opens from disk and that a stranger can read."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from vla.charts import Difference, differences
from vla.comparison import Contrast, Run, summarise_alike
from vla.errors import ConfigError
from vla.report_style import MAX_RUNS, write_page
from vla.report_tables import success_tables
from vla.report_text import count_said, fact_list, rows_said
from vla.results import Result
from vla.sensitivity import ALPHA

_SHOWN = 200


def write_comparison(out: Path, runs: Sequence[Run], contrasts: Sequence[Contrast]) -> Path:
    """Write ``comparison.html`` into ``out``; everything is inside the page.

    Args:
        out: folder; made if need be.
        runs: two to six, as :func:`vla.comparison.read_runs` gives them.
        contrasts: what :func:`vla.comparison.compare_runs` found.

    Returns:
        the file.

    Raises:
        ConfigError: there are more than six runs.
    """
    if len(runs) > MAX_RUNS:
        raise ConfigError(f"a report shows at most {MAX_RUNS} runs, found {len(runs)}")
    summaries = summarise_alike(runs)
    title = "Comparison: " + ", ".join(run.name for run in runs)
    sections = [
        "".join(_said(one) for one in contrasts),
        _chart(contrasts),
        _table(contrasts),
        success_tables([run.name for run in runs], summaries),
        _sources(runs),
        _disagreements(runs, contrasts),
    ]
    return write_page(out / "comparison.html", title, sections)


def _said(one: Contrast) -> str:
    """A comparison in sentences, the verdict first."""
    verdict = (
        f"<b>{escape(one.favoured)}</b> is better"
        if one.favoured and one.p_holm <= ALPHA
        else f"No difference between <b>{escape(one.first)}</b> and <b>{escape(one.second)}</b> could be shown"
    )
    rows = f"{one.n} pairs of episodes" if one.pairing != "none" else f"{one.n} episodes that are not paired"
    seen = (
        f"Differences from {100 * one.smallest:.1f} points on would have been found four times in five."
        if one.smallest is not None
        else "No difference, however large, would have been found four times in five: the rows are too few."
    )
    split = (
        f" {one.only_first} episodes were solved by the first only, {one.only_second} by the second only."
        if one.only_first is not None
        else ""
    )
    notes = "".join(f"<li>{escape(warning)}</li>" for warning in one.warnings)
    return (
        f'<p class="lead">{verdict}: {escape(one.first)} '
        f"minus {escape(one.second)} is {100 * one.difference:+.1f} percentage points (95 % interval "
        f"{100 * one.low:+.1f} to {100 * one.high:+.1f}; p {_equals(one.p_holm)}"
        f"{_corrected(one)}), from {rows}.</p><p>{seen}{split}</p>"
        + (f'<ul class="small soft">{notes}</ul>' if notes else "")
    )


def _corrected(one: Contrast) -> str:
    return f", Holm-corrected for {one.comparisons} comparisons" if one.comparisons > 1 else ""


def _chart(contrasts: Sequence[Contrast]) -> str:
    items = [Difference(one.difference, one.low, one.high, f"{one.first} minus {one.second}") for one in contrasts]
    names = "".join(
        f'<span class="run-{place % 4}"><i class="dot"></i>{escape(item.label)}</span>'
        for place, item in enumerate(items)
    )
    return f'<h2>Differences in percentage points</h2><p class="legend small">{names}</p>{differences(items)}'


def _table(contrasts: Sequence[Contrast]) -> str:
    heads = (
        "Comparison",
        "Rates",
        "Points",
        "95 %",
        "95 % by task",
        "p",
        "p (Holm)",
        "p by task",
        "Could see",
        "Errors",
    )
    lines = []
    for one in contrasts:
        clustered = "–" if one.clustered is None else f"{100 * one.clustered[0]:+.1f} to {100 * one.clustered[1]:+.1f}"
        cells = (
            f"{escape(one.first)} minus {escape(one.second)}",
            f"{100 * one.first_rate:.1f} and {100 * one.second_rate:.1f} %",
            f"{100 * one.difference:+.1f}",
            f"{100 * one.low:+.1f} to {100 * one.high:+.1f}",
            clustered,
            _probability(one.p_value),
            _probability(one.p_holm),
            "–" if one.p_tasks is None else _probability(one.p_tasks),
            "–" if one.smallest is None else f"{100 * one.smallest:.1f}",
            str(one.errors),
        )
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    paired = any(one.pairing != "none" for one in contrasts)
    unpaired = any(one.pairing == "none" for one in contrasts)
    how = []
    if paired:
        how.append(
            "Paired rows: exact McNemar test, Newcombe's interval for paired rates; by task: exact sign-flip "
            "permutation test of the tasks' differences, Student's t over tasks."
        )
    if unpaired:
        how.append("Rows that are not paired: exact test within tasks, Newcombe's interval for independent rates.")
    how.append(
        "Could see: the smallest true difference that this test finds with a probability of 0.8. Errors: rows left out "
        "because a side crashed or timed out."
    )
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'
        f'<p class="soft small">{" ".join(how)}</p>'
    )


def _sources(runs: Sequence[Run]) -> str:
    parts = []
    for run in runs:
        facts = {
            "Rows": rows_said(run.results),
            "Weights": ", ".join(sorted({result.checkpoint for result in run.results if result.checkpoint})),
            "Protocol": sorted({_pairs(result.protocol) for result in run.results if result.protocol}),
            "Versions": sorted({_pairs(result.versions) for result in run.results if result.versions}),
        }
        parts.append(f"<div><h3>{escape(run.name)}</h3>{fact_list(facts)}</div>")
    return f'<h2>What was compared</h2><div class="columns">{"".join(parts)}</div>'


def _pairs(values: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _disagreements(runs: Sequence[Run], contrasts: Sequence[Contrast]) -> str:
    """Rows that one run of the first comparison solved and the other did not: where to look."""
    from vla.pairing import pair

    one = contrasts[0]
    named = {run.name: run for run in runs}
    pairs = [p for p in pair(named[one.first].results, named[one.second].results).pairs if p[0].success != p[1].success]
    if not pairs:
        return ""
    lines = [
        f"<tr><td>{escape(a.row.suite)}</td><td>{escape(a.row.task)}</td><td>{a.row.init}</td>{_cell(a)}{_cell(b)}</tr>"
        for a, b in pairs[:_SHOWN]
    ]
    more = f'<p class="soft small">and {len(pairs) - _SHOWN} more</p>' if len(pairs) > _SHOWN else ""
    return (
        f"<details><summary>{count_said(len(pairs), 'row')} that only one of {escape(one.first)} and "
        f'{escape(one.second)} solved</summary><div class="scroll"><table><tr><th>Suite</th><th>Task</th>'
        f"<th>Initial state</th><th>{escape(one.first)}</th><th>{escape(one.second)}</th></tr>{''.join(lines)}"
        f"</table></div>{more}</details>"
    )


def _cell(result: Result) -> str:
    return f'<td><span class="chip {result.status}">{result.status}</span> {result.steps}</td>'


def _equals(p: float) -> str:
    return f"= {p:.2g}" if p >= 1e-4 else "below 0.0001"


def _probability(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else "below 0.0001"
