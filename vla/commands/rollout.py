"""``vla rollout``: a policy on an arm in real time, within safety limits, recorded as it happens."""

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from vla.anchoring import Anchor
from vla.child_process import cores
from vla.commands.policy_choice import Chunking, PolicyConfig
from vla.commands.robot_choice import CAMERA_SIZE, Robot, RobotOptions
from vla.commands.teleop_choice import TeleopOptions
from vla.commands.view_choice import View, ViewOptions
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import Episode
from vla.operated import Operator
from vla.protocols import Outcome, Policy, Task
from vla.results import Result, summarise, write_results
from vla.rows import Row

NOBODY = "none"


@dataclass(frozen=True)
class Rollout:
    """Run a policy on an arm: the loop of ``vla eval``, on a body whose clock does not wait, within safety limits.

    With --teleop a person watches: the key t (button take_over) takes over, once more hands back; space (stop)
    makes the policy hold still until then. y ends an episode as a success, x as a failure, Enter keeps it unjudged (it
    enters no rate), Backspace throws it away; q throws away the open one, and nothing more is run. What they do is
    recorded and labelled step by step; an episode with help says nothing of the policy and enters no rate.
    """

    checkpoint: Positional[Path]
    """A training run's folder, one of its checkpoints, a LeRobot policy's folder, the address of a served policy
    (ws://host:port), or the name of a policy, e.g. hold."""
    out: Path
    """Folder for the recording (a LeRobot data set), results and Rerun recordings."""
    robot: RobotOptions = field(default_factory=RobotOptions)
    operator: TeleopOptions = field(default_factory=lambda: TeleopOptions(teleop=NOBODY))
    view: ViewOptions = field(default_factory=ViewOptions)
    instruction: str = ""
    """What a driver's robot is to do; a scene's own task says it."""
    embodiment: str | None = None
    """Which of the checkpoint's embodiments to be, if it has several."""
    features: Path | None = None
    """Of a LeRobot policy: the table of its features, if it is not beside the weights."""
    certificate: Path | None = None
    """Of a server (wss://): PEM file of who signed its certificate, if that is nobody known."""
    inits: int = 2
    """The first n of each task's own initial states; of a driver's robot, n episodes."""
    seconds: float = 60.0
    """Of an episode of a driver's robot; a scene's task has a limit of its own."""
    execute: int = 8
    """Actions of each chunk that are executed before the policy looks again."""
    chunking: Chunking = "synchronous"
    """Wait for each chunk, or make the next one meanwhile: asynchronous (it counts from when it is there), ensemble
    (all chunks are averaged), realtime (it continues the plan). Where it is late, the arm stops until it comes."""
    anchor: Anchor = "target"
    """What a chunk's deltas count from, on an arm that is moved to targets: the target it had when the policy looked
    (data recorded here), or where it was measured then (data whose actions are reached poses, such as Bridge)."""
    ode_steps: int | None = None
    """Steps from noise to action, for policies that take such steps; by default the policy's own number (10)."""
    device: str = "cpu"
    """cpu or cuda: where the policy runs, unless a server has it."""
    recordings: int = 2
    """Episodes to record for Rerun as well."""
    complete: bool = False
    """Run nothing: complete the data set in OUT of a run that was killed."""

    def run(self, console: Console) -> dict[str, Any]:
        """Run every row once; Ctrl-C stops the arm and keeps what was recorded."""
        from vla.commands.policy_choice import executor, opened
        from vla.commands.rollout_recording import EPISODES, complete, left_behind
        from vla.commands.view_choice import opened_view
        from vla.sim import simulator_version
        from vla.transforms import connect

        if self.complete:
            episodes, recording = complete(self.out), str(self.out / EPISODES)
            console.print(f"{episodes} episodes in {recording}", markup=False)
            return {"episodes": episodes, "recording": recording}
        self.robot.check()
        if self.operator.teleop != NOBODY:
            self.operator.check()
        simulated = self.robot.simulated
        drift = simulator_version.check(allow_drift=self.robot.allow_simulator_drift) if simulated else ""
        if self.out.exists():
            killed = "; the same command with --complete saves what a killed run left" if left_behind(self.out) else ""
            raise ConfigError(f"{self.out} exists already; choose another folder or remove it{killed}")
        rows = self._rows()
        with contextlib.ExitStack() as stack:
            view = stack.enter_context(opened_view(self.view, console))
            if simulated:  # nothing is started for a policy that does not fit
                policy = stack.enter_context(opened(self._policy(None)))
                size = self._camera_size(policy)
                robot = self._opened(stack, rows[0], size, view)
            else:
                robot = self._opened(stack, rows[0], CAMERA_SIZE, view)
                policy = stack.enter_context(opened(self._policy(robot.spec)))
                executor(self.chunking, self.execute)(policy, connect(robot.spec, policy.spec)).close()
            operator = stack.enter_context(self._watched(robot, console))
            return _Run(self, console, policy, robot, operator, view, drift).run(rows)

    def _policy(self, body: EmbodimentSpec | None) -> PolicyConfig:
        from vla.commands.policy_choice import policy_config

        return policy_config(
            self.checkpoint,
            body=body,
            embodiment=self.embodiment,
            features=self.features,
            certificate=self.certificate,
            ode_steps=self.ode_steps,
            # a simulated arm's process takes a core of its own; torch shares the rest
            threads=max(1, cores() - 1),
            device=self.device,
        )

    def _opened(self, stack: contextlib.ExitStack, first: Row, camera_size: int, view: View) -> Robot:
        from vla.commands.robot_choice import opened_robot

        self.out.mkdir(parents=True)
        stack.enter_context(_removed_if_empty(self.out))
        return stack.enter_context(
            opened_robot(self.robot, first=first, out=self.out, camera_size=camera_size, on_event=view.event)
        )

    def _rows(self) -> list[Row]:
        """What to run, fixed before anything is started."""
        from vla.commands.choices import make_rows, task_names

        options = self.robot
        if options.simulated:
            names = task_names(options.suite, options.tasks)
            return make_rows(options.suite, names, inits=self.inits, sampled=0, widen=1.0, seed=options.seed)
        if not self.instruction:
            raise ConfigError("say what is to be done: --instruction TEXT")
        return make_rows(options.robot, [self.instruction], inits=self.inits, sampled=0, widen=1.0, seed=options.seed)

    def _camera_size(self, policy: Policy) -> int:
        """How a simulated arm's world is rendered: pictures as large as the policy wants them.

        Raises:
            SpecMismatch: the policy is none for that arm; nothing is written or started yet.
            ConfigError: its chunks cannot be executed in that way.
        """
        from vla.commands.named_policy import CAMERA_SIZE
        from vla.commands.policy_choice import executor
        from vla.embodiments.libero_panda import libero_panda
        from vla.transforms import connect

        size = max((camera.height for camera in policy.spec.cameras), default=CAMERA_SIZE)
        executor(self.chunking, self.execute)(policy, connect(libero_panda(size), policy.spec)).close()
        return size

    @contextlib.contextmanager
    def _watched(self, robot: Robot, console: Console) -> Iterator[Operator | None]:
        from vla.commands.teleop_choice import opened_operator

        if self.operator.teleop == NOBODY:
            yield None
            return
        with opened_operator(
            self.operator,
            robot.spec,
            robot.estop,
            then="nothing",
            guarded=self.robot.guarded,
            warn=console.print,
        ) as operator:
            yield operator


class _Run:
    """All rows on one robot."""

    def __init__(
        self,
        options: Rollout,
        console: Console,
        policy: Policy,
        robot: Robot,
        operator: Operator | None,
        view: View,
        drift: str,
    ):
        self.options, self.console, self.policy, self.drift = options, console, policy, drift
        self.robot, self.operator, self.view, self.out = robot, operator, view, options.out
        self.results: list[Result] = []
        self.notes: list[dict[str, Any]] = []

    def run(self, rows: list[Row]) -> dict[str, Any]:
        """The summary."""
        from vla.background import BackgroundObserver
        from vla.commands.rollout_recording import EPISODES, embodiment_beside, recording
        from vla.datasets.encoded_frames import EncodedFrames
        from vla.files import write_text
        from vla.recorder import Recorder

        self._warm()
        interrupted, spec = False, self.robot.spec
        writer = recording(self.out, spec)
        recorder = Recorder(
            lambda episode, _: self._sink(writer, episode),
            source=self.robot.name,
            frames=lambda camera: EncodedFrames(camera, "image"),
        )
        background = BackgroundObserver(recorder)
        # the thread that fills the data set ends before it is finished
        saved = embodiment_beside(self.out, spec)
        with contextlib.suppress(_NothingRecorded), saved, writer, contextlib.closing(background):
            try:
                for number, row in enumerate(rows):
                    recorder.info = row.to_json() | {"safety": self.robot.safety}
                    outcome = self._episode(number, row, background)
                    background.flush()
                    self._note(number, len(rows), row, outcome)
                    if self.operator and (self.operator.quits or self.operator.stopped):
                        break
            except KeyboardInterrupt:
                interrupted = True
                background.flush()  # the episode that was interrupted is kept too
            if not writer.episodes:
                raise _NothingRecorded
        if not self.results:
            raise KeyboardInterrupt
        report = self.robot.report()
        write_results(self.out / "results.parquet", self.results)
        write_text(self.out / "safety.json", json.dumps(self.notes, indent=1))
        total = summarise(self.results)["total"]
        self.console.print(
            f"{total['successes']} of {total['n']} succeeded, {total['errors']} errors, with help, thrown away or "
            f"unjudged; recorded in {self.out}"
        )
        if interrupted:
            raise KeyboardInterrupt
        return {
            "rows": len(rows),
            "total": total,
            "takeovers": sum(note["chunks"].get("takeovers", 0) for note in self.notes),
            "dropped_steps": background.dropped,
            "ended": self._ended,
            **self.robot.facts,
            **report,
            **self.view.summary(),
            "recording": str(self.out / EPISODES) if writer.episodes else None,
        }

    @property
    def _ended(self) -> str:
        if self.operator is not None and self.operator.stopped:
            return "estop"
        return "quit" if self.operator is not None and self.operator.quits else "done"

    @property
    def _unjudged(self) -> bool:
        return self.operator is not None and self.operator.verdict == "keep"

    def _sink(self, writer: Any, episode: Episode) -> None:
        """Keep an episode, or not."""
        if self._thrown_away:
            return
        if self._unjudged:
            info = {**episode.info, "status": "kept"}
            episode = dataclasses.replace(episode, success=None, info=info)
        writer.add(episode)

    @property
    def _thrown_away(self) -> bool:
        operator = self.operator
        return operator is not None and (
            operator.verdict == "discard" or (operator.quits and not operator.verdict)  # as in a recording by hand
        )

    def _warm(self) -> None:
        """A first inference is slow (memory, kernels): not while the arm waits for it."""
        from vla.mounting import moved_cameras
        from vla.transforms import connect

        seen = self.robot.body.observe()
        self.policy.reset(seen.instruction, seed=self.options.robot.seed)
        adapter = connect(self.robot.spec, self.policy.spec)
        for line in moved_cameras(self.robot.spec, self.policy.spec):
            self.console.print(line, markup=False)
        self.policy.act(adapter.observation(seen))

    def _episode(self, number: int, row: Row, recorder: Any) -> Outcome:
        from vla.background import BackgroundObserver
        from vla.commands.policy_choice import executor
        from vla.commands.view_choice import arm_skeleton
        from vla.operated import Intervention, OperatedTask
        from vla.runtime import run_episode
        from vla.view import RerunObserver

        options, operator = self.options, self.operator
        observers = [recorder, *self.view.observers(self.robot.spec, f"{number:03d}")]
        limit = max(1, round(options.seconds * self.robot.spec.action.rate))
        task: Task = self.robot.task(row, options.instruction, limit)
        make = executor(options.chunking, options.execute)
        if operator is not None:
            task = OperatedTask(task, operator)
        path = self.out / "rrd" / f"{number:03d}.rrd"
        file = BackgroundObserver(RerunObserver(path, skeleton=arm_skeleton(self.robot.spec)), essential=False)
        try:
            return run_episode(
                self.robot.body,
                task,
                self.policy,
                seed=row.seed,
                executor=make if operator is None else lambda *given: Intervention(operator, make, *given),
                observers=[*observers, file] if number < options.recordings else observers,
                pace=self.robot.pace(operator is not None),
                anchor=options.anchor,
            )
        finally:
            file.close()
            if file.error:
                self.console.print(f"{path} was not written: {file.error}", markup=False)

    def _note(self, number: int, count: int, row: Row, outcome: Outcome) -> None:
        status, error = outcome.status, outcome.error
        if outcome.info.get("human_steps") and status != "error":
            status, error = (
                "error",
                f"{status} with help: a person moved the arm in {outcome.info['human_steps']} steps",
            )
        elif self._thrown_away:
            status, error = "error", "thrown away by the person who watched"
        elif self._unjudged and status != "error":
            status, error = "error", "kept by the person who watched, who did not say whether it succeeded"
        result = Result(
            row,
            status,
            steps=outcome.steps,
            wall_s=outcome.wall_s,
            error=error,
            policy=self.robot.name,
            embodiment=self.policy.spec.fingerprint,
            versions={"simulator drift": self.drift} if self.drift else {},
        )
        self.results.append(result)
        before = sum(sum(note["safety_events"].values()) for note in self.notes)
        rules = dict(Counter(event.rule for event in self.robot.events[before:]))
        self.notes.append({"row": row.to_json(), "safety_events": rules, "chunks": outcome.info})
        self.console.print(
            f"{number + 1}/{count} {row.task} init {row.init}: {result.status}, {outcome.steps} "
            f"steps in {outcome.wall_s:.1f} s{', ' + error if error else ''}"
        )


class _NothingRecorded(Exception):
    """No episode had a step: there is no data set to finish."""


@contextlib.contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """What cannot be started leaves no empty folder behind."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()
