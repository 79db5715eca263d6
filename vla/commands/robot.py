"""``vla robot``: look at a robot, calibrate its camera; one subcommand a file beside this one."""

from dataclasses import dataclass
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import subcommand

from vla.commands.robot_check import RobotCheck


@dataclass(frozen=True)
class RobotCommand:
    """Look at a robot before it is driven."""

    command: Annotated[RobotCheck, subcommand("check")]

    def run(self, console: Console) -> dict[str, Any]:
        """Run the chosen one."""
        return self.command.run(console)
