"""``vla rollout``: a policy on an arm in real time, within safety limits, recorded as it happens."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from vla.commands.policy_choice import Chunking
from vla.errors import ConfigError, UnknownName
from vla.protocols import Outcome, Policy
from vla.results import Result, summarise, write_results
from vla.rows import Row

ROBOTS = ("mujoco-arm",)


@dataclass(frozen=True)
class Rollout:
    """Run a policy on an arm: the loop of ``vla eval``, on a body whose clock does not wait, within safety limits."""

    checkpoint: Positional[Path]
    """A training run's folder, one of its checkpoints, a LeRobot policy's folder, the address of a served policy
    (ws://host:port), or the name of a policy, e.g. hold."""
    out: Path
    """Folder for the recording (a LeRobot data set), results and Rerun recordings."""
    robot: str = "mujoco-arm"
    """mujoco-arm: a Panda in a LIBERO scene, simulated in real time in a process of its own."""
    embodiment: str | None = None
    """Which of the checkpoint's embodiments to be, if it has several."""
    features: Path | None = None
    """Of a LeRobot policy: the table of its features, if it is not beside the weights."""
    certificate: Path | None = None
    """Of a server (wss://): PEM file of who signed its certificate, if that is nobody known."""
    suite: str = "libero_spatial"
    """LIBERO suite whose scenes are set before the arm."""
    tasks: tuple[str, ...] = ()
    """Tasks by number or name; all if none is given."""
    inits: int = 2
    """The first n of each task's own initial states."""
    seed: int = 0
    """Of the first row; the others count up."""
    execute: int = 8
    """Actions of each chunk that are executed before the policy looks again."""
    chunking: Chunking = "synchronous"
    """Wait for each chunk, or make the next one meanwhile: asynchronous (it counts from when it is there), ensemble
    (all chunks are averaged), realtime (it continues the plan). Where it is late, the arm stops until it comes."""
    ode_steps: int | None = None
    """Steps from noise to action, for policies that take such steps; by default the policy's own number (10)."""
    device: str = "cpu"
    """cpu or cuda: where the policy runs, unless a server has it."""
    recordings: int = 2
    """Episodes to record for Rerun as well."""
    unsafe: bool = False
    """Run without the policy side's limits on step size, workspace and stale observations; noted in the recording."""
    allow_simulator_drift: bool = False
    """Simulate with a MuJoCo that LIBERO's numbers do not hold for; every result is marked."""

    def run(self, console: Console) -> dict[str, Any]:
        """Run every row once; Ctrl-C stops the arm and keeps what was recorded."""
        from vla.commands.choices import make_rows, task_names
        from vla.commands.policy_choice import executor, opened, policy_config
        from vla.datasets.lerobot_v3 import Writer
        from vla.embodiments.libero_panda import limits
        from vla.experience import Episode
        from vla.files import write_text
        from vla.recorder import Recorder
        from vla.runtime import Pace, run_episode
        from vla.safety import SafeBody
        from vla.sim import simulator_version
        from vla.transforms import connect
        from vla.view import RerunObserver

        if self.robot not in ROBOTS:
            raise UnknownName("robot", self.robot, ROBOTS)
        drift = simulator_version.check(allow_drift=self.allow_simulator_drift)
        if self.out.exists():
            raise ConfigError(f"{self.out} exists already; choose another folder or remove it")
        rows = make_rows(
            self.suite, task_names(self.suite, self.tasks), inits=self.inits, sampled=0, widen=1.0, seed=self.seed
        )
        # the arm's process simulates on a core of its own; torch shares the rest
        threads = max(1, (os.cpu_count() or 2) - 1)
        config = policy_config(
            self.checkpoint,
            embodiment=self.embodiment,
            features=self.features,
            certificate=self.certificate,
            ode_steps=self.ode_steps,
            threads=threads,
            device=self.device,
        )
        results: list[Result] = []
        notes: list[dict[str, Any]] = []
        interrupted = False
        with opened(config) as policy, _arm(rows[0], self._scenes(policy), self.out) as (arm, pid):
            body = arm if self.unsafe else SafeBody(arm, limits(self.suite))
            # a first inference is slow (memory, kernels): not while the arm waits for it
            seen = arm.observe()
            policy.reset(seen.instruction, seed=self.seed)
            policy.act(connect(arm.spec, policy.spec).observation(seen))
            with Writer(self.out / "episodes", arm.spec) as writer:

                def keep(episode: Episode, outcome: Outcome) -> None:
                    writer.add(episode)

                try:
                    for number, row in enumerate(rows):
                        before = len(body.events) if isinstance(body, SafeBody) else 0
                        info = row.to_json() | {"safety": "off" if self.unsafe else "on"}
                        observers: list[Any] = [Recorder(keep, source=self.robot, info=info)]
                        if number < self.recordings:
                            observers.append(RerunObserver(self.out / "rrd" / f"{number:03d}.rrd"))
                        outcome = run_episode(
                            body,
                            arm.task(row.to_json()),
                            policy,
                            seed=row.seed,
                            executor=executor(self.chunking, self.execute),
                            observers=observers,
                            pace=Pace(arm.spec.action.rate),
                        )
                        results.append(_result(row, outcome, policy.spec.fingerprint, self.robot, drift))
                        events = body.events[before:] if isinstance(body, SafeBody) else ()
                        rules = dict(Counter(event.rule for event in events))
                        notes.append({"row": row.to_json(), "safety_events": rules, "chunks": outcome.info})
                        console.print(
                            f"{number + 1}/{len(rows)} {row.task} init {row.init}: {outcome.status}, {outcome.steps} "
                            f"steps in {outcome.wall_s:.1f} s{', ' + outcome.error if outcome.error else ''}"
                        )
                except KeyboardInterrupt:
                    interrupted = True
                if not results:
                    raise KeyboardInterrupt
            telemetry = arm.telemetry()
        write_results(self.out / "results.parquet", results)
        write_text(self.out / "safety.json", json.dumps(notes, indent=1))
        total = summarise(results)["total"]
        console.print(
            f"{total['successes']} of {total['n']} succeeded, {total['errors']} errors; recorded in {self.out}"
        )
        if interrupted:
            raise KeyboardInterrupt
        return {
            "rows": len(rows),
            "total": total,
            "arm_pid": pid,
            "policy_pid": os.getpid(),
            "arm": telemetry,
            "recording": str(self.out / "episodes"),
        }

    def _scenes(self, policy: Policy) -> Any:
        """How the arm's world is simulated: pictures as large as the policy wants them.

        Raises:
            SpecMismatch: the policy is none for that arm; nothing is written or started yet.
            ConfigError: its chunks cannot be executed in that way.
        """
        from vla.commands.named_policy import CAMERA_SIZE
        from vla.commands.policy_choice import executor
        from vla.embodiments.libero_panda import libero_panda
        from vla.sim import libero
        from vla.transforms import connect

        size = max((camera.height for camera in policy.spec.cameras), default=CAMERA_SIZE)
        executor(self.chunking, self.execute)(policy, connect(libero_panda(size), policy.spec)).close()
        return libero.Config(camera_size=size, allow_simulator_drift=self.allow_simulator_drift)


@contextlib.contextmanager
def _arm(row: Row, scenes: Any, out: Path) -> Iterator[tuple[Any, int]]:
    """The simulated arm in its own process, connected; both are gone when the block ends."""
    from vla.commands.libero_arm import LiberoArm
    from vla.robot_driver import mujoco_arm
    from vla.robot_driver.mujoco_arm_process import spawn

    out.mkdir(parents=True)
    with spawn(LiberoArm(row, scenes), log=out / "arm.jsonl") as process:
        host, port = process.address
        arm = mujoco_arm.Config(host, port).make()
        try:
            yield arm, process.pid
        finally:
            arm.close()


def _result(row: Row, outcome: Outcome, fingerprint: str, robot: str, drift: str) -> Result:
    return Result(
        row,
        outcome.status,
        steps=outcome.steps,
        wall_s=outcome.wall_s,
        error=outcome.error,
        policy=robot,
        embodiment=fingerprint,
        versions={"simulator drift": drift} if drift else {},
    )
