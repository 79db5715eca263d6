"""A camera whose place is known is found again, from pictures of a board; what cannot be known is refused."""

import numpy as np
import pytest
from board_pictures import HEIGHT, LENS, WIDTH, pose, scene_views, wrist_views

from vla.calibration_board import Board, Lens, lens_from_views
from vla.errors import ConfigError
from vla.hand_eye import calibrate, check_poses
from vla.rotation import from_matrix

CHARUCO, APRIL = Board(), Board("apriltag", 4, 3, square=0.06, marker=0.045)
CAMERA_TO_TOOL = pose([0.05, -0.02, -0.08], [0.1, -0.05, 1.5])
BOARD_TO_BASE = pose([0.45, -0.1, 0.02], [0.02, 3.1, 0.3])
CAMERA_TO_BASE = pose([1.1, 0.3, 0.5], [-1.2, 1.3, -0.9])
BOARD_TO_TOOL = pose([0.02, 0.01, 0.06], [0.05, 0.1, 0.7])


def apart(found, truth):
    between = np.linalg.inv(truth) @ found
    turn = np.linalg.norm(from_matrix(between[:3, :3], "axis_angle"))
    return float(np.linalg.norm(between[:3, 3])), float(np.degrees(turn))


def seen(board, arm, pictures):
    found = [board.detect(picture) for picture in pictures]
    kept = [(link, view) for link, view in zip(arm, found, strict=True) if view is not None]
    assert len(kept) >= 10, "the pictures show the board"
    return [link for link, _ in kept], [view for _, view in kept]


@pytest.mark.parametrize("board", [CHARUCO, APRIL], ids=lambda board: board.kind)
def test_a_camera_on_the_wrist_is_found(board):
    rng = np.random.default_rng(1)
    arm, views = seen(board, *wrist_views(board, CAMERA_TO_TOOL, BOARD_TO_BASE, rng))
    found = calibrate(arm, views, LENS, "wrist")
    metres, degrees = apart(found.camera, CAMERA_TO_TOOL)
    assert metres < 1e-3 and degrees < 0.03, (metres, degrees)
    assert apart(found.board, BOARD_TO_BASE)[0] < 1e-3
    assert found.error < 0.5 and max(found.errors) < 1.0 and len(found.errors) == len(views)
    assert found.sigma_m < 1e-3 and found.to_json()["camera_in"] == "tool"


def test_a_camera_beside_the_arm_is_found():
    rng = np.random.default_rng(2)
    arm, views = seen(CHARUCO, *scene_views(CHARUCO, CAMERA_TO_BASE, BOARD_TO_TOOL, rng))
    found = calibrate(arm, views, LENS, "scene")
    metres, degrees = apart(found.camera, CAMERA_TO_BASE)
    assert metres < 1e-3 and degrees < 0.03, (metres, degrees)
    assert apart(found.board, BOARD_TO_TOOL)[0] < 2e-3


def test_noise_of_the_arm_is_averaged_and_one_wrong_pose_stands_out():
    rng = np.random.default_rng(3)
    arm, views = seen(CHARUCO, *wrist_views(CHARUCO, CAMERA_TO_TOOL, BOARD_TO_BASE, rng, count=20))
    noisy = [link @ pose(rng.normal(0, 5e-4, 3), rng.normal(0, 1e-3, 3)) for link in arm]
    found = calibrate(noisy, views, LENS, "wrist")
    metres, degrees = apart(found.camera, CAMERA_TO_TOOL)
    assert metres < 2e-3 and degrees < 0.3, (metres, degrees)
    wrong = [*noisy[:-1], noisy[-1] @ pose([0.05, 0, 0], [0, 0, 0])]
    found = calibrate(wrong, views, LENS, "wrist")
    assert int(np.argmax(found.errors)) == len(wrong) - 1 and found.errors[-1] > 10
    assert apart(found.camera, CAMERA_TO_TOOL)[0] < 5e-3


def test_the_lens_is_measured_from_the_same_pictures():
    rng = np.random.default_rng(4)
    _, views = seen(CHARUCO, *wrist_views(CHARUCO, CAMERA_TO_TOOL, BOARD_TO_BASE, rng, count=16))
    lens, error = lens_from_views(views, HEIGHT, WIDTH)
    np.testing.assert_allclose(np.diag(lens.matrix)[:2], np.diag(LENS.matrix)[:2], rtol=0.01)
    assert error < 0.5
    with pytest.raises(ConfigError, match="6 or more"):
        lens_from_views(views[:3], HEIGHT, WIDTH)


def test_poses_that_determine_nothing_are_refused():
    straight = [pose([0.1 * n, 0, 0.3], [0, 3.0, 0]) for n in range(8)]
    with pytest.raises(ConfigError, match=r"turned by at most 0\.0 degrees.*two different axes"):
        check_poses(straight)
    one_axis = [pose([0.1 * n, 0, 0.3], [0, 0, 0.3 * n]) for n in range(8)]
    with pytest.raises(ConfigError, match="about one axis only"):
        check_poses(one_axis)
    with pytest.raises(ConfigError, match="6 or more poses, found 5"):
        check_poses(straight[:5])
    two_axes = [pose([0, 0, 0.3], [0.3 * n, 0, 0]) for n in range(4)] + [
        pose([0, 0, 0.3], [0, 0.4 * n, 0]) for n in (1, 2)
    ]
    check_poses(two_axes)


def test_boards_that_cannot_be_and_pictures_without_one():
    with pytest.raises(ConfigError, match="columns"):
        Board(columns=1)
    with pytest.raises(ConfigError, match="marker"):
        Board(marker=0.05)
    assert CHARUCO.detect(np.full((HEIGHT, WIDTH, 3), 128, np.uint8)) is None
    assert CHARUCO.picture(1000).shape == (200, 280)


def test_projection_is_the_pinhole_formula():
    lens = Lens(LENS.matrix, np.zeros(5))
    point = np.array([[0.1, -0.05, 0.5]])
    expected = [560 * 0.2 + 322, 558 * -0.1 + 238]
    np.testing.assert_allclose(lens.project(point, np.eye(4))[0], expected)
