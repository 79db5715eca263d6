"""A demonstration's recorded simulator states as what was seen in them: LIBERO's state vector and both pictures.

The model that the demonstration carries is compiled, with its own camera and furniture poses; no environment is made
and nothing is simulated: each state (time, joint positions, joint velocities) is set, and positions follow from it.

Live, LIBERO's observations lag: after a step of the simulator positions of bodies still belong to the joints before the
last physics step (2 ms). MuJoCo integrates positions with the new velocities, so those joints follow from the state
exactly, and what is given here is what was seen live.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiments.libero_panda import libero_panda
from vla.errors import DataError
from vla.experience import Image
from vla.rotation import axis_angle_of_quaternion
from vla.sim import libero_suites
from vla.sim.libero_world import Render
from vla.sim.model_assets import with_installed_assets
from vla.sim.rendering import gl, mujoco_binding
from vla.sim.rendering.camera import Camera
from vla.sim.rendering.decimate import decimate
from vla.sim.rendering.mujoco_binding import MjData, MjModel
from vla.sim.rendering.textures import shrink_textures

CAMERAS = libero_panda().camera_names
HANDS = ("robot0_right_hand",)
GRIP_SITES = ("gripper0_grip_site", "gripper0_right_grip_site")  # robosuite 1.4, 1.5
FINGERS = (
    ("gripper0_finger_joint1", "gripper0_finger_joint2"),
    ("gripper0_right_finger_joint1", "gripper0_right_finger_joint2"),
)
BURNER, BUTTON, LIT = "_burner", "_button", 0.5  # [rad]; LIBERO's articulated_objects.py, FlatStove


class StateReplay:
    """One recorded model that is put into recorded states. Call :meth:`close` when done.

    Attributes:
        model: compiled; do not edit.
        data: the state last set.

    Args:
        xml: the model as the demonstration carries it.
        source: of the demonstration, for errors.
        render: as in :class:`~vla.sim.libero_world.LiberoWorld`.

    Raises:
        DataError: the model does not compile, an asset is not installed, or it is not one Panda with its two cameras.
        DependencyMissing: there is no OpenGL, or robosuite or LIBERO are not installed.
    """

    def __init__(self, xml: str, source: str, *, render: Render = "decimated"):
        gl.choose()
        libero_suites.import_libero()
        self._mujoco = mujoco = mujoco_binding.load()
        self._source = source
        try:
            self.model: MjModel = mujoco.MjModel.from_xml_string(with_installed_assets(xml, source))
        except ValueError as error:
            raise DataError(source, "model_file", expected="a model that MuJoCo compiles", found=str(error)) from error
        self.data: MjData = mujoco.MjData(self.model)
        if render == "decimated":
            decimate(self.model)
            shrink_textures(self.model)
        self._hand = self._first("body", HANDS)
        self._grip = self._first("site", GRIP_SITES)
        self._fingers = [self._joint(name) for name in self._first_pair(FINGERS)]
        self._opening = self.data.qpos[self._fingers].copy()
        for camera in CAMERAS:
            self._first("camera", (camera,))
        self._burners = self._hide_sites()
        self._camera = Camera(self.model, groups=(1, 2), samples=4 if render == "exact" else 0)

    def check(self, states: Float64[np.ndarray, "t s"]) -> None:
        """Whether states fit the model.

        Raises:
            DataError: they do not.
        """
        expected = 1 + self.model.nq + self.model.nv
        if states.ndim != 2 or states.shape[1] != expected:
            found = f"shape {states.shape}"
            raise DataError(self._source, "states", expected=f"{expected} numbers as the model has", found=found)

    def set_state(self, state: Float64[np.ndarray, "s"], *, lag: bool = True) -> None:
        """Put everything where a flattened state has it.

        Args:
            state: time, joint positions, joint velocities.
            lag: bodies as seen live after a step, before its last physics step; off for a scene that was only set.
        """
        self.data.time = state[0]
        self.data.qpos[:] = state[1 : 1 + self.model.nq]
        self.data.qvel[:] = state[1 + self.model.nq :]
        self._opening = self.data.qpos[self._fingers].copy()
        if lag:
            self._mujoco.mj_integratePos(self.model, self.data.qpos, self.data.qvel, -self.model.opt.timestep)
        self._mujoco.mj_fwdPosition(self.model, self.data)
        for site, joint in self._burners:
            self.model.site_rgba[site, 3] = 1.0 if self.data.qpos[joint] >= LIT else 0.0

    def state(self) -> Float32[np.ndarray, "8"]:
        """Hand position [m], axis-angle [rad] up to 2 pi, two finger positions [m]; LIBERO's order and conventions."""
        w, x, y, z = self.data.xquat[self._hand]
        turn = axis_angle_of_quaternion(np.array([x, y, z, w]))
        return np.concatenate([self.data.site_xpos[self._grip], turn, self._opening]).astype(np.float32)

    def picture(self, camera: str, size: int) -> Image:
        """A square picture as LIBERO's policies get it: the scene mirrored left-right.

        Raises:
            UnknownName: there is no such camera.
        """
        return np.ascontiguousarray(self._camera.render(self.data, camera, size, size)[:, ::-1])

    def close(self) -> None:
        """Give back the graphics context. Safe to call more than once."""
        self._camera.close()

    def _first(self, kind: str, names: Sequence[str]) -> int:
        """Number of the first of these names that the model has."""
        what = {"body": "mjOBJ_BODY", "site": "mjOBJ_SITE", "camera": "mjOBJ_CAMERA", "joint": "mjOBJ_JOINT"}[kind]
        for name in names:
            number = self._mujoco.mj_name2id(self.model, getattr(self._mujoco.mjtObj, what), name)
            if number >= 0:
                return int(number)
        expected = f"one Panda of robosuite with the {kind} {' or '.join(names)}"
        raise DataError(self._source, "model_file", expected=expected, found="none of that name")

    def _first_pair(self, pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
        number = self._first("joint", [first for first, _ in pairs])
        name = self._mujoco.mj_id2name(self.model, self._mujoco.mjtObj.mjOBJ_JOINT, number)
        return next(pair for pair in pairs if pair[0] == name)

    def _joint(self, name: str) -> int:
        return int(self.model.jnt_qposadr[self._first("joint", (name,))])

    def _hide_sites(self) -> list[tuple[int, int]]:
        """No site is drawn, as in robosuite's own pictures, but burners that are on; those with their button's place.

        Models are saved with the marks that a person steering the arm sees: a red ball and a green ray at the gripper.
        """
        burners = []
        for number in range(self.model.nsite):
            self.model.site_rgba[number, 3] = 0.0
            name = self.model.site(number).name
            button = name.removesuffix(BURNER) + BUTTON
            if (
                name.endswith(BURNER)
                and self._mujoco.mj_name2id(self.model, self._mujoco.mjtObj.mjOBJ_JOINT, button) >= 0
            ):
                burners.append((number, self._joint(button)))
        return burners
