"""``vla data``: look at a data set, measure it, view an episode; one subcommand a file beside this one."""

from dataclasses import dataclass
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import subcommand

from vla.commands.data_check import Check
from vla.commands.data_convert import Convert
from vla.commands.data_delete import Delete
from vla.commands.data_info import Info
from vla.commands.data_merge import Merge
from vla.commands.data_questions import Questions
from vla.commands.data_render import Render
from vla.commands.data_split import Split
from vla.commands.data_stats import Stats
from vla.commands.data_view import View


@dataclass(frozen=True)
class Data:
    """Look at a data set, measure it, view an episode; convert, merge, split."""

    command: (
        Annotated[Info, subcommand("info")]
        | Annotated[Stats, subcommand("stats")]
        | Annotated[Check, subcommand("check")]
        | Annotated[Render, subcommand("render")]
        | Annotated[View, subcommand("view")]
        | Annotated[Convert, subcommand("convert")]
        | Annotated[Merge, subcommand("merge")]
        | Annotated[Split, subcommand("split")]
        | Annotated[Delete, subcommand("delete")]
        | Annotated[Questions, subcommand("questions")]
    )

    def run(self, console: Console) -> dict[str, Any]:
        """Run the chosen one."""
        return self.command.run(console)
