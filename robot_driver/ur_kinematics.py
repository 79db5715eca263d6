"""Forward and inverse kinematics of Universal Robots' arms, from the published Denavit-Hartenberg parameters.

A real arm is calibrated at the factory, so that its flange is up to some millimetres beside these: good enough to
simulate one, not to command one. The driver leaves inverse kinematics to the controller.
"""

import numpy as np
from jaxtyping import Float64

from vla.rotation import from_matrix, to_matrix

ALPHA = np.array([np.pi / 2, 0.0, 0.0, np.pi / 2, -np.pi / 2, 0.0])

LENGTHS: dict[str, tuple[tuple[float, float], tuple[float, float, float, float]]] = {
    # a2, a3 and d1, d4, d5, d6 [m]
    "ur3e": ((-0.24355, -0.2132), (0.15185, 0.13105, 0.08535, 0.0921)),
    "ur5e": ((-0.425, -0.3922), (0.1625, 0.1333, 0.0997, 0.0996)),
    "ur10e": ((-0.6127, -0.57155), (0.1807, 0.17415, 0.11985, 0.11655)),
    "ur16e": ((-0.4784, -0.36), (0.1807, 0.17415, 0.11985, 0.11655)),
}
"""Universal Robots, "DH parameters for calculations of kinematics and dynamics"."""


def link_poses(model: str, q: Float64[np.ndarray, "6"]) -> Float64[np.ndarray, "7 4 4"]:
    """Frames of the joints in the base frame, each with its joint's axis as z, and last the flange; q in rad."""
    (a2, a3), (d1, d4, d5, d6) = LENGTHS[model]
    links = np.zeros((6, 4, 4))
    c, s, ca, sa = np.cos(q), np.sin(q), np.cos(ALPHA), np.sin(ALPHA)
    a, d = np.array([0, a2, a3, 0, 0, 0]), np.array([d1, 0, 0, d4, d5, d6])
    links[:, 0] = np.stack([c, -s * ca, s * sa, a * c], axis=-1)
    links[:, 1] = np.stack([s, c * ca, -c * sa, a * s], axis=-1)
    links[:, 2, 1], links[:, 2, 2], links[:, 2, 3], links[:, 3, 3] = sa, ca, d, 1.0
    poses = np.empty((7, 4, 4))
    poses[0] = np.eye(4)
    for place in range(6):
        poses[place + 1] = poses[place] @ links[place]
    return poses


def flange_to_base(model: str, q: Float64[np.ndarray, "6"]) -> Float64[np.ndarray, "4 4"]:
    """Pose of the flange in the base frame for joint positions [rad]."""
    return link_poses(model, q)[-1]


def jacobian(
    model: str, q: Float64[np.ndarray, "6"], tool: Float64[np.ndarray, "4 4"] | None = None
) -> Float64[np.ndarray, "6 6"]:
    """Velocity of the tool [m/s, rad/s] in the base frame for each joint's velocity."""
    poses = link_poses(model, q)
    point = poses[6, :3, 3] if tool is None else poses[6, :3, :3] @ tool[:3, 3] + poses[6, :3, 3]
    axes = poses[:6, :3, 2]
    return np.concatenate([np.cross(axes, point - poses[:6, :3, 3]), axes], axis=1).T


def nearest_joints(
    model: str,
    pose: Float64[np.ndarray, "4 4"],
    near: Float64[np.ndarray, "6"],
    tool: Float64[np.ndarray, "4 4"] | None = None,
) -> Float64[np.ndarray, "6"] | None:
    """Joint positions that bring the tool to ``pose``, by damped least squares from ``near``; None if there are none.

    Args:
        model: a key of ``LENGTHS``.
        pose: of the tool in the base frame.
        near: where the search starts [rad].
        tool: pose of the tool centre point in the flange's frame.
    """
    tool = np.eye(4) if tool is None else tool
    q = np.array(near, np.float64)
    for _ in range(30):
        here = flange_to_base(model, q) @ tool
        turn = from_matrix(pose[:3, :3] @ here[:3, :3].T, "axis_angle")
        error = np.concatenate([pose[:3, 3] - here[:3, 3], turn])
        if np.abs(error).max() < 1e-7:
            return q
        matrix = jacobian(model, q, tool)
        q = q + np.clip(matrix.T @ np.linalg.solve(matrix @ matrix.T + 1e-8 * np.eye(6), error), -0.5, 0.5)
    return None


def pose_matrix(vector: Float64[np.ndarray, "6"]) -> Float64[np.ndarray, "4 4"]:
    """From Universal Robots' pose, position [m] and rotation vector [rad], to a matrix."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = to_matrix(np.asarray(vector[3:], np.float64), "axis_angle"), vector[:3]
    return matrix


def pose_vector(matrix: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "6"]:
    """From a matrix to position [m] and rotation vector [rad]."""
    return np.concatenate([matrix[:3, 3], from_matrix(matrix[:3, :3], "axis_angle")])
