"""One LIBERO scene: set from an initial state or sampled, settled, stepped, with its goal.

::

    LiberoWorld ── reset(state, seed) ─▶ scene, 10 settling steps ─▶ step(raw) ... succeeded()
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.errors import BodyFault, ConfigError, UnknownName
from vla.sim import libero_suites
from vla.sim.panda_scene import PandaScene, Render, numpy_seeded

__all__ = ["SETTLE_ACTION", "LiberoWorld", "Render"]

SETTLE_ACTION = np.array([0, 0, 0, 0, 0, 0, -1.0])  # stay, gripper open


class LiberoWorld(PandaScene):
    """A compiled LIBERO scene, its controller and its goal; raw actions are the environment's own.

    Attributes:
        bddl: the file the scene was made from.

    Args:
        bddl: scene and goal.
        render: ``"decimated"`` or ``"exact"``, as :class:`~vla.sim.panda_scene.PandaScene` has it.
        fused: our own controller inside the physics step, or LIBERO's own stepping.
        settle_steps: control steps with an open gripper after a scene is set.
    """

    def __init__(self, bddl: Path, *, render: Render = "decimated", fused: bool = True, settle_steps: int = 10):
        libero_suites.import_libero()
        from libero.libero.envs.env_wrapper import ControlEnv

        self.bddl = bddl
        self._settle_steps = settle_steps
        with numpy_seeded(0), libero_suites.quiet():
            wrapper = ControlEnv(
                bddl_file_name=str(bddl), use_camera_obs=False, has_offscreen_renderer=False, hard_reset=False
            )
        super().__init__(wrapper.env, render=render, fused=fused)
        self._described_poses = _described_poses(self.env)

    @property
    def goal(self) -> list[list[str]]:
        """Predicates that must all hold, e.g. ``[["on", "akita_black_bowl_1", "plate_1"]]``."""
        return [list(predicate) for predicate in self.env.parsed_problem["goal_state"]]

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of what can be moved."""
        return tuple(self.env.objects_dict)

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

        Raises:
            BodyFault: LIBERO finds no places for the objects.
        """
        from robosuite.utils.errors import RandomizationError

        for body, position, quaternion in self._described_poses:
            self.model.body_pos[body], self.model.body_quat[body] = position, quaternion
        self.env.robots[0].gripper.current_action = np.zeros_like(self.env.robots[0].gripper.current_action)
        with numpy_seeded(seed), libero_suites.quiet():
            try:
                self.env.reset()
            except RandomizationError as error:
                raise BodyFault(f"LIBERO found no places for the objects of {self.bddl.name}") from error
        self._ready()

    def settle(self) -> None:
        """Hold still with an open gripper until the objects lie; afterwards the time is 0 and nothing is solved."""
        for _ in range(self._settle_steps):
            self.step(SETTLE_ACTION)
        self._forget()

    def set_state(self, state: Float64[np.ndarray, "s"]) -> None:
        """Put joints where a flattened state has them; the fixtures stay where they are."""
        self.data.time = state[0]
        self.data.qpos[:] = state[1 : 1 + self.model.nq]
        self.data.qvel[:] = state[1 + self.model.nq :]
        self._mujoco.mj_forward(self.model, self.data)
        self.env._post_process()
        self._observe_now()

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
        self._ready()

    def position(self, name: str) -> Float64[np.ndarray, "3"]:
        """Where an object or fixture is [m], base of the world.

        Raises:
            UnknownName: the scene has no such thing.
        """
        return self.data.xpos[self._body(name)].copy()

    def rotation(self, name: str) -> Float64[np.ndarray, "3 3"]:
        """How an object or fixture is turned."""
        return self.data.xmat[self._body(name)].reshape(3, 3).copy()

    def _body(self, name: str) -> int:
        if name not in self.env.obj_body_id:
            raise UnknownName(f"object of {self.bddl.stem}", name, self.env.obj_body_id)
        return self.env.obj_body_id[name]

    def _look(self) -> bool:
        """Switch lamps and burners, then look at the goal."""
        self.env._post_process()
        return bool(self.env._check_success())


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
