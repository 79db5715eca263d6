"""LIBERO as a benchmark: scenes by row, each a simulated Panda and a task.

The protocol of the published evaluations: LIBERO's reset, the row's initial state, ten settling steps, then the policy;
20 Hz; pictures as public policies get them; success is the environment's own predicate at the end of any step.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError
from vla.rows import Row
from vla.sim import libero_placement, libero_suites, simulator_version
from vla.sim.libero_suites import SuiteTask
from vla.sim.libero_world import LiberoWorld, Render
from vla.sim.panda_body import PandaBody

LiberoBody = PandaBody[LiberoWorld]
"""The simulated Panda in a LIBERO scene."""


@dataclass(frozen=True)
class Config:
    """How LIBERO is simulated.

    Attributes:
        camera_size: height and width of the pictures [pixels].
        render: ``decimated`` thins out the visual meshes, the physics unchanged, and is made for machines without a
            GPU; ``exact`` draws what LIBERO itself draws.
        fused: our own controller inside the physics step (:mod:`vla.sim.osc`): faster, the same states to 1e-6.
        settle_steps: control steps with an open gripper after a scene is set, before the policy.
        max_steps: control steps of an episode; 0 for the suite's limit.
        limits: control steps of an episode by suite; the usual ones (``libero_suites.max_steps``) for suites not named.
        worlds: compiled scenes kept for later rows of their tasks; each takes a second to make and memory to keep.
        allow_simulator_drift: simulate with versions that LIBERO's numbers do not hold for; results are marked.
    """

    camera_size: int = 256
    render: Render = "decimated"
    fused: bool = True
    settle_steps: int = 10
    max_steps: int = 0
    limits: tuple[tuple[str, int], ...] = ()
    worlds: int = 1
    allow_simulator_drift: bool = False

    def __post_init__(self):
        if self.camera_size < 1 or self.settle_steps < 0 or self.max_steps < 0 or self.worlds < 1:
            raise ConfigError(f"{self}: sizes and counts are positive, settle_steps and max_steps at least 0")
        if any(limit < 1 for _, limit in self.limits):
            raise ConfigError(f"limits {self.limits}: an episode takes at least one step")
        if self.render not in ("decimated", "exact"):
            raise ConfigError(f"render {self.render!r}: expected decimated or exact")

    def make(self) -> "LiberoBenchmark":
        """The benchmark; nothing is compiled before a row is opened.

        Raises:
            ConfigError: LIBERO's numbers do not hold for the installed simulator, and that was not allowed.
        """
        return LiberoBenchmark(self)


class LiberoBenchmark:
    """Scenes by row; a :class:`~vla.rows.Simulator`.

    Attributes:
        config: how LIBERO is simulated.
        drift: versions that LIBERO's numbers do not hold for, which its results are marked with; empty if all is well.
    """

    def __init__(self, config: Config):
        self.config = config
        self.drift = simulator_version.check(allow_drift=config.allow_simulator_drift)
        self._worlds: dict[SuiteTask, LiberoWorld] = {}

    @property
    def spec(self) -> EmbodimentSpec:
        """Of every body it opens."""
        return libero_panda(self.config.camera_size)

    def suites(self) -> Sequence[str]:
        """Those of the wheel whose files are all there."""
        return libero_suites.suites()

    def tasks(self, suite: str) -> Sequence[str]:
        """Names of a suite's tasks in LIBERO's order.

        Raises:
            UnknownName: there is no such suite, or it has no initial states in the wheel.
        """
        return [entry.name for entry in libero_suites.tasks(suite)]

    def open(self, row: Row) -> tuple[LiberoBody, "LiberoTask"]:
        """Body and task of a row. Only the last pair opened for a task is usable.

        Raises:
            UnknownName: there is no such suite or task.
            ConfigError: there is no such initial state.
        """
        entry = libero_suites.find_task(row.suite, row.task)
        states = entry.initial_states()
        if row.init >= len(states):
            raise ConfigError(f"{row.suite}/{row.task} has initial states 0 to {len(states) - 1}, asked for {row.init}")
        world = self._world(entry)
        limit = self.config.max_steps or dict(self.config.limits).get(row.suite)
        if limit:
            entry = dataclasses.replace(entry, max_steps=limit)
        return LiberoBody(world, entry.instruction, self.spec), LiberoTask(world, entry, row)

    def close(self) -> None:
        """Give back simulators and graphics contexts."""
        for world in self._worlds.values():
            world.close()
        self._worlds.clear()

    def _world(self, entry: SuiteTask) -> LiberoWorld:
        """The task's compiled scene; the one that was not used for longest makes room."""
        world = self._worlds.pop(entry, None)
        if world is None:
            while len(self._worlds) >= self.config.worlds:
                self._worlds.pop(next(iter(self._worlds))).close()
            world = LiberoWorld(
                entry.bddl,
                render=self.config.render,
                fused=self.config.fused,
                settle_steps=self.config.settle_steps,
            )
        self._worlds[entry] = world
        return world


class LiberoTask:
    """One row's scene and goal; a :class:`~vla.protocols.Task`."""

    def __init__(self, world: LiberoWorld, entry: SuiteTask, row: Row):
        self._world = world
        self._entry = entry
        self.row = row

    @property
    def instruction(self) -> str:
        """In LIBERO's words, as its published data sets have them."""
        return self._entry.instruction

    @property
    def max_steps(self) -> int:
        """Control steps before the episode counts as not solved."""
        return self._entry.max_steps

    @property
    def number(self) -> int:
        """Place of the task in its suite, from 0."""
        return self._entry.number

    @property
    def bddl(self) -> Path:
        """The file that describes scene and goal."""
        return self._entry.bddl

    def reset(self) -> None:
        """Set the row's scene and let it settle.

        Raises:
            BodyFault: no valid scene could be sampled.
        """
        if self.row.init == -1:
            libero_placement.sample(self._world, seed=self.row.seed, widen=self.row.widen)
        else:
            self._world.reset(self._entry.initial_states()[self.row.init], seed=self.row.seed)

    def succeeded(self) -> bool:
        """Whether the goal has held at the end of any step since the reset."""
        return self._world.succeeded()
