"""Where ``vla eval`` runs its rows: in LIBERO by a protocol, or in another simulator of ``sim/`` by its ``Config``."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vla.commands.name_value import make_config
from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.episode_worker import Factory
from vla.errors import ConfigError
from vla.plugins import plugin
from vla.protocol_libero import Protocol
from vla.rows import Benchmark, Row, Simulator
from vla.transforms import connect

LIBERO = "libero"
SCENES = 10
"""Of each task, if nothing else is said."""


@dataclass(frozen=True)
class Setup:
    """How rows are run with one policy.

    Attributes:
        benchmark: makes the scenes, in each process.
        execute: actions of each chunk before the policy looks again; None for all.
        protocol: recorded with the results; None where there is no such thing.
    """

    benchmark: Factory[Benchmark]
    execute: int | None
    protocol: Protocol | None


@dataclass(frozen=True)
class InLibero:
    """LIBERO under a protocol.

    Attributes:
        protocol: with what was set by hand; a camera size of 0 becomes the policy's.
        inits: initial states of each task.
        sampled: instead, scenes of each task with the objects placed anew.
        widen: factor for the regions of these.
        render: meshes to draw, as :class:`vla.sim.libero.Config` has it.
        allow_simulator_drift: likewise.
    """

    protocol: Protocol
    inits: int
    sampled: int
    widen: float
    render: Any
    allow_simulator_drift: bool

    @property
    def body(self) -> EmbodimentSpec | None:
        """None: policies by name are LIBERO's arm anyway, in their own picture size."""
        return None

    def rows(self, suite: str | None, tasks: Sequence[str]) -> list[Row]:
        """The rows of suites, with commas between them, and of their tasks, by number or name.

        Raises:
            UnknownName: there is no such suite or task.
            ConfigError: no row comes out, or a seed belongs to the demonstrations.
        """
        from vla.commands.choices import make_rows, suite_names, task_names

        return [
            row
            for name in suite_names(suite or "libero_spatial")
            for row in make_rows(
                name,
                task_names(name, tasks),
                inits=self.inits,
                sampled=self.sampled,
                widen=self.widen,
                seed=self.protocol.seed,
                seed_rule=self.protocol.seed_rule,
            )
        ]

    def check(self, rows: Sequence[Row]) -> None:
        """See that LIBERO has the scene of every row.

        Raises:
            UnknownName: there is no such suite or task.
            ConfigError: there is no such initial state.
        """
        from vla.commands.choices import check_rows

        check_rows(rows)

    def setup(self, policy: EmbodimentSpec, rows: Sequence[Row]) -> Setup:
        """For a policy, whose fit is seen to before a scene is compiled.

        Raises:
            SpecMismatch: it is not for LIBERO's arm.
        """
        from vla.sim import libero

        # a picture costs the same at any size: rendered as the policy wants it, none is resized
        wanted = max((max(camera.height, camera.width) for camera in policy.cameras), default=128)
        protocol = replace(self.protocol, camera_size=self.protocol.camera_size or wanted)
        connect(libero_panda(protocol.camera_size), policy)
        benchmark = libero.Config(
            camera_size=protocol.camera_size,
            render=self.render,
            settle_steps=protocol.settle_steps,
            limits=tuple((suite, protocol.limit(suite)) for suite in dict.fromkeys(row.suite for row in rows)),
            allow_simulator_drift=self.allow_simulator_drift,
        )
        return Setup(benchmark, protocol.execute or None, protocol)


@dataclass(frozen=True)
class InAnother:
    """A simulator by the name of its file, whose rows have no initial states: the seed decides the scene.

    Attributes:
        name: of the file in ``sim/``.
        settings: fields of its ``Config``.
        scenes: of each task.
        seed: of the first scene; the others count up.
        execute: actions of each chunk before the policy looks again; None for all.
    """

    name: str
    settings: tuple[tuple[str, Any], ...]
    scenes: int
    seed: int
    execute: int | None

    @functools.cached_property
    def config(self) -> Any:
        """Of the simulator.

        Raises:
            UnknownName: there is no such simulator, or it has no such setting.
            ConfigError: a setting is missing, of another kind or out of range.
        """
        config = plugin("sim", self.name).Config
        return make_config(config, f"simulator {self.name}", dict(self.settings), "--sim-set")

    @functools.cached_property
    def simulator(self) -> Simulator:
        """To be asked what it holds; its scenes are opened in other processes."""
        return self.config.make()

    @property
    def body(self) -> EmbodimentSpec:
        """Of its bodies."""
        return self.simulator.spec

    def rows(self, suite: str | None, tasks: Sequence[str]) -> list[Row]:
        """The rows of suites, with commas between them, all if none is given; and of their tasks, likewise.

        Raises:
            UnknownName: there is no such suite or task.
            ConfigError: no row comes out, or a seed belongs to the demonstrations.
        """
        from vla.commands.choices import chosen_tasks, make_rows

        names = [name.strip() for name in suite.split(",")] if suite else self.simulator.suites()
        return [
            row
            for name in dict.fromkeys(names)
            for row in make_rows(
                name,
                chosen_tasks(name, self.simulator.tasks(name), tasks),
                inits=0,
                sampled=self.scenes,
                widen=1.0,
                seed=self.seed,
            )
        ]

    def check(self, rows: Sequence[Row]) -> None:
        """See that there is the task of every row, and that none has an initial state.

        Raises:
            UnknownName: there is no such suite or task.
            ConfigError: a row has an initial state or wider regions.
        """
        from vla.commands.choices import chosen_tasks

        for suite in dict.fromkeys(row.suite for row in rows):
            chosen_tasks(suite, self.simulator.tasks(suite), [row.task for row in rows if row.suite == suite])
        if wrong := [row for row in rows if row.init != -1 or row.widen != 1.0]:
            raise ConfigError(f"{self.name} has no initial states and no regions to widen, found {wrong[0]}")

    def setup(self, policy: EmbodimentSpec, rows: Sequence[Row]) -> Setup:
        """For a policy, whose fit is seen to before a scene is made.

        Raises:
            SpecMismatch: it is not for this body.
        """
        connect(self.body, policy)
        return Setup(self.config, self.execute, None)
