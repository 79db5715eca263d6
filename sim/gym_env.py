"""Any Gymnasium environment with pictures as a benchmark, by a description of what its numbers mean."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32

from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault, ConfigError, DependencyMissing, PolicyFault, UnknownName
from vla.experience import Image, Observation
from vla.rows import Row
from vla.sim.gym_description import RENDER, TERMINATED, GymDescription, read
from vla.sim.rendering import gl


@dataclass(frozen=True)
class Config:
    """Which environment.

    Attributes:
        description: name of a file in ``sim/gym_envs/``, or path of one (:mod:`vla.sim.gym_description`).
        max_steps: control steps of an episode; 0 for the description's.
    """

    description: str = "metaworld"
    max_steps: int = 0

    def __post_init__(self):
        if self.max_steps < 0:
            raise ConfigError(f"max_steps {self.max_steps}: at least 0")

    def make(self) -> "GymBenchmark":
        """The benchmark; no environment is made before a row is opened.

        Raises:
            UnknownName: there is no such description.
            DataError: the description is damaged.
            DependencyMissing: the module that registers the environment is not installed.
        """
        return GymBenchmark(read(self.description), self.max_steps)


class GymBenchmark:
    """Tasks of one described environment; a :class:`~vla.rows.Simulator` with one suite, named as the description.

    There are no initial states: a row has ``init`` -1, and its seed decides the scene.
    """

    def __init__(self, description: GymDescription, max_steps: int = 0):
        self.description = description
        self._max_steps = max_steps or description.max_steps
        self._body: GymBody | None = None
        self._task = ""
        gl.choose()  # before the environment's module imports mujoco
        for module in description.imports:
            try:
                importlib.import_module(module)
            except ImportError as error:
                extra = f"; install it with: pip install 'vla-stack[{description.extra}]'" if description.extra else ""
                raise DependencyMissing(f"{description.name} needs {module} ({error}){extra}") from error

    @property
    def spec(self) -> EmbodimentSpec:
        """Of every body it opens."""
        return self.description.spec

    def suites(self) -> Sequence[str]:
        """The description's name alone."""
        return [self.description.name]

    def tasks(self, suite: str) -> Sequence[str]:
        """Names of the tasks in the description's order.

        Raises:
            UnknownName: the suite has another name than the description.
        """
        if suite not in self.suites():
            raise UnknownName("suite of this Gymnasium environment", suite, self.suites())
        return list(self.description.tasks)

    def open(self, row: Row) -> tuple["GymBody", "GymTask"]:
        """Body and task of a row. Only the last pair opened is usable.

        Raises:
            UnknownName: there is no such suite or task.
            ConfigError: the row asks for an initial state or wider regions.
        """
        if row.task not in self.tasks(row.suite):
            raise UnknownName(f"task of {row.suite}", row.task, self.description.tasks)
        if row.init != -1 or row.widen != 1.0:
            raise ConfigError(f"{row.suite} has no initial states and no regions: a row has init -1 and widen 1")
        if self._body is None or row.task != self._task:
            self.close()
            self._body, self._task = GymBody(self.description, row.task), row.task
        return self._body, GymTask(self._body, self.description, row, self._max_steps)

    def close(self) -> None:
        """Give back the environment."""
        if self._body is not None:
            self._body.close()
            self._body = None


class GymBody:
    """The environment's robot; a :class:`~vla.protocols.Body`. Its clock advances by one period with each command.

    Actions are the environment's own numbers, as the description's channels say. Once the environment has ended its
    episode, it is not stepped any more: what was reached stays.
    """

    def __init__(self, description: GymDescription, task: str):
        self._description, self._task = description, task
        self._env: Any = None
        channels = description.spec.action.channels
        self._low = np.array([channel.low / channel.scale for channel in channels], np.float32)
        self._high = np.array([channel.high / channel.scale for channel in channels], np.float32)
        self._observed: Any = None
        self._steps = 0
        self._ended = self.solved = False

    @property
    def spec(self) -> EmbodimentSpec:
        """The description's."""
        return self._description.spec

    @property
    def env(self) -> Any:
        """Gymnasium's, for what is not offered here; another one after :meth:`begin` where seeds go to ``make``.

        Raises:
            ConfigError: Gymnasium does not know it or its arguments, or it takes another number of actions than the
                description has.
        """
        if self._env is None:
            self._env = self._made({})
        return self._env

    def begin(self, seed: int) -> None:
        """A new episode of the environment; the same seed gives the same one.

        Raises:
            ConfigError: as :attr:`env`.
        """
        if self._description.seed_by == "make":
            self.close()
            self._env = self._made({"seed": seed})
        self._observed, _ = self.env.reset(seed=seed)
        self._steps, self._ended, self.solved = 0, False, False

    def observe(self, *, images: bool = True) -> Observation:
        """State and, only if asked for, pictures.

        Raises:
            BodyFault: the observation or a picture is not what the description says.
        """
        parts = []
        for part in self._description.parts:
            numbers = np.asarray(self._entry(part.key), np.float32).reshape(-1)[part.first : part.first + part.count]
            if len(numbers) != part.count:
                raise BodyFault(f"entry {part.key!r} of the observation has too few numbers for {part}")
            parts.append(numbers)
        pictures = {name: self._picture(name) for name in self.spec.camera_names} if images else {}
        state = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        return Observation(pictures, state, "", self._steps / self.spec.action.rate)

    def command(self, action: Float32[np.ndarray, "a"]) -> Float32[np.ndarray, "a"]:
        """Act for one period; returns what was sent, clipped to the channels' limits.

        Raises:
            PolicyFault: the action has another length or is not finite.
        """
        action = np.asarray(action, np.float32)
        if action.shape != self._low.shape or not np.isfinite(action).all():
            raise PolicyFault(f"an action is {len(self._low)} finite numbers, found {action}")
        sent = np.clip(action, self._low, self._high)
        self._steps += 1
        if not self._ended:
            self._observed, _, terminated, truncated, info = self.env.step(sent.copy())
            self._ended = bool(terminated or truncated)
            success = self._description.success
            self.solved |= bool(terminated if success == TERMINATED else info.get(success, False))
        return sent

    def stop(self) -> None:
        """A simulation only moves when commanded."""

    def close(self) -> None:
        """Give back the environment. Safe to call more than once."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _made(self, seed: dict[str, int]) -> Any:
        description = self._description
        arguments: dict[str, Any] = description.make | description.tasks[self._task].make | seed
        try:
            env = gymnasium.make(description.env, **arguments)
        except (gymnasium.error.Error, TypeError) as error:
            raise ConfigError(f"{description.name}: Gymnasium cannot make {description.env!r}: {error}") from error
        if env.action_space.shape != (description.spec.action.size,):
            env.close()
            raise ConfigError(
                f"{description.name} describes {description.spec.action.size} actions, found {env.action_space}"
            )
        return env

    def _entry(self, key: str) -> Any:
        value = self._observed
        for level in key.split("/") if key else ():
            if not isinstance(value, dict) or level not in value:
                raise BodyFault(f"the observation has no entry {key!r}")
            value = value[level]
        return value

    def _picture(self, camera: str) -> Image:
        source, spec = self._description.pictures[camera], self.spec.camera(camera)
        picture = np.asarray(self.env.render() if source == RENDER else self._entry(source))
        if picture.shape != (spec.height, spec.width, 3) or picture.dtype != np.uint8:
            raise BodyFault(
                f"camera {camera}: expected uint8 {(spec.height, spec.width, 3)}, found {picture.dtype} {picture.shape}"
            )
        return np.ascontiguousarray(picture)


class GymTask:
    """One row's scene and goal; a :class:`~vla.protocols.Task`."""

    def __init__(self, body: GymBody, description: GymDescription, row: Row, max_steps: int):
        self._body, self._description, self.row, self._max_steps = body, description, row, max_steps

    @property
    def instruction(self) -> str:
        """The description's."""
        return self._description.tasks[self.row.task].instruction

    @property
    def max_steps(self) -> int:
        """Control steps before the episode counts as not solved."""
        return self._max_steps

    def reset(self) -> None:
        """Set the row's scene."""
        self._body.begin(self.row.seed)

    def succeeded(self) -> bool:
        """Whether the environment has called the task solved since the reset."""
        return self._body.solved
