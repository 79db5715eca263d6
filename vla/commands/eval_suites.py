"""``vla eval suites``: which LIBERO suites the installed wheel can run, and why the others cannot."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Column, Table


@dataclass(frozen=True)
class Suites:
    """List the suites that LIBERO's wheel registers: what runs, with how many tasks, and what does not, and why."""

    def run(self, console: Console) -> dict[str, Any]:
        """Print the table."""
        from vla.sim import libero_suites

        runs = {
            suite: {"tasks": len(libero_suites.tasks(suite)), "max_steps": libero_suites.max_steps(suite)}
            for suite in libero_suites.suites()
        }
        refused = {
            suite: libero_suites.why_not(suite) for suite in libero_suites.registered() if libero_suites.why_not(suite)
        }
        table = Table(Column("suite", no_wrap=True, overflow="fold"), "tasks", "step limit", "does not run because")
        for suite, facts in runs.items():
            table.add_row(suite, str(facts["tasks"]), str(facts["max_steps"]), "")
        table.add_section()
        for suite, reason in refused.items():
            table.add_row(suite, "", "", reason)
        console.print(table)
        return {"runs": runs, "refused": refused}
