"""``vla robot calibrate`` and ``vla robot board``: where a camera sits, from pictures of a board."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from tyro.conf import Positional

from vla.calibration_board import Board
from vla.errors import ChecksFailed, ConfigError, DataError


@dataclass(frozen=True)
class RobotBoard:
    """Write a calibration board as a picture to print, at its true size (300 pixels an inch)."""

    out: Positional[Path]
    """PNG file."""
    board: Board = field(default_factory=Board)

    def run(self, console: Console) -> dict[str, Any]:
        """Draw and write it."""
        from PIL import Image

        from vla.files import whole_file

        density = 300 / 0.0254
        picture = np.pad(self.board.picture(density), round(0.01 * density), constant_values=255)
        with whole_file(self.out) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG", dpi=(300, 300))
        width, height = (1000 * side for side in self.board.size)
        console.print(f"{self.out}: {width:.0f} x {height:.0f} mm; print at 100 %, then measure a square")
        return {"board": str(self.out), "width_mm": width, "height_mm": height}


@dataclass(frozen=True)
class RobotCalibrate:
    """Find where a camera sits, from pictures of a ChArUco or AprilTag board at many poses of the arm.

    The camera is on the wrist and the board lies still, or the camera stands beside the arm and the tool holds the
    board. The exit code is 1 if the corners end up further from where they were seen than --max-error.
    """

    path: Positional[str]
    """Folder with pictures and poses.json, or a recording in which the arm pauses at every view."""
    mounting: Literal["wrist", "scene"] = "wrist"
    """Where the camera is: on the wrist, or beside the arm."""
    camera: str = "wrist"
    """The camera's name: of a recording the one to take, of a folder the one that the result is for."""
    board: Board = field(default_factory=Board)
    lens: Path | None = None
    """JSON file with the camera's matrix (3 x 3) and distortion (k1, k2, p1, p2, k3); measured from the same pictures
    if it is not given."""
    most: int = 40
    """Pictures to use of a recording."""
    max_error: float = 1.5
    """Largest reprojection error of a usable calibration [pixels, root mean square]."""
    out: Path | None = None
    """JSON file for the result; a camera setting that ends in :FILE gives it back to the robot."""

    def run(self, console: Console) -> dict[str, Any]:
        """Detect, solve, say how well it fits.

        Raises:
            ChecksFailed: it does not fit.
            ConfigError: the pictures or the poses do not determine the answer.
        """
        from vla.calibration_board import lens_from_views
        from vla.calibration_pairs import POSES, pairs_in_folder, pairs_in_recording, same_size
        from vla.files import write_text
        from vla.hand_eye import calibrate
        from vla.plugins import open_source

        folder = Path(self.path)
        if (folder / POSES).exists():
            pairs, tool = list(pairs_in_folder(folder)), None
        else:
            source = open_source(self.path)
            pairs, tool = list(pairs_in_recording(source, self.camera, most=self.most)), source.spec.tool
        height, width = same_size(pairs)
        found = [(pair, self.board.detect(pair.picture)) for pair in pairs]
        seen = [(pair, corners) for pair, corners in found if corners is not None]
        console.print(f"the board is seen in {len(seen)} of {len(pairs)} pictures")
        views = [corners for _, corners in seen]
        lens_error = None
        if self.lens is None:
            lens, lens_error = lens_from_views(views, height, width)
            console.print(
                f"lens measured from them: {lens.matrix[0, 0]:.1f} px focal length, {lens_error:.2f} px error"
            )
        else:
            lens = read_lens(self.lens)
        result = calibrate([pair.pose for pair, _ in seen], views, lens, self.mounting)
        worst = int(np.argmax(result.errors))
        summary = result.to_json() | {
            "camera": self.camera,
            "size": [height, width],
            "tool": asdict(tool) if tool and self.mounting == "wrist" else None,
            "worst_picture": seen[worst][0].place,
            "pictures_without_board": len(pairs) - len(seen),
            "matrix": result.camera.tolist(),
            "lens": {"matrix": lens.matrix.tolist(), "distortion": lens.distortion.tolist(), "error_px": lens_error},
        }
        where = ", ".join(f"{1000 * value:.1f}" for value in summary["position_m"])
        turned = ", ".join(f"{np.degrees(value):.2f}" for value in summary["rotation_rad"])
        console.print(
            f"camera in the {summary['camera_in']}'s frame: ({where}) mm, turned by ({turned}) degrees\n"
            f"reprojection error {result.error:.2f} px, worst {result.errors[worst]:.2f} px in {seen[worst][0].place}; "
            f"uncertain by {1000 * result.sigma_m:.2f} mm and {np.degrees(result.sigma_rad):.3f} degrees (1 sigma)"
        )
        if self.out is not None:
            write_text(self.out, json.dumps(summary, indent=1))
            console.print(f"written to {self.out}")
        if result.error > self.max_error:
            raise ChecksFailed(
                f"the corners are {result.error:.2f} px off, more than {self.max_error:g}: a wrong board size, "
                f"poses and pictures that do not belong together, or a board that moved",
                summary,
            )
        return summary


def read_lens(file: Path) -> Any:
    """The lens in a JSON file.

    Raises:
        DataError: it is none.
        ConfigError: the matrix is no camera's.
    """
    from vla.calibration_board import Lens

    try:
        value = json.loads(file.read_text())
        value = value.get("lens", value)  # the result of a calibration has one in it
        matrix, distortion = np.array(value["matrix"], np.float64), np.array(value["distortion"], np.float64)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(file, "lens", expected="matrix and distortion", found=repr(error)) from error
    if matrix.shape != (3, 3) or distortion.shape != (5,) or not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise ConfigError(
            f"{file}: a lens has a 3 x 3 matrix with focal lengths above 0 and five numbers of distortion"
        )
    return Lens(matrix, distortion)
