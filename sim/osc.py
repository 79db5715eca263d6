"""Operational-space control of a Panda at the physics rate: robosuite's OSC_POSE, without robosuite around it.

A pose goal becomes joint torques (Khatib 1987, "A unified approach for motion and force control of robot
manipulators: the operational space formulation", IEEE J. Robotics and Automation 3(1); position and rotation
decoupled, and a pull to the first joint positions in the null space, as robosuite 1.4 ``controllers/osc.py`` has it)::

    F  = Λp (kp (x_goal - x) - kd ẋ)                           Λp = (Jp M⁻¹ Jpᵀ)⁺      force [N]
    T  = Λr (kp e(R_goal, R) - kd ω)                           Λr = (Jr M⁻¹ Jrᵀ)⁺      torque [Nm]
    τ  = Jᵀ [F; T] + h(q, q̇) + Nᵀ M (10 (q_first - q) - 2 √10 q̇)      N = I - M⁻¹ Jᵀ Λ J
    e(R_goal, R) = ½ Σ_k R[:, k] × R_goal[:, k]                h: gravity, Coriolis and centrifugal

The same numbers bit for bit as robosuite's own controller gives: its compiled kernels for the matrices are called on
arrays of the same memory layout. What is left out is its bookkeeping, nine tenths of its time.
"""

from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.errors import ConfigError
from vla.sim.rendering import mujoco_binding
from vla.sim.rendering.mujoco_binding import MjData, MjModel

BRAKE_RATE = 60.0
"""How fast joint speeds decay while braking [1/s]: the tool's 0.5 m/s become 0.05 m/s in 40 ms."""


class OscPose:
    """The controller of one Panda and its gripper; reads the state after ``mj_step1``, writes ``data.ctrl``.

    Args:
        mujoco: the module.
        model: compiled.
        data: the state that is read, and whose controls are written.
        robot: robosuite's, for its gains, limits and indexes.

    Raises:
        ConfigError: the robot is not one Panda under OSC_POSE as LIBERO configures it.
    """

    def __init__(self, mujoco: ModuleType, model: MjModel, data: MjData, robot: Any):
        from robosuite.utils import control_utils

        controller, gripper = robot.controller, robot.gripper
        _check(controller, gripper)
        self._mujoco, self._model, self._data, self._kernels = mujoco, model, data, control_utils
        self._site = int(robot.eef_site_id)
        self._joints = _block("joint positions", robot._ref_joint_pos_indexes)
        self._speeds = _block("joint speeds", robot._ref_joint_vel_indexes)
        self._motors = _block("motors", robot._ref_joint_actuator_indexes)
        self._fingers = _block("finger motors", robot._ref_joint_gripper_actuator_indexes)
        finger_low, finger_high = model.actuator_ctrlrange[self._fingers].T.copy()
        self._finger_middle, self._finger_half = 0.5 * (finger_high + finger_low), 0.5 * (finger_high - finger_low)
        self._finger_step = gripper.speed * np.array([-1.0, 1.0])
        self._low, self._high = model.actuator_ctrlrange[self._motors].T.copy()
        self._kp, self._kd = np.asarray(controller.kp, np.float64), np.asarray(controller.kd, np.float64)
        self._scale = (controller.output_max - controller.output_min) / (controller.input_max - controller.input_min)
        # views: MuJoCo's arrays stay where they are as long as the data lives
        self._position = data.site_xpos[self._site]
        self._rotation = data.site_xmat[self._site].reshape(3, 3)
        self._q, self._v, self._h = data.qpos[self._joints], data.qvel[self._speeds], data.qfrc_bias[self._speeds]
        self._all_v, self._ctrl, self._qm = data.qvel, data.ctrl, data.qM
        self._old_order = mujoco_binding.full_mass_takes_matrix_first()
        size, joints = model.nv, self._joints.stop - self._joints.start
        self._all_jp, self._all_jr, self._all_m = np.zeros((3, size)), np.zeros((3, size)), np.zeros((size, size))
        # column-major as robosuite's own, so that the same BLAS calls round the same way
        self._m = np.zeros((joints, joints), order="F")
        self._jp, self._jr = np.zeros((3, joints), order="F"), np.zeros((3, joints), order="F")
        self._j = np.zeros((6, joints), order="F")
        self._error, self._speed, self._wrench = np.zeros(6), np.zeros(6), np.zeros(6)
        self.take_over(robot)

    @property
    def joints(self) -> tuple[Float64[np.ndarray, "7"], Float64[np.ndarray, "7"]]:
        """Positions [rad] and speeds [rad/s] now; views of MuJoCo's arrays."""
        return self._q, self._v

    def take_over(self, robot: Any) -> None:
        """Go on from where robosuite's controller and gripper are: goal pose, first joint positions, opening.

        After a reset, robosuite's controller does not look at the arm again before it has given torques once: its first
        goal starts from the reset's pose, even if joints were set since. That one step is left to it.
        """
        controller = robot.controller
        self._goal_position = np.array(controller.goal_pos, np.float64)
        self._goal_rotation = np.array(controller.goal_ori, np.float64)
        self._first = np.array(controller.initial_joint, np.float64)
        self._opening = np.zeros(2) + robot.gripper.current_action
        self._untried = None if controller.new_update else controller
        self._braked: np.ndarray | None = None

    def set_goal(self, motion: Float64[np.ndarray, "6"]) -> None:
        """Towards a pose beside the present one: ``motion`` in [-1, 1], translation and axis-angle in the base frame.

        Without a rotation the goal's stays what it was, as in robosuite.
        """
        self._braked = None
        if self._untried is not None:
            self._untried.set_goal(motion)
            self._goal_position, self._goal_rotation = self._untried.goal_pos, self._untried.goal_ori
            return
        delta = motion * self._scale
        if np.any(delta[3:]):
            self._goal_rotation = self._kernels.set_goal_orientation(delta[3:], self._rotation)
        self._goal_position = self._position + delta[:3]

    def brake(self) -> None:
        """Bring every joint to rest where it is, critically damped, until the next goal."""
        self._braked, self._untried = self._q.copy(), None

    def apply(self, grip: float) -> None:
        """Write the controls of one physics step.

        Args:
            grip: above 0 closes, below 0 opens, 0 keeps the fingers' target.
        """
        if grip:
            target = self._opening + (self._finger_step if grip > 0 else -self._finger_step)
            self._opening = np.minimum(np.maximum(target, -1.0), 1.0)
        torques = self.torques() if self._braked is None else self._braking(self._braked)
        self._ctrl[self._motors] = np.minimum(np.maximum(torques, self._low), self._high)
        self._ctrl[self._fingers] = self._finger_middle + self._finger_half * self._opening

    def torques(self) -> Float64[np.ndarray, "7"]:
        """Joint torques towards the goal [Nm], not clipped."""
        if self._untried is not None:
            torques, self._untried = self._untried.run_controller(), None
            return torques
        self._read_mass()
        self._mujoco.mj_jacSite(self._model, self._data, self._all_jp, self._all_jr, self._site)
        self._jp[:], self._jr[:] = self._all_jp[:, self._speeds], self._all_jr[:, self._speeds]
        self._j[:3], self._j[3:] = self._jp, self._jr
        error, speed, wrench = self._error, self._speed, self._wrench
        np.subtract(self._goal_position, self._position, out=error[:3])
        error[3:] = self._kernels.orientation_error(self._goal_rotation, self._rotation)
        np.dot(self._all_jp, self._all_v, out=speed[:3])
        np.dot(self._all_jr, self._all_v, out=speed[3:])
        wanted = error * self._kp - speed * self._kd
        _, lambda_position, lambda_rotation, null_space = self._kernels.opspace_matrices(
            self._m, self._j, self._jp, self._jr
        )
        np.dot(lambda_position, wanted[:3], out=wrench[:3])
        np.dot(lambda_rotation, wanted[3:], out=wrench[3:])
        torques = np.dot(self._j.T, wrench) + self._h
        torques += self._kernels.nullspace_torques(self._m, null_space, self._first, self._q, self._v)
        return torques

    def _braking(self, joints: Float64[np.ndarray, "7"]) -> Float64[np.ndarray, "7"]:
        """Mass matrix times the acceleration wanted, and what gravity and motion ask for [Nm]."""
        self._read_mass()
        pull = (BRAKE_RATE / 2) ** 2 * (joints - self._q) - BRAKE_RATE * self._v
        return self._m @ pull + self._h

    def _read_mass(self) -> None:
        if self._old_order:
            self._mujoco.mj_fullM(self._model, self._all_m, self._qm)
        else:
            self._mujoco.mj_fullM(self._model, self._data, self._all_m)
        self._m[:] = self._all_m[self._speeds, self._speeds]


def _block(what: str, indexes: Any) -> slice:
    """Indexes that follow each other, as a slice: views instead of copies."""
    first, count = int(indexes[0]), len(indexes)
    if list(indexes) != list(range(first, first + count)):
        raise ConfigError(f"the arm's {what} do not follow each other in the model: {list(indexes)}")
    return slice(first, first + count)


def _check(controller: Any, gripper: Any) -> None:
    expected = {
        "name": "OSC_POSE",
        "impedance_mode": "fixed",
        "use_delta": True,
        "uncoupling": True,
        "interpolator_pos": None,
        "interpolator_ori": None,
        "position_limits": None,
        "orientation_limits": None,
    }
    for name, value in expected.items():
        found = getattr(controller, name)
        if found is not value and (value is None or found != value):
            raise ConfigError(f"controller with {name} = {found!r}: only {value!r} is known here")
    if np.any(controller.input_min + controller.input_max) or np.any(controller.output_min + controller.output_max):
        raise ConfigError("controller with limits that are not the same in both directions")
    if type(gripper).__name__ != "PandaGripper":
        raise ConfigError(f"gripper {type(gripper).__name__}: only robosuite's PandaGripper is known here")
