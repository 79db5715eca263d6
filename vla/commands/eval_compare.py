"""``vla eval compare``: runs against each other, ours or logs of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from tyro.conf import Positional

from vla.comparison import Contrast, Run, compare_runs, read_runs, summarise_alike

GROUPS = ("suites", "perturbations", "tasks")


@dataclass(frozen=True)
class Compare:
    """Compare runs row by row: exact tests, intervals, Holm's correction, and the smallest difference they could see.

    Takes result folders, Parquet files, and logs of vla-evaluation-harness. In the tables "by task" has the task as the
    unit instead of the episode, and "could see" is the true difference [points] that is found four times in five.
    """

    runs: Positional[tuple[Path, ...]]
    """Two or more; the others are compared with the first."""
    names: tuple[str, ...] = ()
    """Names for the runs, in their order; their folders' otherwise."""
    all_pairs: bool = False
    """Compare each with each instead."""
    out: Path | None = None
    """Folder for an HTML report."""

    def run(self, console: Console) -> dict[str, Any]:
        """Read, compare, print, write."""
        runs = read_runs(self.runs, self.names)
        contrasts = compare_runs(runs, all_pairs=self.all_pairs)
        summaries = dict(zip((run.name for run in runs), summarise_alike(runs), strict=True))
        print_rates(console, runs, summaries)
        print_contrasts(console, contrasts)
        summary: dict[str, Any] = {
            "runs": {run.name: {"path": str(run.path)} | summaries[run.name] for run in runs},
            "comparisons": [found.to_json() for found in contrasts],
        }
        if self.out:
            from vla.report_comparison import write_comparison

            summary["report"] = str(write_comparison(self.out, runs, contrasts))
            console.print(f"report: {summary['report']}")
        return summary


def print_rates(console: Console, runs: Sequence[Run], summaries: dict[str, Any]) -> None:
    """A table of success rates, a line for each suite, perturbation and task and a column for each run."""
    first = Column("", overflow="fold")  # tasks differ in their last words
    table = Table(first, *(escape(run.name) for run in runs), title=escape("success [95 % Wilson; by task]"))
    for group in GROUPS:
        keyed = [{_key(cell): cell for cell in summaries[run.name][group]} for run in runs]
        names = list(dict.fromkeys(key for cells in keyed for key in cells))
        if len(names) > 1:
            for key in names:
                table.add_row(escape(key[-1]), *(_said(cells.get(key)) for cells in keyed))
            table.add_section()
    table.add_row("all", *(_said(summaries[run.name]["total"]) for run in runs))
    console.print(table)


def _key(cell: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(cell[name]) for name in ("suite", "perturbation", "task") if name in cell)


def _said(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "–"
    errors = f", {cell['errors']} errors" if cell["errors"] else ""
    if not cell["n"]:
        return f"0/0{errors}"
    clustered = f"; {_span(*cell['clustered'])}" if cell["clustered"] else ""
    rate = f"{100 * cell['rate']:.1f} % {cell['successes']}/{cell['n']}"
    return f"{rate} \\[{_span(cell['low'], cell['high'])}{clustered}]{errors}"


def _span(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def print_contrasts(console: Console, contrasts: Sequence[Contrast]) -> None:
    """A table of the comparisons, and what a reader has to know about each."""
    several = len(contrasts) > 1
    table = Table("", "points", "95 %", "by task", "p", *(["p (Holm)"] if several else []), "p by task", "could see")
    for one in contrasts:
        clustered = _span(*one.clustered) if one.clustered else "–"
        by_task = "–" if one.p_tasks is None else f"{one.p_tasks:.2g}"
        smallest = "–" if one.smallest is None else f"{100 * one.smallest:.1f}"
        corrected = [f"{one.p_holm:.2g}"] if several else []
        table.add_row(
            escape(f"{one.first} - {one.second}"),
            f"{100 * one.difference:+.1f}",
            _span(one.low, one.high),
            clustered,
            f"{one.p_value:.2g}",
            *corrected,
            by_task,
            smallest,
        )
    console.print(table)
    for one in contrasts:
        split = f", {one.only_first} by the first only, {one.only_second} by the second only"
        how = f"{one.n} pairs{split}" if one.pairing != "none" else f"{one.n} rows, not paired"
        console.print(f"{escape(one.first)} - {escape(one.second)}: {how}; {one.errors} left out for errors")
        for warning in one.warnings:
            console.print(f"  [yellow]note[/]: {escape(warning)}", highlight=False)
