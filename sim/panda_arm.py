"""A bare Panda as an arm's controller sees it: what it wants to do with its joints, step by step.

::

    set_goal(action) ─▶ pose ─▶ wish(): task-space spring ─▶ joint accelerations ──(servo's limits)──▶ drive(): physics

    a  = J⁺ (kp e - kd J v) + N (10 (q_first - q) - 2 √10 v)      J⁺ = Jᵀ (J Jᵀ + λ² I)⁻¹, damped near singular poses
    τ  = M a + h                                                  computed torque (Craig, Introduction to Robotics)

Nothing stands around it but the table; its one camera draws the arm as dots, in microseconds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiment import EmbodimentSpec
from vla.embodiments import panda_arm
from vla.errors import ConfigError
from vla.experience import Image
from vla.rotation import axis_angle_of_quaternion, to_matrix
from vla.safety_joints import Wish
from vla.safety_limits import JointLimits
from vla.sim import panda_model
from vla.sim.rendering import mujoco_binding

STIFFNESS = 150.0
"""Of the spring to the goal [1/s2], critically damped; as LIBERO's controller has it."""

HOLD = 60.0
"""Rate at which a held arm goes back to where it is held [1/s]."""

OPEN_M = 0.04
"""A finger's way from closed to open."""

_GRIP_STIFFNESS = 1000.0  # [N/m]; robosuite's panda_gripper.xml
_DAMPING = 0.05  # of the inverse of the Jacobian
_JAMMED = 1e6  # [kg] that a finger's motor has to move: it does not


@dataclass(frozen=True)
class MakePandaArm:
    """Makes the world, in whatever process.

    Attributes:
        camera_size: of its pictures [pixels].
        joint_limits: of its controller.
    """

    camera_size: int = 32
    joint_limits: JointLimits = panda_arm.JOINTS

    def __call__(self) -> "PandaArm":
        """The world.

        Raises:
            DependencyMissing: robosuite is not installed.
        """
        return PandaArm(self)


class PandaArm:
    """The arm, its controller and its table.

    Attributes:
        model: compiled.
        data: the state.

    Args:
        config: see there.
    """

    instruction = "move about"
    max_steps = 200

    def __init__(self, config: MakePandaArm):
        self.config, self.joint_limits = config, config.joint_limits
        self.spec: EmbodimentSpec = panda_arm.panda_arm(config.camera_size)
        self._mujoco = mujoco_binding.load()
        self.model = panda_model.compile_model(panda_arm.TABLE_M)
        self.data, self._ghost = self._mujoco.MjData(self.model), self._mujoco.MjData(self.model)
        self.substep_seconds = float(self.model.opt.timestep)
        self._tool = self.model.site(panda_model.TOOL).id
        shapes = ("link5_collision", "link6_collision", "hand_collision", "finger1_collision", "finger2_collision")
        self._shapes = np.array([self.model.geom(name).id for name in shapes])
        boxes = self.model.geom_aabb[self._shapes]
        self._centres, self._halves = boxes[:, :3].copy(), boxes[:, 3:].copy()
        self._inertia = self.model.dof_armature[7:9].copy()
        self._jacobian, self._product = np.zeros((6, self.model.nv)), np.zeros(self.model.nv)
        # views: MuJoCo's arrays stay where they are as long as the data lives
        self._x, self._r = self.data.site_xpos[self._tool], self.data.site_xmat[self._tool].reshape(3, 3)
        self._q, self._v, self._fingers = self.data.qpos[:7], self.data.qvel[:7], self.data.qpos[7:9]
        self.reset({})

    def reset(self, scene: Mapping[str, Any]) -> None:
        """Put the arm at ``scene["joints"]`` [rad], else at its first pose; ``scene["jam"]`` blocks its fingers.

        Raises:
            ConfigError: that is none of its positions.
        """
        joints = np.array(scene.get("joints", panda_model.FIRST), np.float64)
        low, high = self.joint_limits.array("low"), self.joint_limits.array("high")
        if joints.shape != (7,) or not ((low <= joints) & (joints <= high)).all():
            raise ConfigError(f"joints are 7 positions within the arm's limits, found {joints}")
        self._mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:7] = self._ghost.qpos[:7] = joints
        self._opening = 1.0
        self.data.qpos[7:9] = self._ghost.qpos[7:9] = OPEN_M, -OPEN_M
        self.jam(bool(scene.get("jam", False)))
        self._mujoco.mj_forward(self.model, self.data)
        self._first = joints
        self._mujoco.mj_step1(self.model, self.data)
        self.hold()

    def jam(self, jammed: bool) -> None:
        """Block the fingers where they are, or let them go."""
        self.model.dof_armature[7:9] = _JAMMED if jammed else self._inertia
        if jammed:
            self.data.qvel[7:9] = 0.0

    def set_goal(self, action: Float32[np.ndarray, "7"]) -> None:
        """Towards a pose beside the present one, inside the tool's box; metres, radians, opening."""
        values = action.astype(np.float64)
        low, high = self.joint_limits.array("workspace_low"), self.joint_limits.array("workspace_high")
        margin = 2 * self.joint_limits.margin
        self._goal = np.minimum(np.maximum(self._x + values[:3], low + margin), high - margin)
        self._turned = to_matrix(values[3:6], "axis_angle") @ self._r
        self._opening, self._held = float(values[6]), None

    def hold(self) -> None:
        """Keep all joints where they are."""
        self._held = self._q.copy()

    def wish(self) -> Wish:
        """Measure; joint accelerations towards the goal."""
        self._mujoco.mj_step1(self.model, self.data)
        wanted = self._towards() if self._held is None else (HOLD / 2) ** 2 * (self._held - self._q) - HOLD * self._v
        grip = _GRIP_STIFFNESS * (OPEN_M * self._opening * np.array([1.0, -1.0]) - self._fingers)
        return Wish(self._q.copy(), self._v.copy(), wanted, grip)

    def torque(self, acceleration: Float64[np.ndarray, "7"]) -> Float64[np.ndarray, "7"]:
        """Mass matrix times acceleration, and what gravity, motion and damping ask for [Nm]."""
        # the fingers, whose friction nobody knows, go on as they just did
        full = np.concatenate([acceleration, self.data.qacc[7:9]])
        self._mujoco.mj_mulM(self.model, self.data, self._product, full)
        return self._product[:7] + self.data.qfrc_bias[:7] - self.data.qfrc_passive[:7]

    def reach(self, position: Float64[np.ndarray, "7"]) -> tuple[Float64[np.ndarray, "3"], float]:
        """Tool point and lowest point, by the boxes around hand, fingers and wrist."""
        ghost = self._ghost
        ghost.qpos[:7] = position
        self._mujoco.mj_kinematics(self.model, ghost)
        down = ghost.geom_xmat[self._shapes, 6:9]  # third row: how each box's axes point upwards
        heights = ghost.geom_xpos[self._shapes, 2] + (down * self._centres - np.abs(down) * self._halves).sum(axis=1)
        return ghost.site_xpos[self._tool].copy(), float(heights.min())

    def drive(self, acceleration: Float64[np.ndarray, "7"], grip: Float64[np.ndarray, "2"]) -> None:
        """2 ms of physics."""
        self.data.ctrl[:7] = self.torque(acceleration)
        self.data.ctrl[7:9] = grip
        self._mujoco.mj_step2(self.model, self.data)

    def substep(self) -> None:
        """2 ms of physics, nothing limited."""
        wish = self.wish()
        self.drive(wish.acceleration, wish.grip)

    def state(self) -> Float32[np.ndarray, "14"]:
        """Tool position [m], its axis-angle [rad], joints [rad], opening of the left finger."""
        quaternion = np.zeros(4)
        self._mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[self._tool])
        w, x, y, z = quaternion
        turn = axis_angle_of_quaternion(np.array([x, y, z, w]))
        return np.concatenate([self._x, turn, self._q, [self._fingers[0] / OPEN_M]]).astype(np.float32)

    def render(self, camera: str) -> Image:
        """The side view: links as dots in a grey room; its corner tells the tool's place to a tenth of a millimetre."""
        size = self.spec.camera(camera).height
        picture = np.full((size, size, 3), 60, np.uint8)
        points = self.data.xpos[:, [0, 2]]
        places = np.clip(((points + np.array([0.3, 0.1])) / 1.3 * size).astype(int), 0, size - 1)
        picture[size - 1 - places[:, 1], places[:, 0]] = 200
        picture[0, :3, :] = (np.abs(self._x)[:, None] * [1e2, 1e3, 1e4]).astype(np.int64) % 256
        return picture

    def succeeded(self) -> bool:
        """There is nothing to solve."""
        return False

    def close(self) -> None:
        """Nothing to give back."""

    def _towards(self) -> Float64[np.ndarray, "7"]:
        self._mujoco.mj_jacSite(self.model, self.data, self._jacobian[:3], self._jacobian[3:], self._tool)
        jacobian, v = self._jacobian[:, :7], self._v
        error = np.empty(6)
        np.subtract(self._goal, self._x, out=error[:3])
        r, g = self._r, self._turned
        error[3:] = 0.5 * (_cross(r[:, 0], g[:, 0]) + _cross(r[:, 1], g[:, 1]) + _cross(r[:, 2], g[:, 2]))
        task = STIFFNESS * error - 2 * math.sqrt(STIFFNESS) * (jacobian @ v)
        square = jacobian @ jacobian.T
        square[np.diag_indices(6)] += _DAMPING**2
        rest = 10.0 * (self._first - self._q) - 2 * math.sqrt(10.0) * v
        # one solution gives both: J⁺ task + (I - J⁺ J) rest = J⁺ (task - J rest) + rest
        return jacobian.T @ np.linalg.solve(square, task - jacobian @ rest) + rest


def _cross(a: Float64[np.ndarray, "3"], b: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"]:
    """As np.cross, ten times as fast for one pair."""
    (a0, a1, a2), (b0, b1, b2) = a.tolist(), b.tolist()
    return np.array([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])
