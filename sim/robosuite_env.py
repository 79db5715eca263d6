"""robosuite's own tasks with the Panda as a benchmark: LIBERO's arm, controller and conventions on other tables.

There are no initial states: a row has ``init`` -1, and its seed decides everything that robosuite draws at a reset.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, UnknownName
from vla.rows import Row
from vla.sim import libero_suites, simulator_version
from vla.sim.panda_body import PandaBody
from vla.sim.panda_scene import PandaScene, Render, numpy_seeded

SUITE = "robosuite"
TASKS = {
    "Lift": "lift the red cube",
    "Stack": "stack the red cube on the green cube",
    "PickPlaceMilk": "put the milk into its bin",
    "PickPlaceBread": "put the bread into its bin",
    "PickPlaceCereal": "put the cereal into its bin",
    "PickPlaceCan": "put the can into its bin",
    "NutAssemblySquare": "put the square nut on its peg",
    "NutAssemblyRound": "put the round nut on its peg",
    "Door": "open the door",
}
"""robosuite's names of its tasks for one arm, and what a policy is told."""

MAX_STEPS = 400
"""As robomimic evaluates Lift, Can and Square (Mandlekar et al. 2021)."""


@dataclass(frozen=True)
class Config:
    """How robosuite is simulated.

    Attributes:
        camera_size: height and width of the pictures [pixels].
        render: ``decimated`` thins out the visual meshes, the physics unchanged; ``exact`` draws what robosuite draws.
        fused: our own controller inside the physics step (:mod:`vla.sim.osc`): faster, the same states to 1e-6.
        max_steps: control steps of an episode.
        allow_simulator_drift: simulate with versions that published numbers do not hold for; results are marked.
    """

    camera_size: int = 256
    render: Render = "decimated"
    fused: bool = True
    max_steps: int = MAX_STEPS
    allow_simulator_drift: bool = False

    def __post_init__(self):
        if self.camera_size < 1 or self.max_steps < 1:
            raise ConfigError(f"{self}: sizes and counts are positive")
        if self.render not in ("decimated", "exact"):
            raise ConfigError(f"render {self.render!r}: expected decimated or exact")

    def make(self) -> "RobosuiteBenchmark":
        """The benchmark; nothing is compiled before a row is opened.

        Raises:
            ConfigError: the installed simulator is another one, and that was not allowed.
        """
        return RobosuiteBenchmark(self)


class RobosuiteWorld(PandaScene):
    """One of robosuite's scenes, compiled.

    Args:
        task: robosuite's name of it.
        render: as :class:`~vla.sim.panda_scene.PandaScene` has it.
        fused: likewise.
    """

    def __init__(self, task: str, *, render: Render = "decimated", fused: bool = True):
        libero_suites.import_libero()  # robosuite without its output, and bridges to NumPy 2
        import robosuite

        with numpy_seeded(0), libero_suites.quiet():
            env = robosuite.make(
                task,
                robots="Panda",
                controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
                use_camera_obs=False,
                has_renderer=False,
                has_offscreen_renderer=False,
                hard_reset=False,
                control_freq=20,
                ignore_done=True,
            )
            # placements belong to what the constructor compiled: from here on a reset only moves things
            env.reset()
        super().__init__(env, render=render, fused=fused)
        self._poses = self.model.body_pos.copy(), self.model.body_quat.copy()

    def reset(self, seed: int) -> None:
        """A scene as robosuite draws it. The same seed gives the same one, whatever ran before."""
        self.model.body_pos[:], self.model.body_quat[:] = self._poses
        self.env.robots[0].gripper.current_action *= 0  # outlives robosuite's own reset
        with numpy_seeded(seed), libero_suites.quiet():
            self.env.reset()
        self.data.qacc_warmstart[:] = 0
        self._mujoco.mj_forward(self.model, self.data)
        self._ready()


class RobosuiteBenchmark:
    """Scenes by row; a :class:`~vla.rows.Simulator` with the one suite ``"robosuite"``.

    Attributes:
        config: how they are simulated.
        drift: versions that published numbers do not hold for; empty if all is well.
    """

    def __init__(self, config: Config):
        self.config = config
        self.drift = simulator_version.check(allow_drift=config.allow_simulator_drift)
        self._world: RobosuiteWorld | None = None
        self._task = ""

    @property
    def spec(self) -> EmbodimentSpec:
        """LIBERO's, but for the name: the arm, its controller and the cameras' names are the same."""
        return replace(libero_panda(self.config.camera_size), name="robosuite_panda")

    def suites(self) -> Sequence[str]:
        """The one."""
        return [SUITE]

    def tasks(self, suite: str) -> Sequence[str]:
        """Robosuite's names of the tasks.

        Raises:
            UnknownName: the suite is not ``"robosuite"``.
        """
        if suite not in self.suites():
            raise UnknownName("suite of robosuite", suite, self.suites())
        return list(TASKS)

    def open(self, row: Row) -> tuple[PandaBody[RobosuiteWorld], "RobosuiteTask"]:
        """Body and task of a row. Only the last pair opened is usable.

        Raises:
            UnknownName: there is no such suite or task.
            ConfigError: the row asks for an initial state or wider regions.
        """
        if row.task not in self.tasks(row.suite):
            raise UnknownName("task of robosuite", row.task, TASKS)
        if row.init != -1 or row.widen != 1.0:
            raise ConfigError("robosuite's tasks have no initial states and no regions: a row has init -1 and widen 1")
        if self._world is None or row.task != self._task:
            self.close()
            self._world = RobosuiteWorld(row.task, render=self.config.render, fused=self.config.fused)
            self._task = row.task
        body = PandaBody(self._world, TASKS[row.task], self.spec)
        return body, RobosuiteTask(self._world, row, self.config.max_steps)

    def close(self) -> None:
        """Give back the simulator and the graphics context."""
        if self._world is not None:
            self._world.close()
            self._world = None


class RobosuiteTask:
    """One row's scene and goal; a :class:`~vla.protocols.Task`."""

    def __init__(self, world: RobosuiteWorld, row: Row, max_steps: int):
        self._world, self.row, self._max_steps = world, row, max_steps

    @property
    def instruction(self) -> str:
        """What is to be done."""
        return TASKS[self.row.task]

    @property
    def max_steps(self) -> int:
        """Control steps before the episode counts as not solved."""
        return self._max_steps

    def reset(self) -> None:
        """Set the row's scene."""
        self._world.reset(self.row.seed)

    def succeeded(self) -> bool:
        """Whether robosuite's own predicate has held at the end of any step since the reset."""
        return self._world.succeeded()
