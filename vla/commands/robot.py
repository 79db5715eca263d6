"""``vla robot``: look at a robot, calibrate its camera; one subcommand a file beside this one."""

from dataclasses import dataclass
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import subcommand

from vla.commands.robot_calibrate import RobotBoard, RobotCalibrate
from vla.commands.robot_check import RobotCheck


@dataclass(frozen=True)
class RobotCommand:
    """Look at a robot before it is driven, and find where its cameras sit."""

    command: (
        Annotated[RobotCheck, subcommand("check")]
        | Annotated[RobotCalibrate, subcommand("calibrate")]
        | Annotated[RobotBoard, subcommand("board")]
    )

    def run(self, console: Console) -> dict[str, Any]:
        """Run the chosen one."""
        return self.command.run(console)
