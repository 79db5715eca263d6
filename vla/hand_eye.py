"""Where a camera sits: on the wrist, or beside the arm, from pictures of a board that go with poses of the arm.

::

    wrist: board ─Y─▶ base ─inv(A_i)─▶ tool ─inv(X)─▶ camera      X: camera to tool, Y: board to base, A_i: tool to base
    scene: board ─Y─▶ tool ───A_i────▶ base ─inv(X)─▶ camera      X: camera to base, Y: board to tool

A closed solution (Park and Martin 1994, by OpenCV's ``calibrateHandEye``) is the start; then X and Y are moved until
the board's corners are where the pictures have them: least squares of the reprojection error, all pictures together, as
in Tabb and Ahmad Yousef, "Solving the Robot-World Hand-Eye(s) Calibration Problem with Iterative Methods" (2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy.optimize import least_squares

from vla import rotation
from vla.calibration_board import Corners, Lens
from vla.errors import ConfigError
from vla.mounting import offset_of

Mounting = Literal["wrist", "scene"]

MIN_VIEWS = 6
MIN_TURN = np.radians(20.0)
"""Arm poses must be turned against each other by so much, about two axes that differ by so much."""

Pose = Float64[np.ndarray, "4 4"]


@dataclass(frozen=True)
class HandEye:
    """A calibrated camera.

    Attributes:
        mounting: ``"wrist"`` or ``"scene"``.
        camera: to the tool's frame (wrist) or the arm's base (scene).
        board: to the arm's base (wrist) or the tool's frame (scene).
        errors: of each picture [pixels, root mean square over its corners].
        error: of all corners [pixels, root mean square].
        sigma_m: standard deviation of the camera's position, largest axis, if the corners' errors are independent [m].
        sigma_rad: the same of its orientation [rad].
    """

    mounting: Mounting
    camera: Pose
    board: Pose
    errors: tuple[float, ...]
    error: float
    sigma_m: float
    sigma_rad: float

    def to_json(self) -> dict[str, Any]:
        """JSON values; rotations as axis-angle."""
        offset, board = offset_of(self.camera), offset_of(self.board)
        return {
            "mounting": self.mounting,
            "camera_in": "tool" if self.mounting == "wrist" else "base",
            "position_m": list(offset.position),
            "rotation_rad": list(offset.rotation),
            "board_in": "base" if self.mounting == "wrist" else "tool",
            "board_position_m": list(board.position),
            "board_rotation_rad": list(board.rotation),
            "reprojection_px": self.error,
            "worst_picture_px": max(self.errors),
            "pictures": len(self.errors),
            "sigma_m": self.sigma_m,
            "sigma_rad": self.sigma_rad,
        }


def calibrate(arm: Sequence[Pose], views: Sequence[Corners], lens: Lens, mounting: Mounting) -> HandEye:
    """Where the camera sits.

    Args:
        arm: pose of the tool in the arm's base frame, for each picture.
        views: the board's corners in each picture.
        lens: of the camera.
        mounting: camera on the wrist and board in the scene, or camera in the scene and board on the tool.

    Raises:
        ConfigError: there are too few pictures, or the arm's poses do not determine the answer.
    """
    import cv2

    if len(arm) != len(views):
        raise ConfigError(f"a pose of the arm for each picture, found {len(arm)} for {len(views)}")
    check_poses(arm)
    chain = [np.linalg.inv(pose) for pose in arm] if mounting == "wrist" else list(arm)
    boards = [lens.board_to_camera(view) for view in views]
    # OpenCV asks for the pose that moves with the camera: the tool's, or the base's as the board on the tool sees it
    carriers = [np.linalg.inv(link) for link in chain]
    turn, shift = cv2.calibrateHandEye(
        [pose[:3, :3] for pose in carriers],
        [pose[:3, 3] for pose in carriers],
        [pose[:3, :3] for pose in boards],
        [pose[:3, 3] for pose in boards],
        method=cv2.CALIB_HAND_EYE_PARK,
    )
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = turn, shift.ravel()
    board = carriers[0] @ camera @ boards[0]
    start = np.concatenate([_vector(camera), _vector(board)])

    def residuals(values: np.ndarray) -> np.ndarray:
        eye, target = np.linalg.inv(_matrix(values[:6])), _matrix(values[6:])
        seen = [lens.project(v.points, eye @ link @ target) - v.pixels for link, v in zip(chain, views, strict=True)]
        return np.concatenate(seen).ravel()

    # a picture whose pose is wrong must not drag the others along: Huber's loss, in pixels
    solved = least_squares(residuals, start, loss="huber", f_scale=1.0, x_scale="jac")
    rest = residuals(solved.x).reshape(-1, 2)
    sizes = np.cumsum([len(view.points) for view in views])[:-1]
    errors = tuple(float(np.sqrt((part**2).sum(1).mean())) for part in np.split(rest, sizes))
    variance = float((rest**2).sum() / max(1, rest.size - 12))
    spread = np.sqrt(np.diag(np.linalg.pinv(solved.jac.T @ solved.jac) * variance))
    return HandEye(
        mounting,
        _matrix(solved.x[:6]),
        _matrix(solved.x[6:]),
        errors,
        float(np.sqrt((rest**2).sum(1).mean())),
        float(spread[:3].max()),
        float(spread[3:6].max()),
    )


def check_poses(arm: Sequence[Pose]) -> None:
    """See that poses of the arm determine where a camera sits.

    Turns about one axis only leave the position along that axis open (Tsai and Lenz 1989); moving without turning
    leaves everything open.

    Raises:
        ConfigError: they do not; says what to add.
    """
    if len(arm) < MIN_VIEWS:
        raise ConfigError(f"hand-eye calibration needs {MIN_VIEWS} or more poses, found {len(arm)}")
    turns = [
        rotation.from_matrix(later[:3, :3] @ earlier[:3, :3].T, "axis_angle")
        for place, earlier in enumerate(arm)
        for later in arm[place + 1 :]
    ]
    large = np.array([turn for turn in turns if np.linalg.norm(turn) >= MIN_TURN]).reshape(-1, 3)
    most = np.degrees(max(np.linalg.norm(turn) for turn in turns))
    needed = f"turn the tool by {np.degrees(MIN_TURN):.0f} degrees or more about two different axes"
    if not len(large):
        raise ConfigError(f"the arm's poses are turned by at most {most:.1f} degrees against each other; {needed}")
    axes = large / np.linalg.norm(large, axis=1, keepdims=True)
    between = np.arccos(np.clip(np.abs(axes @ axes.T), 0.0, 1.0)).max()
    if between < MIN_TURN:
        raise ConfigError(
            f"the arm's poses are turned about one axis only, to {np.degrees(between):.1f} degrees; {needed}"
        )


def _vector(pose: Pose) -> Float64[np.ndarray, "6"]:
    return np.concatenate([pose[:3, 3], rotation.from_matrix(pose[:3, :3], "axis_angle")])


def _matrix(values: Float64[np.ndarray, "6"]) -> Pose:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.to_matrix(values[3:], "axis_angle"), values[:3]
    return pose
