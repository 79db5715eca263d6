"""``vla robot check``."""

import dataclasses
import inspect
import math
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vla.commands.robot_choice import RobotOptions
from vla.embodiment import EmbodimentSpec
from vla.errors import ChecksFailed
from vla.robot_check import BUCKETS_MS, Finding, check_robot


@dataclass(frozen=True)
class RobotCheck:
    """Connect to a robot and read it: rates, latencies, clock, ranges, cameras and their exposure, limits.

    Nothing moves without --move. The exit code is 1 if something is wrong.
    """

    robot: RobotOptions = field(default_factory=RobotOptions)
    seconds: float = 3.0
    """For which its numbers are read."""
    move: bool = False
    """Move it by 5 mm (or its last joint by 0.02 rad) and back, within its safety limits."""

    def run(self, console: Console) -> dict[str, Any]:
        """Check and print a table.

        Raises:
            ChecksFailed: something is wrong with it.
            BodyFault: it cannot be reached.
        """
        from vla.commands.by_hand import task_list
        from vla.commands.robot_choice import opened_robot
        from vla.mounting import NAMES, describe
        from vla.safety import SafeBody

        self.robot.check()
        first = self.robot.demonstration(0, task_list(self.robot))
        with opened_robot(self.robot, first=first, by_hand=True) as robot:
            spec = robot.spec
            console.print(
                f"{self.robot.robot}: {spec.name} ({spec.fingerprint}), {spec.action.mode} actions in the "
                f"{spec.action.frame} frame at {spec.action.rate:g} Hz"
            )
            found = [Finding("hardware", "note", hardware(self.robot))]
            for name, what in NAMES.items():
                offset = getattr(spec, name)
                found.append(Finding(what, "note", describe(offset) if offset else "not stated"))
            found += _cameras(spec)
            inner = robot.body.body if isinstance(robot.body, SafeBody) else robot.body
            found.append(_limits(robot.body.limits if isinstance(robot.body, SafeBody) else None))
            found += check_robot(robot.body, seconds=self.seconds, move=self.move, tells=inner)
            facts = dict(robot.facts)
        errors = [one for one in found if one.status == "error"]
        console.print(_table(found))
        summary = {
            "robot": self.robot.robot,
            "embodiment": spec.name,
            "fingerprint": spec.fingerprint,
            "checks": [one.to_json() for one in found],
            "errors": len(errors),
            **facts,
        }
        for one in found:
            if isinstance(one.value, dict) and "histogram" in one.value:
                console.print(_histogram(one.name, one.value["histogram"]))
        if errors:
            names = ", ".join(one.name for one in errors)
            raise ChecksFailed(f"{self.robot.robot} is not fit to be driven: {names}", summary)
        return summary


def hardware(options: RobotOptions) -> str:
    """What a robot's driver has been run on, as far as its docstring says so."""
    from vla.plugins import plugin

    if not options.real:
        return "simulated"
    said = " ".join((inspect.getdoc(plugin("robot_driver", options.robot)) or "").lower().split())
    if "not run on hardware" in said:
        return "this driver was NOT RUN ON HARDWARE"
    return "run on hardware" if "run on hardware" in said else "this driver does not say whether it was run on hardware"


def _cameras(spec: EmbodimentSpec) -> list[Finding]:
    """Where its cameras sit, as far as somebody measured it."""
    from vla.mounting import describe

    found = []
    for camera in spec.cameras:
        seen = camera.calibration
        said = "not calibrated"
        if seen is not None:
            said = f"in the {seen.parent}'s frame at {describe(seen.pose)}, focal length {seen.focal[0]:.0f} px"
        found.append(Finding(f"camera {camera.name} sits", "note", said))
    return found


def _limits(limits: Any) -> Finding:
    if limits is None:
        return Finding("limits", "warning", "switched off")
    values = {
        name: [None if math.isinf(each) else each for each in value] if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(limits).items()
    }
    finite = {name: value for name, value in values.items() if not (isinstance(value, float) and math.isinf(value))}
    said = ", ".join(f"{name} {value:g}" for name, value in finite.items() if isinstance(value, int | float))
    box = f"; workspace {values['low']} to {values['high']} m" if limits.box else "; no workspace"
    status = "note" if limits.box and math.isfinite(limits.max_translation + limits.max_rotation) else "warning"
    return Finding("limits", status, said + box, {name: value for name, value in finite.items()})


def _table(found: list[Finding]) -> Table:
    table = Table("status", "check", "found")
    colours = {"error": "[bold red]", "warning": "[yellow]", "ok": "[green]", "note": "[dim]"}
    for column in table.columns[:2]:
        column.no_wrap = True
    for one in found:
        table.add_row(f"{colours[one.status]}{one.status}[/]", escape(one.name), escape(one.found))
    return table


def _histogram(name: str, counts: dict[str, int]) -> Table:
    table = Table("ms", "times", "", title=name, title_justify="left")
    most = max(counts.values())
    lower = 0
    for upper, count in counts.items():
        place = f"over {BUCKETS_MS[-1]}" if upper == "more" else f"{lower} to {upper}"
        table.add_row(place, str(count), "#" * round(30 * count / most))
        lower = upper
    return table
