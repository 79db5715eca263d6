"""A bar on the terminal for work that counts what it has done."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vla import protocols


@contextmanager
def counted(console: Console, what: str, unit: str) -> Iterator[protocols.Progress]:
    """A function to be told how much is done and how much there is in all; the bar goes when the block ends.

    Args:
        console: of the command; the bar itself goes to stderr, and only to a terminal.
        what: is done, e.g. "measuring".
        unit: of the numbers, e.g. "steps".
    """
    columns = (TextColumn(f"{what}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    errors = Console(stderr=True)
    hidden = console.quiet or not errors.is_terminal  # else it would leave an empty line in a log
    with Progress(*columns, console=errors, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
