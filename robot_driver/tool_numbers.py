"""A tool's pose as six numbers that a servo can bound: position [m] and rotation vector [rad].

The rotation vector counts from an anchor, the tool's orientation when the arm was connected: it is smooth up to a whole
turn from there, and its speed is never below the tool's true one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vla import rotation
from vla.tool_pose import Pose

TURN = 1.9 * np.pi
"""How far a tool may be turned from its anchor [rad]; a whole turn has the rotation vector of none."""


@dataclass(frozen=True)
class ToolNumbers:
    """From poses in the base frame to numbers, and back.

    Attributes:
        anchor: the orientation that turns count from, its axes as columns.
    """

    anchor: Float64[np.ndarray, "3 3"]

    def pose(self, numbers: Float64[np.ndarray, "6"]) -> Pose:
        """The pose of numbers."""
        return Pose(numbers[:3], rotation.to_matrix(numbers[3:], "axis_angle") @ self.anchor)

    def numbers(self, pose: Pose, near: Float64[np.ndarray, "6"]) -> Float64[np.ndarray, "6"]:
        """The numbers of a pose: of the rotation vectors that mean the same, the one nearest to another."""
        turn = rotation.from_matrix(pose.matrix @ self.anchor.T, "axis_angle")
        return np.concatenate([pose.position, nearest_turn(turn, near[3:])])


def nearest_turn(turn: Float64[np.ndarray, "3"], near: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"]:
    """Of the rotation vectors that mean the same, the one nearest to another: no leap where the angle passes pi."""
    angle = float(np.linalg.norm(turn))
    if angle < 1e-9:
        return turn
    other = turn * (1 - 2 * np.pi / angle)
    return turn if np.linalg.norm(turn - near) <= np.linalg.norm(other - near) else other
