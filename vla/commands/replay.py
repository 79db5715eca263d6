"""``vla replay``: a recorded episode's actions once more on a robot, and how far its way is from the recorded one."""

import json
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from rich.console import Console

from vla.chunking import Decision
from vla.commands.robot_choice import RobotOptions
from vla.commands.source import SourceOptions
from vla.commands.view_choice import ViewOptions
from vla.errors import BodyFault, ConfigError
from vla.experience import Episode, Observation
from vla.protocols import Policy, Task
from vla.rows import Row, row_from_json
from vla.transforms import Adapter


@dataclass(frozen=True)
class Replay:
    """Replay what was really sent, and compare the measured way with the recorded one, channel by channel.

    The robot should stand where the episode began: a robot with joints or absolute poses is told to go there by its
    first action. A simulated arm's scene is that of the recording, if it was recorded here.
    """

    source: SourceOptions
    episode: int = 0
    """Its number in the data set."""
    robot: RobotOptions = field(default_factory=RobotOptions)
    view: ViewOptions = field(default_factory=ViewOptions)
    out: Path | None = None
    """Folder for the recording of the replay (a LeRobot data set) and comparison.json."""
    fast: bool = False
    """As fast as it goes where the robot's own clock waits (libero), not at the control rate."""

    def run(self, console: Console) -> dict[str, Any]:
        """Replay and compare.

        Raises:
            SpecMismatch: the recording is of another robot; nothing has moved.
            ConfigError: there is no such episode, or it does not say in which scene a simulated arm was.
            BodyFault: the replay did not come to its end.
        """
        from vla.commands.robot_choice import opened_robot
        from vla.commands.view_choice import opened_view
        from vla.files import write_text
        from vla.path_comparison import compare_paths
        from vla.policies.replay import ReplayPolicy
        from vla.recorder import Recorder
        from vla.runtime import run_episode
        from vla.transforms import connect

        self.robot.check()
        if self.out and self.out.exists():
            raise ConfigError(f"{self.out} exists already; choose another folder or remove it")
        source = self.source.open()
        if not 0 <= self.episode < len(source):
            raise ConfigError(f"there are episodes 0 to {len(source) - 1}, asked for {self.episode}")
        episode = source[self.episode]
        row = _scene(episode) if self.robot.simulated else self.robot.demonstration(0, [self.robot.robot])
        got: list[Episode] = []
        keep = Recorder(
            lambda one, _: got.append(one),
            source=f"replay of {episode.source}",
            info={**row.to_json(), "replay_of": episode.source} if self.robot.simulated else {},
            images=self.out is not None,
        )
        size = max((camera.height for camera in source.spec.cameras), default=128)
        with (
            opened_view(self.view, console) as view,
            # what a person's key said for seconds is said once more
            opened_robot(self.robot, first=row, camera_size=size, by_hand=True, on_event=view.event) as robot,
        ):
            task = _Whole(robot.task(row, episode.instruction, len(episode)), len(episode))

            def make(_: Policy, adapter: Adapter) -> _Rows:
                return _Rows(adapter.action(episode.action))

            policy = ReplayPolicy(episode)
            pace = robot.pace(not self.fast)
            outcome = run_episode(
                robot.body,
                task,
                policy,
                seed=0,
                executor=make,
                observers=[keep, *view.observers(robot.spec, f"{self.episode:03d}")],
                pace=pace,
            )
            solved = outcome.status != "error" and task.task.succeeded()
            shown = view.summary()
            spec, rules = robot.spec, Counter(event.rule for event in robot.events)
        if not got:
            raise BodyFault(f"nothing was replayed: {outcome.error}")
        # what was sent in the robot's numbers, the way in the recording's
        adapter = connect(spec, episode.spec)
        asked = adapter.action(episode.action[: len(got[0])])
        summary: dict[str, Any] = {
            "episode": self.episode,
            "status": outcome.status,
            "solved": solved,
            "recorded_success": episode.success,
            "recorded_steps": len(episode),
            "changed_actions": int((got[0].action != asked).any(axis=1).sum()),
            "safety_events": dict(rules),
            **shown,
            **compare_paths(episode.spec, episode.state, adapter.state(got[0].state)),
        }
        _print(console, summary)
        if self.out:
            from vla.datasets.lerobot_v3 import Writer

            with Writer(self.out / "episodes", spec, "jpeg") as writer:
                writer.add(got[0])
            write_text(self.out / "comparison.json", json.dumps(summary, indent=1) + "\n")
            summary["recording"] = str(self.out / "episodes")
        if outcome.status == "error":
            raise BodyFault(f"the replay ended after {outcome.steps} of {len(episode)} steps: {outcome.error}")
        return summary


class _Rows:
    """An executor that hands out the rows of a recording, whatever is seen."""

    def __init__(self, rows: Float32[np.ndarray, "t a"]):
        self._rows, self._next = rows, 0

    def begin(self, instruction: str, *, seed: int) -> None:
        """From the first one."""

    def looks(self) -> bool:
        """Never."""
        return False

    def step(self, observation: Observation) -> Decision:
        """The next one."""
        self._next += 1
        return Decision(self._rows[self._next - 1])

    def report(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def close(self) -> None:
        """Nothing to end."""


@dataclass
class _Whole:
    """A task that goes on to a recording's end, even when it is solved before."""

    task: Task
    max_steps: int

    @property
    def instruction(self) -> str:
        return self.task.instruction

    def reset(self) -> None:
        self.task.reset()

    def succeeded(self) -> bool:
        return False


def _scene(episode: Episode) -> Row:
    """The row that an episode was recorded in.

    Raises:
        ConfigError: it does not say.
    """
    names = [item.name for item in fields(Row)]
    try:
        return row_from_json({name: episode.info[name] for name in names})
    except KeyError as error:
        raise ConfigError(
            f"{episode.source} does not say in which scene of LIBERO it was recorded, so that a simulated arm cannot "
            "be put there"
        ) from error


def _print(console: Console, summary: dict[str, Any]) -> None:
    changed = summary["changed_actions"]
    console.print(
        f"{summary['steps']} of {summary['recorded_steps']} steps, "
        f"{'task solved' if summary['solved'] else 'task not solved'}"
        f"{f', {changed} actions were sent otherwise than recorded' if changed else ''}"
    )
    for name, found in summary["hands"].items():
        distance, angle = found["distance_m"], found["angle_rad"]
        console.print(
            f"{name}: off by {1000 * distance['start']:.1f} mm at the start, {1000 * distance['rms']:.1f} mm rms, "
            f"{1000 * distance['max']:.1f} mm at most; {np.degrees(angle['max']):.1f} degrees at most"
        )
    for name, found in summary["channels"].items():
        unit = "" if found["unit"] == "1" else f" {found['unit']}"
        console.print(f"{name}: rms {found['rms']:.4g}{unit}, at most {found['max']:.4g}{unit}", markup=False)
