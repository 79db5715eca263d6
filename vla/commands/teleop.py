"""``vla teleop``: move a robot by hand."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from vla.commands.robot_choice import RobotOptions
from vla.commands.teleop_choice import TeleopOptions
from vla.commands.view_choice import ViewOptions


@dataclass(frozen=True)
class Teleop:
    """Move an arm by hand, within its safety limits: keyboard, gamepad, SpaceMouse, leader arm. Nothing is recorded."""

    robot: RobotOptions = field(default_factory=RobotOptions)
    device: TeleopOptions = field(default_factory=TeleopOptions)
    view: ViewOptions = field(default_factory=ViewOptions)
    seconds: float = 300.0
    """After which a scene is set anew."""
    fast: bool = False
    """As fast as it goes where the robot's own clock waits (libero), not at the control rate."""

    def run(self, console: Console) -> dict[str, Any]:
        """Drive until quit, Ctrl-C or the emergency stop.

        Raises:
            BodyFault: the robot or the device stopped answering.
        """
        from vla.commands.by_hand import episodes_by_hand, instruction_of, task_list
        from vla.commands.robot_choice import opened_robot
        from vla.commands.teleop_choice import opened_operator
        from vla.commands.view_choice import opened_view
        from vla.errors import BodyFault

        self.robot.check()
        self.device.check()
        names = task_list(self.robot)
        outcomes = []
        first = self.robot.demonstration(0, names)
        with (
            opened_view(self.view, console) as view,
            opened_robot(self.robot, first=first, by_hand=True, on_event=view.event) as robot,
            opened_operator(
                self.device, robot.spec, robot.estop, guarded=self.robot.guarded, warn=console.print
            ) as operator,
        ):
            try:
                for outcome in episodes_by_hand(
                    robot,
                    operator,
                    lambda: self.robot.demonstration(len(outcomes), names),
                    instruction=instruction_of((), self.robot),
                    seconds=self.seconds,
                    observers=lambda: view.observers(robot.spec, f"{len(outcomes):03d}"),
                    real_time=not self.fast,
                    console=console,
                ):
                    outcomes.append(outcome)
                    console.print(f"{outcome.status} after {outcome.steps} steps{said(outcome.error)}", markup=False)
            except KeyboardInterrupt:
                console.print("ended")
            events = [event.rule for event in robot.events]
        if outcomes and outcomes[-1].status == "error" and not operator.stopped:
            raise BodyFault(outcomes[-1].error)
        return {
            "episodes": len(outcomes),
            "steps": sum(outcome.steps for outcome in outcomes),
            "ended": "estop" if operator.stopped else "quit",
            "safety_events": {rule: events.count(rule) for rule in sorted(set(events))},
            **robot.facts,
            **view.summary(),
        }


def said(error: str) -> str:
    """An error behind a colon, if there is one."""
    return f": {error}" if error else ""
