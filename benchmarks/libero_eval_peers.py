"""The peers of ``libero_eval.py``: a plain loop over LIBERO's stock environment, and lerobot's LIBERO evaluation."""

import contextlib
import functools
import io
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import ACTION, RAW_ACTION, libero_panda
from vla.errors import BodyFault
from vla.experience import Observation
from vla.protocols import Policy
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


def _lerobot_env(suite_name: str, number: int, init: int, limit: int, states: np.ndarray) -> Any:
    """Lerobot's environment of one initial state; the wheel keeps those as NPZ, which lerobot would not open."""
    libero_suites.import_libero()
    from lerobot.envs.libero import LiberoEnv
    from libero.libero import benchmark

    with libero_suites.quiet():
        suite = benchmark.get_benchmark_dict()[suite_name]()
        env = LiberoEnv(
            suite, number, suite_name, episode_length=limit, obs_type="pixels_agent_pos", init_states=False,
            observation_height=360, observation_width=360, episode_index=init,
        )  # fmt: skip
    env.init_states, env._init_states = True, states
    return env


class _Chunks(torch.nn.Module):
    """Our policies behind lerobot's interface: one for each environment, asked when its chunk is used up."""

    def __init__(self, policies: Sequence[Policy], seeds: Sequence[int], execute: int):
        super().__init__()
        self.policies, self.seeds, self.execute = policies, seeds, execute
        body = libero_panda(360)
        self.adapter = connect(body, policies[0].spec)
        self.rows: list[deque[np.ndarray]] = [deque() for _ in policies]

    def reset(self) -> None:
        for policy, seed, rows in zip(self.policies, self.seeds, self.rows, strict=True):
            policy.reset("", seed=seed)  # every observation brings the instruction
            rows.clear()

    def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
        names = {"agentview": "observation.images.image", "robot0_eye_in_hand": "observation.images.image2"}
        actions = []
        for place, (policy, rows) in enumerate(zip(self.policies, self.rows, strict=True)):
            if not rows:
                pictures = {
                    camera: np.ascontiguousarray((255 * batch[key][place]).round().byte().permute(1, 2, 0).numpy())
                    for camera, key in names.items()
                }
                state = batch["observation.state"][place].numpy()
                seen = Observation(pictures, state, batch["task"][place], 0.0)
                rows.extend(self.adapter.chunk(policy.act(self.adapter.observation(seen))).actions[: self.execute])
            actions.append(_TO_RAW(np.clip(rows.popleft(), _LOW, _HIGH)))
        return torch.from_numpy(np.stack(actions).astype(np.float32))


def lerobot_run(
    rows: Sequence[Row], make: Callable[[], Policy], execute: int, limit: int, processes: int
) -> tuple[list[bool], float, float]:
    """Lerobot's rollout over its asynchronous vector of environments, ``processes`` episodes of a task at a time.

    Returns:
        success of each row, wall-clock seconds, and CPU seconds of this process and the environments'.
    """
    from lerobot.envs.configs import LiberoEnv
    from lerobot.envs.utils import _LazyAsyncVectorEnv
    from lerobot.scripts.lerobot_eval import rollout

    seen, sent = LiberoEnv().get_env_processors()
    policies = [make() for _ in range(processes)]
    solved: list[bool] = []
    wall, cpu, apart = time.perf_counter(), time.process_time(), 0.0
    for first in range(0, len(rows), processes):
        part = rows[first : first + processes]
        entry = libero_suites.find_task(part[0].suite, part[0].task)
        functions = [
            functools.partial(_lerobot_env, row.suite, entry.number, row.init, limit, entry.initial_states())
            for row in part
        ]
        env: Any = _LazyAsyncVectorEnv(functions)
        policy: Any = _Chunks(policies[: len(part)], [row.seed for row in part], execute)
        with contextlib.redirect_stdout(io.StringIO()):
            done = rollout(env, policy, seen, sent, _same, _same, seeds=[row.seed for row in part])  # pyright: ignore
        solved += done["success"].any(dim=1).tolist()
        apart += sum(cpu_seconds(process.pid) for process in env._env.processes)
        env.close()
    return solved, time.perf_counter() - wall, time.process_time() - cpu + apart


def cpu_seconds(pid: int) -> float:
    """That a process has used so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _same(value: Any) -> Any:
    return value
