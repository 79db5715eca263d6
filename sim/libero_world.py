"""One LIBERO scene that is stepped, at the control rate or at the physics rate, with pictures only when asked for.

::

    LiberoWorld ── reset(state, seed) ─▶ scene, 10 settling steps
        ├── step(raw)                   one control period (50 ms): what a simulated body does
        └── set_goal(raw), substep()    one physics step (2 ms): what an arm's server does at its own rate
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from vla.errors import BodyFault, ConfigError, UnknownName
from vla.experience import Image
from vla.rotation import axis_angle_of_quaternion
from vla.sim import libero_suites
from vla.sim.osc import OscPose
from vla.sim.rendering import mujoco_binding
from vla.sim.rendering.camera import Camera
from vla.sim.rendering.decimate import decimate
from vla.sim.rendering.mujoco_binding import MjData, MjModel
from vla.sim.rendering.textures import shrink_textures

Render = Literal["decimated", "exact"]
SETTLE_ACTION = np.array([0, 0, 0, 0, 0, 0, -1.0])  # stay, gripper open


class LiberoWorld:
    """A compiled LIBERO scene, its controller and its goal.

    Raw actions are the environment's own: seven numbers in [-1, 1], of which +-1 stands for 0.05 m and 0.5 rad in the
    base frame, and -1 opens, +1 closes the gripper.

    Attributes:
        bddl: the file the scene was made from.
        model: compiled; do not edit.
        data: the state. Positions of bodies and sites lag the joints by one physics step, as in LIBERO.
        env: LIBERO's own environment underneath, for what is not offered here.

    Args:
        bddl: scene and goal.
        render: ``"decimated"`` thins out visual meshes (not the physics) and leaves out antialiasing;
            ``"exact"`` draws what LIBERO's own renderer draws.
        fused: run our own copy of the controller (:mod:`vla.sim.osc`) inside the physics step. If not, robosuite's,
            with two more forward passes a physics step: four times as slow, the same states to 1e-6.
        settle_steps: control steps with an open gripper after a scene is set.
    """

    def __init__(self, bddl: Path, *, render: Render = "decimated", fused: bool = True, settle_steps: int = 10):
        libero_suites.import_libero()
        from libero.libero.envs.env_wrapper import ControlEnv

        self.bddl = bddl
        self._mujoco = mujoco_binding.load()
        self._fused = fused
        self._settle_steps = settle_steps
        with _numpy_seeded(0), libero_suites.quiet():
            self._wrapper = ControlEnv(
                bddl_file_name=str(bddl), use_camera_obs=False, has_offscreen_renderer=False, hard_reset=False
            )
        self.env: Any = self._wrapper.env
        self.model: MjModel = self.env.sim.model._model
        self.data: MjData = self.env.sim.data._data
        self._described_poses = _described_poses(self.env)
        self._substeps_per_step = round(self.env.control_timestep / self.env.model_timestep)
        if render == "decimated":
            decimate(self.model)
            shrink_textures(self.model)
        self._camera = Camera(self.model, groups=(1, 2), samples=4 if render == "exact" else 0)
        self._grip_site = self.env.robots[0].eef_site_id
        self._hand = self.model.body(self.env.robots[0].robot_model.eef_name).id
        self._fingers = np.array(self.env.robots[0]._ref_gripper_joint_pos_indexes)
        self._control = OscPose(self._mujoco, self.model, self.data, self.env.robots[0])
        self._forget()

    @property
    def goal(self) -> list[list[str]]:
        """Predicates that must all hold, e.g. ``[["on", "akita_black_bowl_1", "plate_1"]]``."""
        return [list(predicate) for predicate in self.env.parsed_problem["goal_state"]]

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of what can be moved."""
        return tuple(self.env.objects_dict)

    @property
    def time(self) -> float:
        """Simulated time since the scene was ready [s]."""
        return float(self.data.time) - self._start

    @property
    def substep_seconds(self) -> float:
        """Length of a physics step [s]."""
        return float(self.model.opt.timestep)

    def reset(self, state: Float64[np.ndarray, "s"], *, seed: int) -> None:
        """Set a scene and let it settle. The same arguments give the same scene, whatever ran before.

        :func:`vla.sim.libero_placement.sample` does it without a given state.

        Args:
            state: flattened, e.g. one of the task's initial states.
            seed: decides what the state does not: the places of the fixtures.

        Raises:
            ConfigError: the state does not fit the scene.
        """
        expected = 1 + self.model.nq + self.model.nv
        if state.shape != (expected,):
            raise ConfigError(f"initial state of shape {state.shape}: this scene has {expected} numbers")
        self.reset_fixtures(seed)
        self.set_state(state)
        self.settle()

    def reset_fixtures(self, seed: int) -> None:
        """LIBERO's own reset: fixtures and objects sampled from its regions, the arm at its first pose.

        Whatever an earlier episode leaves behind is put back first. LIBERO places a bowl in a drawer by where the
        drawer would be if its cabinet stood where the description has it, so that is where the cabinet has to be;
        and the gripper's target opening survives its reset.
        """
        from robosuite.utils.errors import RandomizationError

        for body, position, quaternion in self._described_poses:
            self.model.body_pos[body], self.model.body_quat[body] = position, quaternion
        self.env.robots[0].gripper.current_action = np.zeros_like(self.env.robots[0].gripper.current_action)
        with _numpy_seeded(seed), libero_suites.quiet():
            try:
                self.env.reset()
            except RandomizationError as error:
                raise ConfigError(f"LIBERO found no places for the objects of {self.bddl.name}") from error
        self._control.take_over(self.env.robots[0])
        self._forget()

    def settle(self) -> None:
        """Hold still with an open gripper until the objects lie; afterwards the time is 0 and nothing is solved."""
        for _ in range(self._settle_steps):
            self.step(SETTLE_ACTION)
        self._forget()

    def step(self, raw: Float64[np.ndarray, "7"]) -> None:
        """Act for one control period.

        Raises:
            BodyFault: the simulation diverged.
        """
        if self._fused:
            self.set_goal(raw)
            for _ in range(self._substeps_per_step):
                self.substep()
        else:
            self.env.done, self.env.timestep = False, 0  # it counts to 1,000 across initial states, then refuses
            self.env.step(np.asarray(raw, dtype=np.float64))
            self._finish_period()

    def set_goal(self, raw: Float64[np.ndarray, "7"]) -> None:
        """What the controller moves towards, from the pose at the next physics step on."""
        self._action = np.clip(np.asarray(raw, dtype=np.float64), -1.0, 1.0)
        self._goal_is_new = True

    def hold(self) -> None:
        """Stay where the arm is now, the gripper as it is."""
        self.set_goal(np.zeros(7))

    def brake(self) -> None:
        """Bring all joints to rest and stay, the gripper as it is, until the next goal.

        Under :meth:`hold` the hand drifts on for half a second.
        """
        self.hold()
        self._goal_is_new = False
        self._control.brake()

    def substep(self) -> None:
        """One physics step (2 ms) with the controller; without a goal the arm keeps its last one.

        Raises:
            BodyFault: the simulation diverged.
            ConfigError: this scene is stepped as LIBERO steps it, by whole control periods.
        """
        if not self._fused:
            raise ConfigError("fused=False leaves stepping to LIBERO: there are no single physics steps")
        self._mujoco.mj_step1(self.model, self.data)
        if self._goal_is_new:
            self._control.set_goal(self._action[:6])
            self._goal_is_new = False
        self._control.apply(self._action[6])
        self._mujoco.mj_step2(self.model, self.data)
        self._substeps += 1
        if self._substeps % self._substeps_per_step == 0:
            self._finish_period()

    def succeeded(self) -> bool:
        """Whether the goal has held at the end of any control period since the scene was ready."""
        return self._solved

    def state(self) -> Float32[np.ndarray, "8"]:
        """Hand position [m], axis-angle [rad] up to 2 pi, two finger positions [m]; LIBERO's order and conventions."""
        w, x, y, z = self.data.xquat[self._hand]
        turn = axis_angle_of_quaternion(np.array([x, y, z, w]))
        return np.concatenate([self.data.site_xpos[self._grip_site], turn, self.data.qpos[self._fingers]]).astype(
            np.float32
        )

    def render(self, camera: str, size: int) -> Image:
        """A square picture, upright as a person at the camera sees the scene.

        Raises:
            UnknownName: there is no such camera.
        """
        return self._camera.render(self.data, camera, size, size)

    def get_state(self) -> Float64[np.ndarray, "s"]:
        """Time, joint positions, joint velocities: LIBERO's flattened state."""
        return np.concatenate([[self.data.time], self.data.qpos, self.data.qvel])

    def set_state(self, state: Float64[np.ndarray, "s"]) -> None:
        """Put joints where a flattened state has them; the fixtures stay where they are."""
        self.data.time = state[0]
        self.data.qpos[:] = state[1 : 1 + self.model.nq]
        self.data.qvel[:] = state[1 + self.model.nq :]
        self._mujoco.mj_forward(self.model, self.data)
        self.env._post_process()

    def restore(self, state: Float64[np.ndarray, "s"]) -> None:
        """Begin an episode at a flattened state, gripper opening, the arm to be held where the state has it.

        Nothing of what happened since :meth:`reset_fixtures` matters afterwards: the same state and actions give the
        same trajectory bit for bit.
        """
        robot = self.env.robots[0]
        self.data.ctrl[:] = 0
        self.data.qacc_warmstart[:] = 0
        self.set_state(state)
        self.data.qacc_warmstart[:] = 0  # the solver's first guess is part of the state that get_state leaves out
        robot.controller.update(force=True)
        robot.controller.reset_goal()
        robot.gripper.current_action = np.array([1.0, -1.0])  # both fingers fully open
        self._control.take_over(robot)
        self._forget()

    def position(self, name: str) -> Float64[np.ndarray, "3"]:
        """Where an object or fixture is [m], base of the world.

        Raises:
            UnknownName: the scene has no such thing.
        """
        return self.data.xpos[self._body(name)].copy()

    def rotation(self, name: str) -> Float64[np.ndarray, "3 3"]:
        """How an object or fixture is turned."""
        return self.data.xmat[self._body(name)].reshape(3, 3).copy()

    def close(self) -> None:
        """Give back the graphics context and the scene. Safe to call more than once."""
        self._camera.close()
        if self.env is not None:
            self._wrapper.close()
            self.env = None

    def _body(self, name: str) -> int:
        if name not in self.env.obj_body_id:
            raise UnknownName(f"object of {self.bddl.stem}", name, self.env.obj_body_id)
        return self.env.obj_body_id[name]

    def _forget(self) -> None:
        """A new episode begins."""
        self._start = float(self.data.time)
        self._substeps = 0
        self._solved = False
        self._action = np.zeros(7)
        self._goal_is_new = False

    def _finish_period(self) -> None:
        """What LIBERO does once in a control period: switch lamps and burners, look at the goal."""
        if not np.isfinite(self.data.qacc).all() or self.data.warning[self._mujoco.mjtWarning.mjWARN_BADQACC].number:
            raise BodyFault("the simulation diverged: accelerations are not finite")
        self.env._post_process()
        self._solved = self._solved or bool(self.env._check_success())


def _described_poses(env: Any) -> list[tuple[int, Float64[np.ndarray, "3"], Float64[np.ndarray, "4"]]]:
    """Body number, position [m] and quaternion (w, x, y, z) of each fixture before LIBERO's constructor moved it."""
    elements = {body.get("name"): body for body in env.model.worldbody.iter("body")}
    poses = []
    for name, fixture in env.fixtures_dict.items():
        element = elements.get(fixture.root_body)
        if element is None:
            continue  # a table is part of the arena
        position = np.array(element.get("pos", "0 0 0").split(), dtype=np.float64)
        quaternion = np.array(element.get("quat", "1 0 0 0").split(), dtype=np.float64)
        poses.append((env.obj_body_id[name], position, quaternion / np.linalg.norm(quaternion)))
    return poses


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """LIBERO draws from NumPy's global generator: seed it, and give the caller's own back afterwards."""
    kept = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what env.seed does
    try:
        yield
    finally:
        np.random.set_state(kept)  # noqa: NPY002
