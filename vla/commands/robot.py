"""``vla robot``: look at a robot, calibrate its camera, be one; one subcommand a file beside this one."""

from dataclasses import dataclass
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import subcommand

from vla.commands.robot_calibrate import RobotBoard, RobotCalibrate
from vla.commands.robot_check import RobotCheck
from vla.commands.robot_emulate import RobotEmulate


@dataclass(frozen=True)
class RobotCommand:
    """Look at a robot before it is driven, find where its cameras sit, or be one that is software."""

    command: (
        Annotated[RobotCheck, subcommand("check")]
        | Annotated[RobotCalibrate, subcommand("calibrate")]
        | Annotated[RobotBoard, subcommand("board")]
        | Annotated[RobotEmulate, subcommand("emulate")]
    )

    def run(self, console: Console) -> dict[str, Any]:
        """Run the chosen one."""
        return self.command.run(console)
