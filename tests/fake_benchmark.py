"""A world of one point for tests of evaluation and viewing: no physics, but the real embodiment and the real run loop.

A row's ``init`` chooses what happens: below 50 a scene; from 50 on a way to break.
"""

import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import libero_panda
from vla.errors import BodyFault, PolicyFault, UnknownName
from vla.experience import ActionChunk, Observation
from vla.workers import Unequipped

KILLED_ALWAYS, KILLED_ONCE, RAISES, FAULT, HANGS, EATS, STARVES = 50, 51, 52, 53, 54, 55, 56
POLICY_DIES, POLICY_RAISES, POLICY_FAULTS, POLICY_STARVES, POLICY_LEAVES = 901, 902, 903, 904, 905
"""Seeds at which a policy breaks."""
TASKS = ("reach left", "reach right")


class PointBody:
    def __init__(self, size: int):
        self.spec = libero_panda(size)
        self.size = size
        self.position = np.zeros(3, np.float32)
        self.grip = 0.0
        self.time = 0.0

    def observe(self, *, images=True):
        state = np.zeros(8, np.float32)
        state[:3] = self.position
        state[6:] = (0.04 * self.grip, -0.04 * self.grip)
        pictures = {camera.name: self._draw(camera.name) for camera in self.spec.cameras} if images else {}
        return Observation(pictures, state, "", self.time)

    def _draw(self, camera):
        picture = np.full((self.size, self.size, 3), 40 if camera == "agentview" else 90, np.uint8)
        column = int(np.clip((self.position[0] + 0.5) * self.size, 2, self.size - 3))
        picture[self.size // 4 - 2 : self.size // 4 + 2, column - 2 : column + 2] = (255, 60, 0)
        return picture

    def command(self, action):
        sent = action.copy()
        sent[:3] = np.clip(sent[:3], -0.05, 0.05)
        self.position = self.position + sent[:3]
        self.grip = float(sent[6])
        self.time += 0.05
        return sent

    def stop(self):
        pass

    def close(self):
        pass


class PointTask:
    instruction = "move the point to its place"

    def __init__(self, body, row, config):
        self.body, self.row, self.max_steps, self.config = body, row, config.max_steps, config

    def reset(self):
        self.body.position = np.zeros(3, np.float32)
        self.body.time = 0.0
        rng = np.random.default_rng((self.row.seed, self.row.init))
        self.goal = (0.2 + 0.2 * rng.random()) * (-1 if self.row.task == "reach left" else 1)
        init = self.row.init
        if init == KILLED_ALWAYS:
            os.kill(os.getpid(), signal.SIGKILL)
        if init == KILLED_ONCE:
            flag = Path(self.config.flags) / f"{self.row.seed}"
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGSEGV)
        if init == RAISES:
            raise RuntimeError("the simulator has a bug")
        if init == FAULT:
            raise BodyFault("the arm stopped answering")
        if init == HANGS:
            time.sleep(3600)
        if init == STARVES:
            limit = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, limit[1]))
            np.zeros(2**34, np.uint8)
        if init == EATS:
            eaten = []
            while True:
                eaten.append(np.ones(2**24, np.uint8))
                time.sleep(0.02)

    def succeeded(self):
        return abs(self.body.position[0] - self.goal) < 0.06


@dataclass(frozen=True)
class Config:
    """``flags`` is a folder that notes what already happened; ``pause`` slows every row down [s]."""

    flags: str = ""
    size: int = 32
    max_steps: int = 30
    pause: float = 0.0

    def make(self):
        return PointBenchmark(self)


class PointBenchmark:
    def __init__(self, config):
        self.config = config
        self.body = PointBody(config.size)

    def tasks(self, suite):
        return TASKS

    def open(self, row):
        if row.task not in TASKS:
            raise UnknownName("task", row.task, TASKS)
        if self.config.flags:
            with (Path(self.config.flags) / "opened").open("a") as log:
                log.write(f"{os.getpid()} {row.task} {row.init} {row.seed}\n")
        time.sleep(self.config.pause)
        return self.body, PointTask(self.body, row, self.config)

    def close(self):
        if self.config.flags:
            (Path(self.config.flags) / f"closed-{os.getpid()}").touch()


@dataclass(frozen=True)
class PolicyConfig:
    """Goes right: solves "reach right"; ``weights`` stands for a checkpoint."""

    weights: str = "a"
    horizon: int = 8
    size: int = 32
    broken: bool = False
    hangs: bool = False
    batches: bool = False
    flags: str = ""

    def make(self):
        if self.broken:
            raise RuntimeError("no such weights")
        if self.hangs:
            time.sleep(3600)
        if self.flags:
            with (Path(self.flags) / "policies").open("a") as log:
                log.write(f"{os.getpid()}\n")
        return PointBatchPolicy(self) if self.batches else PointPolicy(self)


class PointPolicy:
    def __init__(self, config):
        self.config = config
        self.spec = libero_panda(config.size)
        if os.environ.get("FAKE_OTHER_EMBODIMENT"):
            self.spec = bridge_widowx()

    @property
    def fingerprint(self):
        path = Path(self.config.weights)
        return path.read_text() if path.is_file() else self.config.weights

    def reset(self, instruction, *, seed):
        self.rng = np.random.default_rng(seed)
        if seed == POLICY_RAISES:
            raise RuntimeError("the policy has a bug")
        if seed == POLICY_FAULTS:
            raise PolicyFault("the policy gave up")
        if seed == POLICY_STARVES:
            raise MemoryError("the policy is too large")
        if seed in (POLICY_DIES, POLICY_LEAVES):
            flag = Path(self.config.flags) / f"{seed}"
            if not flag.exists():
                flag.touch()
                if seed == POLICY_LEAVES:
                    raise Unequipped("the policy has gone")
                os.kill(os.getpid(), signal.SIGKILL)

    def act(self, observation):
        actions = np.zeros((self.config.horizon, 7), np.float32)
        actions[:, 0] = 0.03 + 0.004 * self.rng.standard_normal(self.config.horizon)
        actions[:, 2] = 0.002 * self.rng.standard_normal(self.config.horizon)
        actions[:, 6] = observation.state[0] > 0.1
        return ActionChunk(actions, observation.time, 0.05)


class PointBatchPolicy(PointPolicy):
    """Answers follow from query and batch size, and from the pictures, so that wrong ones would be noticed."""

    def act_many(self, queries, size):
        assert len(queries) <= size
        if self.config.flags:
            with (Path(self.config.flags) / "batches").open("a") as log:
                log.write(f"{len(queries)}\n")
        answers = []
        for query in queries:
            if query.number == 0:
                try:
                    self.reset("", seed=query.seed)
                except PolicyFault as fault:
                    answers.append(fault)
                    continue
            self.rng = np.random.default_rng((query.seed, query.number, size))
            chunk = self.act(query.observation)
            bright = sum(int(picture.sum()) for picture in query.observation.images.values())
            chunk.actions[:, 1] = 1e-9 * bright
            answers.append(chunk)
        return answers
