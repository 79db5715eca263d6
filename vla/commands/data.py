"""``vla data``: look at a data set, measure it, view an episode; one subcommand a file beside this one."""

from dataclasses import dataclass
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import subcommand

from vla.commands.data_check import Check
from vla.commands.data_info import Info
from vla.commands.data_stats import Stats
from vla.commands.data_view import View


@dataclass(frozen=True)
class Data:
    """Look at a data set, measure it, view an episode."""

    command: (
        Annotated[Info, subcommand("info")]
        | Annotated[Stats, subcommand("stats")]
        | Annotated[Check, subcommand("check")]
        | Annotated[View, subcommand("view")]
    )

    def run(self, console: Console) -> dict[str, Any]:
        """Run the chosen one."""
        return self.command.run(console)
