"""What an action asks of the servo: from where the motion goes, to which of the servo's numbers.

::

    action ─▶ ToolGoals     change of the pose ─▶ position and rotation vector: the controller solves its joints
           ─▶ JointGoals    joints as they are
           ─▶ SolvedGoals   change of the pose ─▶ inverse kinematics of our own ─▶ joints
"""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Float64

from vla import rotation
from vla.embodiment import ActionSpec
from vla.errors import BodyFault, ConfigError
from vla.robot_driver.arm_link import Measured
from vla.robot_driver.inverse_kinematics import InverseKinematics
from vla.robot_driver.tool_numbers import TURN, ToolNumbers, nearest_turn
from vla.tool_pose import Pose, change_to, moves_tool, poses_after

_MISSED_M, _MISSED_RAD = 1e-4, 1e-3  # a goal that is farther than this was not reached


class Goals(Protocol):
    """From actions within their ranges to the servo's numbers."""

    def after(
        self, start: Float64[np.ndarray, "n"], action: Float32[np.ndarray, "a"]
    ) -> tuple[Float64[np.ndarray, "n"], Float32[np.ndarray, "a"]]:
        """The numbers that an action leads to from ``start``, and the action that really leads there.

        Raises:
            BodyFault: there is no way to any such place.
        """
        ...

    def pose(self, numbers: Float64[np.ndarray, "n"]) -> Pose | None:
        """Of the tool, as the controller measures it; None if changes of it are not what is commanded."""
        ...

    def saw(self, measured: Measured) -> None:
        """The arm was measured."""
        ...

    def report(self) -> dict[str, Any]:
        """JSON values."""
        ...


class ToolGoals:
    """Changes of the tool's pose in the base frame, as six numbers; the controller solves its joints.

    Args:
        action: three positions and perhaps a rotation.
        numbers: of the tool's pose.
    """

    def __init__(self, action: ActionSpec, numbers: ToolNumbers):
        self._action, self._numbers = action, numbers

    def after(
        self, start: Float64[np.ndarray, "6"], action: Float32[np.ndarray, "a"]
    ) -> tuple[Float64[np.ndarray, "6"], Float32[np.ndarray, "a"]]:
        """See :class:`Goals`.

        Raises:
            BodyFault: the tool has been turned almost once around.
        """
        place = start[:3] + _values(self._action, action, "position")
        turn, form = _values(self._action, action, "rotation"), self._action.rotation
        if form is None or not len(turn):
            return np.concatenate([place, start[3:]]), action
        matrix = rotation.to_matrix(turn, form) @ rotation.to_matrix(start[3:], "axis_angle")
        after = nearest_turn(rotation.from_matrix(matrix, "axis_angle"), start[3:])
        if np.linalg.norm(after) > TURN:  # a whole turn has the rotation vector of none: the tool would turn back
            raise BodyFault("the tool was turned almost once around since the arm was connected: connect again")
        return np.concatenate([place, after]), action

    def pose(self, numbers: Float64[np.ndarray, "6"]) -> Pose:
        """See :class:`Goals`."""
        return self._numbers.pose(numbers)

    def saw(self, measured: Measured) -> None:
        """See :class:`Goals`."""

    def report(self) -> dict[str, Any]:
        """See :class:`Goals`."""
        return {}


class JointGoals:
    """Joint positions.

    Args:
        action: whose joint channels are those of the servo.
    """

    def __init__(self, action: ActionSpec):
        self._action = action

    def after(
        self, start: Float64[np.ndarray, "j"], action: Float32[np.ndarray, "a"]
    ) -> tuple[Float64[np.ndarray, "j"], Float32[np.ndarray, "a"]]:
        """See :class:`Goals`."""
        return _values(self._action, action, "joint"), action

    def pose(self, numbers: Float64[np.ndarray, "j"]) -> None:
        """See :class:`Goals`."""

    def saw(self, measured: Measured) -> None:
        """See :class:`Goals`."""

    def report(self) -> dict[str, Any]:
        """See :class:`Goals`."""
        return {}


class SolvedGoals:
    """Changes of the tool's pose in the base frame, as joints that inverse kinematics of our own finds.

    Changes count in the model's own forward kinematics. What the controller measures differs from it by the arm's
    calibration; only the difference at the last measurement enters, and only where a pose is told (:meth:`pose`), so
    it does not add up. Where a pose cannot be reached within ranges, speeds and margins, the nearest that was found is
    the goal, the next change counts from there, and the action that leads there is what is told to have been sent.

    Args:
        action: changes of the tool's pose.
        kinematics: of the arm, its tool included; poses in the controller's base frame.

    Raises:
        ConfigError: the actions are not such changes.
    """

    def __init__(self, action: ActionSpec, kinematics: InverseKinematics):
        if action.mode != "delta" or not moves_tool(action):
            raise ConfigError("kinematics of our own are for actions that are changes of the tool's pose")
        self._action, self._kinematics = action, kinematics
        self._shift, self._turn = np.zeros(3), np.eye(3)  # from the model's pose to the measured one
        self._goals = self._missed = 0
        self._error = [0.0, 0.0]

    def after(
        self, start: Float64[np.ndarray, "j"], action: Float32[np.ndarray, "a"]
    ) -> tuple[Float64[np.ndarray, "j"], Float32[np.ndarray, "a"]]:
        """See :class:`Goals`.

        Raises:
            BodyFault: no step keeps ranges, speeds and margins.
        """
        before = self._kinematics.pose(start)
        wanted = poses_after(action[None], self._action, before)[0]
        found = self._kinematics.approach(start, wanted, 1 / self._action.rate)
        self._goals += 1
        if found.position_error <= _MISSED_M and found.rotation_error <= _MISSED_RAD:
            return found.joints, action
        self._missed += 1
        self._error = [max(self._error[0], found.position_error), max(self._error[1], found.rotation_error)]
        return found.joints, change_to(action, self._action, before, self._kinematics.pose(found.joints))

    def pose(self, numbers: Float64[np.ndarray, "j"]) -> Pose:
        """See :class:`Goals`."""
        found = self._kinematics.pose(numbers)
        return Pose(found.position + self._shift, self._turn @ found.matrix)

    def saw(self, measured: Measured) -> None:
        """See :class:`Goals`."""
        model = self._kinematics.pose(measured.joints)
        self._shift = measured.tool[:3, 3] - model.position
        self._turn = measured.tool[:3, :3] @ model.matrix.T

    def report(self) -> dict[str, Any]:
        """Goals, how many were not reached, and the largest errors of those [m, rad]."""
        worst = {"position_error": self._error[0], "rotation_error": self._error[1]}
        return {"kinematics": {"goals": self._goals, "missed": self._missed, **worst}}


def _values(spec: ActionSpec, action: Float32[np.ndarray, "a"], kind: str) -> Float64[np.ndarray, "k"]:
    """The numbers of the channels of a kind [m or rad]."""
    found = [(place, one.scale) for place, one in enumerate(spec.channels) if one.kind == kind]
    places, scales = [place for place, _ in found], [scale for _, scale in found]
    return action.astype(np.float64)[places] * scales
