"""What ``vla robot calibrate`` has written, read back for the camera that it was measured of."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from vla.embodiment import CameraSpec
from vla.errors import ConfigError, DataError
from vla.frames import CameraCalibration


def calibrated(camera: CameraSpec, file: Path) -> CameraSpec:
    """The camera with the calibration in a file.

    Raises:
        DataError: the file cannot be read, is no calibration, or is one of a camera with another name or another size
            of its pictures.
    """
    try:
        value = json.loads(file.read_text())
        name, size = value["camera"], tuple(value["size"])
        found = _calibration(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ConfigError) as error:
        raise DataError(
            file, "calibration", expected="what vla robot calibrate writes with --out", found=repr(error)
        ) from error
    if name != camera.name:
        raise DataError(file, "camera", expected=repr(camera.name), found=repr(name))
    if size != (camera.height, camera.width):
        said = " x ".join(str(number) for number in reversed(size))
        raise DataError(file, "size", expected=f"{camera.width} x {camera.height} pixels", found=f"{said} pixels")
    return dataclasses.replace(camera, calibration=found)


def _calibration(value: dict[str, Any]) -> CameraCalibration:
    matrix, tool = value["lens"]["matrix"], value["tool"]
    return CameraCalibration.from_json(
        {
            "parent": value["camera_in"],
            "pose": {"position": value["position_m"], "rotation": value["rotation_rad"]},
            "focal": (matrix[0][0], matrix[1][1]),
            "centre": (matrix[0][2], matrix[1][2]),
            "distortion": value["lens"]["distortion"],
            "tool": tool,
        }
    )
