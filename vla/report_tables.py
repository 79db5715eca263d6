"""The report's tables of success: a line for each task, suite and perturbation, a dot and two intervals for a run."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vla.charts import Interval, axis, intervals
from vla.report_text import errors_said, interval_said, task_said

_EMPTY: dict[str, Any] = {
    "n": 0, "successes": 0, "rate": None, "low": 0.0, "high": 1.0, "clustered": None, "mean_steps": None,
    "mean_wall_s": None, "latency_s": None, "errors": 0,
}  # fmt: skip
_GROUPS = (("perturbations", "perturbation"), ("suites", "suite"), ("tasks", "task"))
_COLUMNS = ("Solved", "95 %", "95 % by task", "Steps", "Seconds", "Inference", "Errors")
_HEADS = {"perturbations": "Perturbation", "suites": "Suite", "tasks": "Task"}


def success_tables(names: Sequence[str], summaries: Sequence[Mapping[str, Any]]) -> str:
    """Tables of success, from the coarsest grouping that tells anything apart to single tasks.

    Args:
        names: of the runs, in the order of their colours.
        summaries: of each run, from :func:`vla.results.summarise`.
    """
    legend = "".join(
        f'<span class="run-{place}"><i class="dot"></i>{escape(name)}</span>' for place, name in enumerate(names)
    )
    parts = [f'<h2>Success by task</h2><p class="legend small">{legend}</p>']
    several = len({cell["suite"] for summary in summaries for cell in summary["tasks"]}) > 1
    totals = [summary["total"] for summary in summaries]
    for group, label in _GROUPS:
        keys = [(cell.get("suite", ""), cell[label]) for summary in summaries for cell in summary[group]]
        keys = list(dict.fromkeys(keys))
        if group != "tasks" and len(keys) < 2:
            continue
        lines = []
        for key in keys:
            cells = [_find(summary[group], label, key) for summary in summaries]
            suite = f' <span class="soft">({escape(key[0])})</span>' if several and group == "tasks" else ""
            said = escape(task_said(key[1]) if group == "tasks" else key[1])
            lines.append(_line(said + suite, names, cells))
        if len(keys) > 1:
            lines.append(_line("All", names, totals))
        parts.append(_table(_HEADS[group], lines))
    parts.append(
        '<p class="soft small">Dots are success rates. Strong lines and the first interval: 95 %, Wilson, over '
        "episodes: what running these tasks again could give. Thin lines and the second: with the task as the unit "
        "(Wilson with the number of episodes that tasks so different are worth): what other tasks like these could "
        "give. Steps and seconds are means over all counted episodes, inference the mean time of one answer of the "
        "policy, waiting for its turn included where one policy serves several simulators. An error (a crash, a "
        "time-out, memory that ran out, a fault of policy or body) is not counted as a failure.</p>"
    )
    return "".join(parts)


def _find(cells: Sequence[Mapping[str, Any]], label: str, key: tuple[str, str]) -> Mapping[str, Any]:
    return next((cell for cell in cells if (cell.get("suite", ""), cell[label]) == key), _EMPTY)


def _table(head: str, lines: Sequence[tuple[str, str, Sequence[Sequence[str]]]]) -> str:
    """Columns in which no line says anything are left out."""
    said = [any(value != "–" for _, _, columns in lines for value in columns[place]) for place in range(len(_COLUMNS))]
    heads = "".join(f'<th class="number">{name}</th>' for name, kept in zip(_COLUMNS, said, strict=True) if kept)
    body = []
    for label, bars, columns in lines:
        cells = (
            f'<td class="number">{"".join(f"<div>{value}</div>" for value in column)}</td>'
            for column, kept in zip(columns, said, strict=True)
            if kept
        )
        total = ' class="total"' if label == "All" else ""
        body.append(f'<tr{total}><td class="label">{label}</td><td>{bars}</td>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll"><table><tr><th>{head}</th><th style="width:22%">{axis()}</th>{heads}</tr>'
        f"{''.join(body)}</table></div>"
    )


def _line(
    label: str, names: Sequence[str], cells: Sequence[Mapping[str, Any]]
) -> tuple[str, str, Sequence[Sequence[str]]]:
    """Label, chart and, for each column, what it says of each run."""
    bars = intervals(
        [
            Interval(
                cell["rate"],
                cell["low"],
                cell["high"],
                f"{name}: {cell['successes']} of {cell['n']}",
                cell["clustered"],
            )
            for name, cell in zip(names, cells, strict=True)
        ]
    )
    columns = [
        [f'<i class="dot run-{place}"></i>{cell["successes"]} / {cell["n"]}' for place, cell in enumerate(cells)],
        [interval_said(cell) if cell["n"] else "–" for cell in cells],
        [_span(cell["clustered"]) for cell in cells],
        [_number(cell["mean_steps"], "{:.0f}") for cell in cells],
        [_number(cell["mean_wall_s"], "{:.1f}") for cell in cells],
        [_number(cell["latency_s"], "{:.0f} ms", 1000) for cell in cells],
        [_errors(cell) for cell in cells],
    ]
    return label, bars, columns


def _span(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} %"


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "–" if value is None else form.format(factor * value)


def _errors(cell: Mapping[str, Any]) -> str:
    kinds = errors_said(cell)
    return f'<span title="{escape(kinds)}">{cell["errors"]}</span>' if kinds else "–"
