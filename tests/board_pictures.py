"""Pictures of a calibration board as a camera of known place would take them: the truth to calibrate against."""

import cv2
import numpy as np

from vla.calibration_board import Board, Lens
from vla.rotation import to_matrix

HEIGHT, WIDTH = 480, 640
LENS = Lens(np.array([[560.0, 0, 322.0], [0, 558.0, 238.0], [0, 0, 1]]), np.zeros(5))


def pose(position, turn):
    """From position [m] and axis-angle [rad] to a matrix."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = to_matrix(np.asarray(turn, np.float64), "axis_angle"), position
    return matrix


def looking_at(eye, target, roll):
    """Pose of a camera that looks from one point at another: z forwards, y down, then rolled."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1) @ to_matrix(
        np.array([0.0, 0.0, roll]), "axis_angle"
    )
    matrix[:3, 3] = eye
    return matrix


def photograph(board: Board, board_to_camera, rng, *, lens=LENS, noise=4.0, density=3000.0):
    """A picture: the board projected by the homography of its plane, blurred, with noise."""
    flat = cv2.copyMakeBorder(board.picture(density), 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=255)
    # a pixel's centre is half a pixel from its corner
    to_metres = np.array([[1 / density, 0, (0.5 - 60) / density], [0, 1 / density, (0.5 - 60) / density], [0, 0, 1]])
    plane = board_to_camera[:3][:, [0, 1, 3]]
    # four times as large, then averaged: what a pixel sees is an area
    scale = np.array([[4.0, 0, 1.5], [0, 4.0, 1.5], [0, 0, 1]])
    size = (WIDTH * 4, HEIGHT * 4)
    large = cv2.warpPerspective(flat, scale @ lens.matrix @ plane @ to_metres, size, borderValue=128)
    picture = cv2.GaussianBlur(cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), (0, 0), 0.6)
    noisy = np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)
    return np.repeat(noisy[:, :, None], 3, axis=2)


def wrist_views(board, camera_to_tool, board_to_base, rng, count=14, **options):
    """Poses of the tool and pictures of a camera on the wrist, looking at the board from around."""
    middle = (board_to_base @ np.array([*(side / 2 for side in board.size), 0, 1]))[:3]
    arm, pictures = [], []
    for _ in range(count):
        around, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.7)
        way = np.array([np.sin(tilt) * np.cos(around), np.sin(tilt) * np.sin(around), np.cos(tilt)])
        eye = middle + rng.uniform(0.35, 0.5) * way
        camera = looking_at(eye, middle + rng.normal(0, 0.01, 3), rng.uniform(-1.5, 1.5))
        arm.append(camera @ np.linalg.inv(camera_to_tool))
        pictures.append(photograph(board, np.linalg.inv(camera) @ board_to_base, rng, **options))
    return arm, pictures


def scene_views(board, camera_to_base, board_to_tool, rng, count=14, **options):
    """Poses of the tool and pictures of a camera beside the arm that holds the board."""
    arm, pictures = [], []
    for _ in range(count):
        turn = np.array([np.pi, 0, 0]) + rng.uniform(-0.5, 0.5, 3)
        front = pose([0, 0, 0], turn)
        shown = pose([-board.size[0] / 2, -board.size[1] / 2, 0], [0, 0, 0])
        board_to_camera = pose([*rng.uniform(-0.05, 0.05, 2), rng.uniform(0.45, 0.6)], [0, 0, 0]) @ front
        board_to_camera = board_to_camera @ pose([0, 0, 0], [np.pi, 0, 0]) @ shown
        arm.append(camera_to_base @ board_to_camera @ np.linalg.inv(board_to_tool))
        pictures.append(photograph(board, board_to_camera, rng, **options))
    return arm, pictures
