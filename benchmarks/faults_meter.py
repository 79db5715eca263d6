"""Measures a simulated Panda at every physics step, from the simulator's own numbers: is any limit violated?

It shares nothing with what enforces the limits: speeds, torques and forces are MuJoCo's, accelerations are differences
of its speeds, places are computed on a state of its own. What it found is in an array that may live in a file, so that
another process can read what a running arm's process measures.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.robot_driver.mujoco_arm_servo import ServoLimits
from vla.safety_limits import JointLimits
from vla.sim.panda_arm import MakePandaArm, PandaArm

FIELDS = (
    "steps",  # measured
    "joint_velocity",  # largest share of the limit
    "joint_acceleration",
    "joint_torque",
    "gripper_force",
    "tool_speed",
    "joint_position",  # farthest beyond the limit [rad], negative inside
    "workspace",  # [m]
    "table",  # [m]
    "moving_at",  # clock when it last moved [s]
    "goal_at",  # clock when it was last told where to go [s]
    "jammed",  # whether the campaign wants the fingers blocked; read, not written
    "load",  # downward force on the hand that the controller's model does not know [N]; read, not written
)
SHARES = FIELDS[1:6]
BEYOND = FIELDS[6:9]

STANDS = 0.005
"""Below this speed of the tool the arm counts as standing [m/s]; what is 0.01 mm a physics step."""

MAX_SPEED = ServoLimits().max_speed
"""Of the tool [m/s]."""


def shared(path: Path | None) -> np.ndarray:
    """The array, in a file if one is named; it is made if it is not there."""
    if path is None:
        return np.zeros(len(FIELDS))
    if not path.exists():
        np.zeros(len(FIELDS)).tofile(path)
    return np.memmap(path, np.float64, "r+", shape=(len(FIELDS),))


def read(found: np.ndarray) -> dict[str, float]:
    """By name."""
    return dict(zip(FIELDS, found.tolist(), strict=True))


def violations(found: Mapping[str, float]) -> dict[str, float]:
    """Limits that were broken, and by how much: shares above 1, ways beyond above 0."""
    broken = {name: found[name] for name in SHARES if not found[name] <= 1.0}
    return broken | {name: found[name] for name in BEYOND if not found[name] <= 0.0}


class MeteredPanda(PandaArm):
    """The arm, measured after each physics step.

    Args:
        config: of the arm.
        clock: that ``moving_at`` is stamped with [s].
        path: of the array's file; None for memory.
    """

    def __init__(self, config: MakePandaArm, clock: Callable[[], float], path: Path | None = None):
        self.clock, self.found = clock, shared(path)
        super().__init__(config)
        self._own = self._mujoco.MjData(self.model)
        limits = config.joint_limits
        self._limits: JointLimits = limits
        self._arrays = {name: limits.array(name) for name in ("velocity", "acceleration", "torque", "low", "high")}
        self._box = limits.array("workspace_low"), limits.array("workspace_high")
        self._before = np.zeros(7)
        self._hand = self.model.body("right_hand").id
        self._corners = _corners(self.model.geom_aabb[self._shapes])
        self.start()

    def start(self) -> None:
        """Forget what was found."""
        if not hasattr(self, "_own"):
            return
        asked = self.found[-2:].copy()
        self.found[:] = 0.0
        self.found[6:9], self.found[-2:] = -np.inf, asked
        self._before = self.data.qvel[:7].copy()
        self._own.qpos[:] = self.data.qpos
        self._mujoco.mj_kinematics(self.model, self._own)
        self._place = self._own.site_xpos[self._tool].copy()

    def reset(self, scene: Mapping[str, Any]) -> None:
        """As the arm's; measuring starts anew."""
        super().reset({key: value for key, value in scene.items() if key in ("joints", "jam")})
        self.start()

    def set_goal(self, action: np.ndarray) -> None:
        """As the arm's."""
        super().set_goal(action)
        self.found[10] = self.clock()

    def wish(self) -> Any:
        """As the arm's; the campaign's jam and load take hold."""
        self.jam(bool(self.found[-2]))
        self.data.xfrc_applied[self._hand, 2] = -self.found[-1]
        return super().wish()

    def drive(self, acceleration: np.ndarray, grip: np.ndarray) -> None:
        """As the arm's, then measure."""
        super().drive(acceleration, grip)
        data, found, arrays = self.data, self.found, self._arrays
        found[0] += 1
        speeds, q = data.qvel[:7], data.qpos[:7]
        rise = np.abs(speeds - self._before) / self.substep_seconds
        self._before = speeds.copy()
        self._own.qpos[:] = data.qpos
        self._mujoco.mj_kinematics(self.model, self._own)
        tool = self._own.site_xpos[self._tool]
        force = float(np.abs(data.qfrc_actuator[7:9]).max()) / self._limits.gripper_force
        peaks = (
            float((np.abs(speeds) / arrays["velocity"]).max()),
            float((rise / arrays["acceleration"]).max()),
            float((np.abs(data.qfrc_actuator[:7]) / arrays["torque"]).max()),
            force,
            float(np.linalg.norm(tool - self._place)) / self.substep_seconds / MAX_SPEED,
        )
        # corners of the boxes around hand, fingers and wrist, each where it is
        turns = self._own.geom_xmat[self._shapes].reshape(-1, 3, 3)[:, 2]
        lowest = float((np.einsum("gcx,gx->gc", self._corners, turns).min(axis=1) + self._heights()).min())
        beyond = (
            float(np.maximum(arrays["low"] - q, q - arrays["high"]).max()),
            float(np.maximum(self._box[0] - tool, tool - self._box[1]).max()),
            self._limits.table - lowest,
        )
        found[1:9] = np.fmax(found[1:9], [*peaks, *beyond])
        if not np.isfinite(data.qpos).all():
            found[1:9] = np.inf
        moved, self._place = float(np.linalg.norm(tool - self._place)), tool.copy()
        if not moved / self.substep_seconds < STANDS:
            found[9] = self.clock()

    def _heights(self) -> np.ndarray:
        return self._own.geom_xpos[self._shapes, 2]


def _corners(boxes: np.ndarray) -> np.ndarray:
    """The 8 corners of each box, in its own axes."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    return boxes[:, None, :3] + signs[None] * boxes[:, None, 3:]


@dataclass(frozen=True)
class Factory:
    """Makes the measured arm in its own process.

    Attributes:
        path: of the array's file.
        config: of the arm.
    """

    path: Path
    config: MakePandaArm = MakePandaArm()  # noqa: RUF009 - frozen

    def __call__(self) -> MeteredPanda:
        """The world."""
        import time

        return MeteredPanda(self.config, time.monotonic, self.path)
