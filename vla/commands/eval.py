"""``vla eval``: measure a policy, join what several machines measured, compare, record; one subcommand a file."""

from dataclasses import dataclass
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import subcommand

from vla.commands.eval_compare import Compare
from vla.commands.eval_merge import Merge
from vla.commands.eval_rrd import Rrd
from vla.commands.eval_suites import Suites
from vla.commands.evaluate import Evaluate

NAMES = ("run", "compare", "merge", "rrd", "suites")


@dataclass(frozen=True)
class Eval:
    """Measure a policy in a simulator (``vla eval CHECKPOINT``, short for ``vla eval run``), join runs, compare and
    record them.
    """

    command: (
        Annotated[Evaluate, subcommand("run")]
        | Annotated[Compare, subcommand("compare")]
        | Annotated[Merge, subcommand("merge")]
        | Annotated[Rrd, subcommand("rrd")]
        | Annotated[Suites, subcommand("suites")]
    )

    def run(self, console: Console) -> dict[str, Any]:
        """Run the chosen one."""
        return self.command.run(console)


def with_run(arguments: list[str]) -> list[str]:
    """``eval CHECKPOINT ...`` as ``eval run CHECKPOINT ...``; everything else as it is."""
    if "eval" not in arguments:
        return arguments
    place = arguments.index("eval")
    first = arguments[place + 1 : place + 2]
    short = (
        first and first[0] not in (*NAMES, "-h", "--help") and all(item.startswith("-") for item in arguments[:place])
    )
    return [*arguments[: place + 1], "run", *arguments[place + 1 :]] if short else arguments
