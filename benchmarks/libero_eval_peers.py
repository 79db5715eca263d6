"""The peers of ``libero_eval.py``: a plain loop over LIBERO's stock environment, and lerobot's LIBERO evaluation."""

import contextlib
import functools
import io
import itertools
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import ACTION, RAW_ACTION, libero_panda
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.experience import ActionChunk, Observation
from vla.protocols import BatchPolicy, Policy, Query
from vla.rotation import axis_angle_of_quaternion
from vla.rows import Row
from vla.sim import libero_suites
from vla.transforms import action_map, connect

_TO_RAW = action_map(ACTION, RAW_ACTION)
_LOW = np.array([channel.low for channel in ACTION.channels], np.float32)
_HIGH = np.array([channel.high for channel in ACTION.channels], np.float32)
SETTLE = [0.0] * 6 + [-1.0]


@dataclass(frozen=True)
class StockConfig:
    """LIBERO's own environment as openpi's and OpenVLA's scripts run it; a benchmark of its own.

    Attributes:
        size: of both pictures, which come with every step [pixels].
        max_steps: control steps of an episode; 0 for the suite's limit.
    """

    size: int = 256
    max_steps: int = 0

    def make(self) -> "StockBenchmark":
        """The benchmark."""
        return StockBenchmark(self)


class StockBenchmark:
    """An environment a task, as those scripts make one."""

    def __init__(self, config: StockConfig):
        self.config, self._task, self._env = config, ("", ""), None

    def tasks(self, suite: str) -> Sequence[str]:
        """Names of a suite's tasks."""
        return [entry.name for entry in libero_suites.tasks(suite)]

    def open(self, row: Row) -> tuple["StockBody", "StockTask"]:
        """Body and task of a row; rows of one task share an environment."""
        entry = libero_suites.find_task(row.suite, row.task)
        if self._task != (row.suite, row.task):
            self.close()
            libero_suites.import_libero()
            from libero.libero.envs import OffScreenRenderEnv

            size = self.config.size
            with libero_suites.quiet():
                self._env = OffScreenRenderEnv(bddl_file_name=str(entry.bddl), camera_heights=size, camera_widths=size)
            self._task = row.suite, row.task
        limit = self.config.max_steps or entry.max_steps
        body = StockBody(self._env, entry.instruction, self.config.size)
        return body, StockTask(body, entry.initial_states()[row.init], row.seed, limit)

    def close(self) -> None:
        """Give back the environment."""
        if self._env is not None:
            self._env.close()
        self._env, self._task = None, ("", "")


class StockBody:
    """The environment's last answer as an observation; every command renders both pictures."""

    def __init__(self, env: Any, instruction: str, size: int):
        self.env, self.instruction, self._spec = env, instruction, libero_panda(size)
        self.last: dict[str, Any] = {}
        self.steps = 0
        self.solved = False

    @property
    def spec(self) -> EmbodimentSpec:
        """LIBERO's arm at this size."""
        return self._spec

    def observe(self, *, images: bool = True) -> Observation:
        """What came with the last step, as policies get it."""
        pictures = {c.name: np.ascontiguousarray(self.last[f"{c.name}_image"][::-1, ::-1]) for c in self._spec.cameras}
        turn = axis_angle_of_quaternion(self.last["robot0_eef_quat"])
        state = np.concatenate([self.last["robot0_eef_pos"], turn, self.last["robot0_gripper_qpos"]])
        return Observation(pictures, state.astype(np.float32), self.instruction, 0.05 * self.steps)

    def command(self, action: np.ndarray) -> np.ndarray:
        """One step of 50 ms, both pictures drawn."""
        sent = np.clip(action.astype(np.float32), _LOW, _HIGH)
        try:
            self.last, _, done, _ = self.env.step(_TO_RAW(sent).tolist())
        except ValueError as error:
            raise BodyFault(str(error)) from error
        self.steps += 1
        self.solved = self.solved or bool(done)
        return sent

    def stop(self) -> None:
        """It only moves when stepped."""

    def close(self) -> None:
        """The benchmark closes it."""


class StockTask:
    """Reset, initial state, ten steps, as the scripts have it; seeded for each row, so that rows stand alone."""

    def __init__(self, body: StockBody, state: np.ndarray, seed: int, limit: int):
        self.body, self.state, self.seed, self._limit = body, state, seed, limit

    @property
    def instruction(self) -> str:
        """In LIBERO's words."""
        return self.body.instruction

    @property
    def max_steps(self) -> int:
        """Control steps of an episode."""
        return self._limit

    def reset(self) -> None:
        """Set the scene."""
        with libero_suites.quiet():
            self.body.env.seed(self.seed)
            self.body.env.reset()
            self.body.last = self.body.env.set_init_state(self.state)
            for _ in range(10):
                self.body.last, *_ = self.body.env.step(SETTLE)
        self.body.steps, self.body.solved = 0, False

    def succeeded(self) -> bool:
        """Whether the environment has said so."""
        return self.body.solved


def _lerobot_env(suite_name: str, number: int, place: int, processes: int, limit: int, states: np.ndarray) -> Any:
    """One environment of lerobot's vector, as its factory makes it: the first episode has the initial state ``place``,
    the next one ``place + processes``. The wheel keeps initial states as NPZ, which lerobot would not open.
    """
    libero_suites.import_libero()
    from lerobot.envs.libero import LiberoEnv
    from libero.libero import benchmark

    with libero_suites.quiet():
        suite = benchmark.get_benchmark_dict()[suite_name]()
        env = LiberoEnv(
            suite, number, suite_name, episode_length=limit, obs_type="pixels_agent_pos", init_states=False,
            observation_height=360, observation_width=360, episode_index=place, n_envs=processes,
        )  # fmt: skip
    env.init_states, env._init_states = True, states
    return env


class _Chunks(torch.nn.Module):
    """Our policy behind lerobot's interface, asked for all environments at once where it can be.

    One that cannot be is asked for each of them in turn, without a reset: it must keep nothing of an episode.
    """

    def __init__(self, policy: Policy, seeds: Sequence[int], execute: int):
        super().__init__()
        self.policy, self.seeds, self.execute = policy, seeds, execute
        self.adapter = connect(libero_panda(360), policy.spec)
        self.reset()

    def reset(self) -> None:
        self.rows: list[deque[np.ndarray]] = [deque() for _ in self.seeds]
        self.asked = [0] * len(self.seeds)

    def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
        waiting = [place for place, rows in enumerate(self.rows) if not rows]
        queries = [Query(self._seen(batch, place), self.seeds[place], self.asked[place]) for place in waiting]
        for place, chunk in zip(waiting, self._answers(queries), strict=True):
            if isinstance(chunk, PolicyFault):
                raise chunk
            self.rows[place].extend(self.adapter.chunk(chunk).actions[: self.execute])
            self.asked[place] += 1
        actions = [_TO_RAW(np.clip(rows.popleft(), _LOW, _HIGH)) for rows in self.rows]
        return torch.from_numpy(np.stack(actions).astype(np.float32))

    def _seen(self, batch: dict[str, Any], place: int) -> Observation:
        names = {"agentview": "observation.images.image", "robot0_eye_in_hand": "observation.images.image2"}
        pictures = {
            camera: np.ascontiguousarray((255 * batch[key][place]).round().byte().permute(1, 2, 0).numpy())
            for camera, key in names.items()
        }
        state = batch["observation.state"][place].numpy()
        return self.adapter.observation(Observation(pictures, state, batch["task"][place], 0.0))

    def _answers(self, queries: Sequence[Query]) -> "list[ActionChunk | PolicyFault]":
        if isinstance(self.policy, BatchPolicy):
            return self.policy.act_many(queries, len(self.seeds)) if queries else []
        return [self.policy.act(query.observation) for query in queries]


def lerobot_run(
    rows: Sequence[Row], policy: Policy, execute: int, limit: int, processes: int
) -> tuple[list[bool], float, float]:
    """Lerobot's rollout over its asynchronous vector of environments, ``processes`` episodes of a task at a time.

    As its evaluation does, a task's vector is made once and reset for each rollout. The clocks stand still while its
    processes start and import; each makes its environment at the first reset.

    Args:
        rows: of each task the initial states 0, 1, ... in this order, a multiple of ``processes`` of them.
        policy: answers for all environments.
        execute: actions of each chunk before the next one is asked for.
        limit: control steps of an episode.
        processes: environments at a time.

    Returns:
        success of each row, wall-clock seconds, and CPU seconds of this process and the environments'.

    Raises:
        ConfigError: the rows are not the first initial states of their tasks, or not a multiple of ``processes``.
    """
    from lerobot.envs.configs import LiberoEnv
    from lerobot.envs.utils import _LazyAsyncVectorEnv
    from lerobot.scripts.lerobot_eval import rollout

    seen, sent = LiberoEnv().get_env_processors()
    solved: list[bool] = []
    wall = cpu = 0.0
    for (suite, task), group in itertools.groupby(rows, lambda row: (row.suite, row.task)):
        ours = list(group)
        if len(ours) % processes or [row.init for row in ours] != list(range(len(ours))):
            raise ConfigError(f"{suite}/{task}: lerobot runs initial states 0, 1, ..., {processes} at a time")
        entry = libero_suites.find_task(suite, task)
        states = entry.initial_states()
        env: Any = _LazyAsyncVectorEnv(
            [
                functools.partial(_lerobot_env, suite, entry.number, place, processes, limit, states)
                for place in range(processes)
            ]
        )
        env.call("task")  # starts the processes
        pids = [process.pid for process in env._env.processes]
        begin, before = time.perf_counter(), time.process_time() + sum(map(cpu_seconds, pids))
        for first in range(0, len(ours), processes):
            seeds = [row.seed for row in ours[first : first + processes]]
            chunks: Any = _Chunks(policy, seeds, execute)
            with contextlib.redirect_stdout(io.StringIO()):
                done = rollout(env, chunks, seen, sent, _same, _same, seeds=seeds)  # pyright: ignore
            solved += done["success"].any(dim=1).tolist()
        wall += time.perf_counter() - begin
        cpu += time.process_time() + sum(map(cpu_seconds, pids)) - before
        env.close()
    return solved, wall, cpu


def cpu_seconds(pid: int) -> float:
    """That a process has used so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _same(value: Any) -> Any:
    return value
