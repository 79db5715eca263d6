"""Boards to calibrate cameras with: what is printed, and where its corners are seen in a picture.

ChArUco boards (chessboard corners, found to a fraction of a pixel, between markers that number them) are the better
choice; a grid of AprilTags (36h11) is what many laboratories already have. Detection is OpenCV's ``cv2.aruco``.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, UInt8

from vla.errors import ConfigError
from vla.experience import Image

Kind = Literal["charuco", "apriltag"]
_MIN_CORNERS = 6
"""Fewer do not fix a pose against noise."""


@dataclass(frozen=True)
class Board:
    """A flat board, x to the right and y downwards from its upper left corner, z away from whoever looks at it.

    Attributes:
        kind: ``"charuco"`` or ``"apriltag"``.
        columns: squares, or tags, from left to right.
        rows: from top to bottom.
        square: side of a chessboard square, or of a tag with the gap to the next one [m]; measure what was printed.
        marker: side of a marker or a tag [m].

    Raises:
        ConfigError: it cannot be printed.
    """

    kind: Kind = "charuco"
    columns: int = 7
    rows: int = 5
    square: float = 0.04
    marker: float = 0.03

    def __post_init__(self):
        if self.columns < 2 or self.rows < 2:
            raise ConfigError(f"a board has 2 or more columns and rows, found {self.columns} and {self.rows}")
        if not 0 < self.marker < self.square:
            raise ConfigError(f"marker is above 0 and below square, found {self.marker} and {self.square} m")

    @property
    def size(self) -> tuple[float, float]:
        """Width and height [m]."""
        gap = 0.0 if self.kind == "charuco" else self.square - self.marker
        return self.columns * self.square - gap, self.rows * self.square - gap

    def picture(self, pixels_per_metre: float) -> UInt8[np.ndarray, "h w"]:
        """What to print, without a margin."""
        width, height = (round(side * pixels_per_metre) for side in self.size)
        return self._library().generateImage((width, height), marginSize=0)

    def detect(self, picture: Image) -> "Corners | None":
        """Its corners in a picture; None where it is not seen well enough."""
        import cv2

        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        board = self._library()
        if self.kind == "charuco":
            found, numbers, _, _ = cv2.aruco.CharucoDetector(board).detectBoard(grey)
        else:
            settings = cv2.aruco.DetectorParameters()
            settings.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
            found, numbers, _ = cv2.aruco.ArucoDetector(board.getDictionary(), settings).detectMarkers(grey)
        if numbers is None or len(numbers) == 0:
            return None
        points, pixels = board.matchImagePoints(found, numbers)
        if points is None or len(points) < _MIN_CORNERS:
            return None
        where = np.asarray(pixels, np.float64).reshape(-1, 2)
        if self.kind == "charuco":
            where = where - 0.5  # OpenCV counts these from a pixel's corner, all else from its centre
        return Corners(np.asarray(points, np.float64).reshape(-1, 3), where)

    def _library(self) -> Any:
        import cv2

        if self.kind == "charuco":
            words = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_250)
            return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square, self.marker, words)
        words = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
        return cv2.aruco.GridBoard((self.columns, self.rows), self.marker, self.square - self.marker, words)


@dataclass(frozen=True)
class Corners:
    """Corners that were recognised.

    Attributes:
        points: on the board [m].
        pixels: in the picture, x to the right, y downwards; whole numbers are centres of pixels.
    """

    points: Float64[np.ndarray, "n 3"]
    pixels: Float64[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Lens:
    """A pinhole camera with OpenCV's distortion.

    Attributes:
        matrix: focal lengths and centre [pixels].
        distortion: k1, k2, p1, p2, k3.
    """

    matrix: Float64[np.ndarray, "3 3"]
    distortion: Float64[np.ndarray, "5"]

    def project(
        self, points: Float64[np.ndarray, "n 3"], pose: Float64[np.ndarray, "4 4"]
    ) -> Float64[np.ndarray, "n 2"]:
        """Pixels of points that ``pose`` brings into the camera's frame (x right, y down, z forwards)."""
        import cv2

        turn, _ = cv2.Rodrigues(pose[:3, :3])
        pixels, _ = cv2.projectPoints(points, turn, pose[:3, 3], self.matrix, self.distortion)
        return pixels.reshape(-1, 2)

    def board_to_camera(self, corners: Corners) -> Float64[np.ndarray, "4 4"]:
        """Pose of the board from one picture; z is positive: it is in front of the camera."""
        import cv2

        _, turn, shift = cv2.solvePnP(
            corners.points, corners.pixels, self.matrix, self.distortion, flags=cv2.SOLVEPNP_IPPE
        )
        turn, shift = cv2.solvePnPRefineLM(corners.points, corners.pixels, self.matrix, self.distortion, turn, shift)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
        return pose


def lens_from_views(views: list[Corners], height: int, width: int) -> tuple[Lens, float]:
    """The lens that explains pictures of a board best (Zhang 2000), and its error [pixels, root mean square].

    Raises:
        ConfigError: there are fewer than 6 pictures.
    """
    import cv2

    if len(views) < 6:
        raise ConfigError(f"a lens is measured from 6 or more pictures of the board, found {len(views)}")
    points = [view.points.astype(np.float32) for view in views]
    pixels = [view.pixels.astype(np.float32) for view in views]
    guess = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], np.float64)
    flags = cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_FIX_K3 | cv2.CALIB_ZERO_TANGENT_DIST
    error, matrix, distortion, *_ = cv2.calibrateCamera(
        points, pixels, (width, height), guess, np.zeros(5), flags=flags
    )
    return Lens(np.asarray(matrix, np.float64), np.asarray(distortion, np.float64).ravel()[:5]), float(error)
