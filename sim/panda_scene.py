"""A compiled robosuite scene around one Panda: stepped, at the control rate or at the physics rate, drawn on demand.

::

    PandaScene
        ├── step(raw)                   one control period (50 ms): what a simulated body does
        └── set_goal(raw), substep()    one physics step (2 ms): what an arm's server does at its own rate

What stands around the arm, how it is set and when the task is solved is the subclass's: LIBERO's scenes
(:mod:`vla.sim.libero_world`), robosuite's own (:mod:`vla.sim.robosuite_env`).
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from vla.errors import BodyFault, ConfigError
from vla.experience import Image
from vla.rotation import axis_angle_of_quaternion
from vla.sim.osc import OscPose
from vla.sim.rendering import mujoco_binding
from vla.sim.rendering.camera import Camera
from vla.sim.rendering.decimate import decimate
from vla.sim.rendering.mujoco_binding import MjData, MjModel
from vla.sim.rendering.textures import shrink_textures

Render = Literal["decimated", "exact"]

_SAMPLED = 24
"""Physics step of a control period, of 25, after which robosuite samples what it observes, when its environment was
reset and then set to an initial state, as evaluation scripts do: what comes with a step is older than its end."""


class PandaScene:
    """A scene, its controller and whether its task is solved.

    Raw actions are robosuite's own: seven numbers in [-1, 1], of which +-1 stands for 0.05 m and 0.5 rad in the base
    frame, and -1 opens, +1 closes the gripper.

    Attributes:
        model: compiled; do not edit.
        data: the state. Positions of bodies and sites lag the joints by one physics step, as in robosuite.
        env: robosuite's own environment underneath, for what is not offered here.

    Args:
        env: made without pictures (no offscreen renderer), with ``hard_reset=False``, so that the model stays.
        render: ``"decimated"`` thins out visual meshes (not the physics) and leaves out antialiasing;
            ``"exact"`` draws what robosuite's own renderer draws.
        fused: run our own copy of the controller (:mod:`vla.sim.osc`) inside the physics step. If not, robosuite's,
            with two more forward passes a physics step: several times as slow, the same states to 1e-6; and what is
            observed is from when robosuite samples it, one physics step before the end of a period.
    """

    def __init__(self, env: Any, *, render: Render, fused: bool):
        self.env: Any = env
        self._mujoco = mujoco_binding.load()
        self._fused = fused
        self.model: MjModel = env.sim.model._model
        self.data: MjData = env.sim.data._data
        self._substeps_per_step = round(env.control_timestep / env.model_timestep)
        if render == "decimated":
            decimate(self.model)
            shrink_textures(self.model)
        self._camera = Camera(self.model, groups=(1, 2), samples=4 if render == "exact" else 0)
        robot = env.robots[0]
        self._grip_site = robot.eef_site_id
        self._hand = self.model.body(robot.robot_model.eef_name).id
        self._fingers = np.array(robot._ref_gripper_joint_pos_indexes)
        self._control = OscPose(self._mujoco, self.model, self.data, robot)
        self._seen = self.data  # that is observed
        if not fused:
            self._updates = 0
            self._update, env._update_observables = env._update_observables, self._sample
        self._forget()

    @property
    def time(self) -> float:
        """Simulated time since the scene was ready [s]."""
        return float(self.data.time) - self._start

    @property
    def substep_seconds(self) -> float:
        """Length of a physics step [s]."""
        return float(self.model.opt.timestep)

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
            self.env.done, self.env.timestep = False, 0  # it counts to 1,000 across episodes, then refuses
            self._updates = 0
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
            ConfigError: this scene is stepped as robosuite steps it, by whole control periods.
        """
        if not self._fused:
            raise ConfigError("fused=False leaves stepping to robosuite: there are no single physics steps")
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
        seen = self._seen
        w, x, y, z = seen.xquat[self._hand]
        turn = axis_angle_of_quaternion(np.array([x, y, z, w]))
        return np.concatenate([seen.site_xpos[self._grip_site], turn, seen.qpos[self._fingers]]).astype(np.float32)

    def joints(self) -> tuple[Float64[np.ndarray, "7"], Float64[np.ndarray, "7"]]:
        """The arm's joint positions [rad] and speeds [rad/s] now; views, not to be written."""
        return self._control.joints

    def render(self, camera: str, size: int) -> Image:
        """A square picture, upright as a person at the camera sees the scene.

        Raises:
            UnknownName: there is no such camera.
        """
        return self._camera.render(self._seen, camera, size, size)

    def get_state(self) -> Float64[np.ndarray, "s"]:
        """Time, joint positions, joint velocities: robosuite's flattened state."""
        return np.concatenate([[self.data.time], self.data.qpos, self.data.qvel])

    def close(self) -> None:
        """Give back the graphics context and the scene. Safe to call more than once."""
        self._camera.close()
        if self.env is not None:
            self.env.close()
            self.env = None

    def _look(self) -> bool:
        """What the task does once in a control period; whether its goal holds now."""
        return bool(self.env._check_success())

    def _ready(self) -> None:
        """Robosuite has reset its environment: go on from there."""
        self._control.take_over(self.env.robots[0])
        self._observe_now()
        self._forget()

    def _observe_now(self) -> None:
        """The state was set, not stepped to: observe it."""
        if not self._fused:
            self._seen = copy.copy(self.data)

    def _sample(self, force: bool = False) -> None:
        """In place of robosuite's own update, after each of its physics steps."""
        self._updates += 1
        if force:
            self._update(force)
        elif self._updates == _SAMPLED:
            self._observe_now()

    def _forget(self) -> None:
        """A new episode begins."""
        self._start = float(self.data.time)
        self._substeps = 0
        self._solved = False
        self._action = np.zeros(7)
        self._goal_is_new = False

    def _finish_period(self) -> None:
        if not np.isfinite(self.data.qacc).all() or self.data.warning[self._mujoco.mjtWarning.mjWARN_BADQACC].number:
            raise BodyFault("the simulation diverged: accelerations are not finite")
        self._solved = self._look() or self._solved


@contextlib.contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Robosuite draws from NumPy's global generator: seed it, and give the caller's own back afterwards."""
    kept = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what env.seed does
    try:
        yield
    finally:
        np.random.set_state(kept)  # noqa: NPY002
