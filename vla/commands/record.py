"""``vla record``: demonstrations by hand, written as a LeRobot v3.0 data set."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from vla.commands.robot_choice import CAMERA_SIZE, Robot, RobotOptions
from vla.commands.teleop_choice import TeleopOptions
from vla.commands.view_choice import View, ViewOptions
from vla.errors import BodyFault, ConfigError, DataError
from vla.experience import Episode
from vla.operated import Operator
from vla.protocols import Outcome


@dataclass(frozen=True)
class Record:
    """Record demonstrations by hand. Every kept episode is on disk before the next one begins.

    Keys of the keyboard: w s a d r f move, i k j l u o turn, g gripper; Enter keeps the episode, y keeps it as a
    success, x as a failure, Backspace throws it away, n takes the next instruction; space holds still, Esc is the
    emergency stop, q quits. A killed or failed session loses the open episode at most: the same command goes on.
    """

    out: Path
    """Folder of the data set; appears when the session ends."""
    robot: RobotOptions = field(default_factory=RobotOptions)
    device: TeleopOptions = field(default_factory=TeleopOptions)
    view: ViewOptions = field(default_factory=ViewOptions)
    instruction: tuple[str, ...] = ()
    """What is to be done, one or several to choose from; by default what the scene's task says."""
    episodes: int = 0
    """How many to keep in all, those of earlier sessions included; 0: until quit."""
    seconds: float = 300.0
    """After which an episode ends by itself; it is kept, success unknown."""
    storage: Literal["jpeg", "image", "video"] = "jpeg"
    """Pictures as JPEG, as PNG (image), or as videos."""
    camera_size: int = CAMERA_SIZE
    """Of a simulated arm's pictures [pixels]."""
    fast: bool = False
    """As fast as it goes where the robot's own clock waits (libero), not at the control rate."""

    def run(self, console: Console) -> dict[str, Any]:
        """Record until quit, Ctrl-C, the emergency stop or enough episodes.

        Raises:
            ConfigError: an option is out of its range, or the data set exists already.
            BodyFault: the robot or the device stopped answering; what was kept before is in the data set.
            DataError: the disk is full; what was kept before is there for the same command to go on with.
        """
        from vla.commands.by_hand import task_list
        from vla.commands.robot_choice import opened_robot
        from vla.commands.teleop_choice import opened_operator
        from vla.commands.view_choice import opened_view

        self._check()
        names = task_list(self.robot)
        first = self.robot.demonstration(0, names)
        size = self.camera_size
        with (
            opened_view(self.view, console) as view,
            opened_robot(self.robot, first=first, camera_size=size, by_hand=True, on_event=view.event) as robot,
            opened_operator(
                self.device,
                robot.spec,
                robot.estop,
                instructions=self.instruction,
                guarded=self.robot.guarded,
                warn=console.print,
            ) as operator,
        ):
            session = _Session(self, robot, operator, view, names, console)
            summary = session.run() | robot.facts | view.summary()
        if session.error:
            where = f"; {summary['episodes']} episodes are in {self.out}" if summary["recording"] else ""
            raise BodyFault(session.error + where)
        return summary

    def _check(self) -> None:
        self.robot.check()
        self.device.check()
        if self.out.exists():
            raise ConfigError(f"{self.out} exists already; choose another folder, and join them with: vla data merge")
        if self.episodes < 0 or not self.seconds > 0:
            raise ConfigError(f"episodes from 0, seconds above 0, found {self.episodes} and {self.seconds}")
        if not self.robot.simulated and not self.instruction:
            raise ConfigError("say what is to be done: --instruction TEXT")


class _Session:
    """One session of recording."""

    def __init__(
        self, options: Record, robot: Robot, operator: Operator, view: View, names: list[str], console: Console
    ):
        self.options, self.robot, self.operator, self.view = options, robot, operator, view
        self.names, self.console = names, console
        self.error = ""
        self._fate = {"kept": 0, "discarded": 0}

    def run(self) -> dict[str, Any]:
        """Record; the summary."""
        from vla.background import BackgroundObserver
        from vla.datasets.encoded_frames import EncodedFrames
        from vla.datasets.lerobot_v3 import Writer
        from vla.recorder import Recorder

        options, spec = self.options, self.robot.spec
        storage = "jpeg" if options.storage == "jpeg" else "image"
        # a file for each episode: what is kept is whole on disk at once
        writer = Writer(options.out, spec, options.storage, key=f"record {spec.identity}", file_bytes=1)
        if writer.episodes:
            self.console.print(f"going on after {writer.episodes} episodes of an earlier session")
        recorder = Recorder(
            lambda episode, outcome: self._sink(writer, episode, outcome),
            source=self.robot.name,
            info={"safety": self.robot.safety, "device": options.device.teleop},
            frames=lambda camera: EncodedFrames(camera, storage),
        )
        background = BackgroundObserver(recorder)
        try:
            with writer:
                self._episodes(writer, background)
                if not writer.episodes:
                    raise _NothingKept
        except _NothingKept:
            self.console.print("nothing was kept, nothing is written")
        except DataError:
            self.console.print("what was kept before is safe: with space on the disk, the same command goes on")
            raise
        finally:
            background.close()
        there = options.out.exists()
        if there:
            self.console.print(f"{writer.episodes} episodes in {options.out}", markup=False)
        return {
            "recording": str(options.out) if there else None,
            "episodes": writer.episodes,
            **self._fate,
            "dropped_steps": background.dropped,
            "safety_events": len(self.robot.events),
            "ended": "estop" if self.operator.stopped else "error" if self.error else "quit",
        }

    def _episodes(self, writer: Any, background: Any) -> None:
        from vla.commands.by_hand import episodes_by_hand, instruction_of

        options = self.options
        if options.episodes and writer.episodes >= options.episodes:
            return
        try:
            for outcome in episodes_by_hand(
                self.robot,
                self.operator,
                lambda: options.robot.demonstration(writer.episodes, self.names),
                instruction=instruction_of(options.instruction, options.robot),
                seconds=options.seconds,
                observers=lambda: [background, *self.view.observers(self.robot.spec, f"{writer.episodes:03d}")],
                real_time=not options.fast,
                console=self.console,
            ):
                before = writer.episodes
                background.flush()  # the arm stands; the next episode begins when this one is safe
                kept = writer.episodes > before
                self._fate["kept" if kept else "discarded"] += 1
                fate = f"kept as episode {before}" if kept else "thrown away"
                reason = f": {outcome.error}" if outcome.error else ""
                self.console.print(f"{fate}, {outcome.steps} steps{reason}", markup=False)
                if outcome.status == "error" and not self.operator.stopped:
                    self.error = outcome.error
                if options.episodes and writer.episodes >= options.episodes:
                    return
        except KeyboardInterrupt:
            self.console.print("ended; the open episode is thrown away")
            background.flush()  # one that was kept just before may still be on its way to the disk

    def _sink(self, writer: Any, episode: Episode, outcome: Outcome) -> None:
        """Keep an episode, or not."""
        verdict = self.operator.verdict
        if outcome.status == "error" or verdict == "discard" or (self.operator.quits and not verdict):
            return
        if self.options.robot.simulated:
            row = self.options.robot.demonstration(writer.episodes, self.names)
            episode = dataclasses.replace(episode, info={**episode.info, **row.to_json()})
        if self.operator.instruction:
            episode = dataclasses.replace(episode, instruction=self.operator.instruction)
        if not outcome.success and verdict != "failure":  # nobody said that it failed
            info = {**episode.info, "status": "kept"}
            episode = dataclasses.replace(episode, success=None, info=info)
        writer.add(episode)


class _NothingKept(Exception):
    """No episode was kept: there is no data set to finish."""
