"""Pictures of a calibration board with the arm's pose at each: from a folder, or from a recording.

A folder holds pictures and ``poses.json``::

    {"poses": [{"picture": "000.png", "position": [0.4, 0.0, 0.3], "rotation": [3.14, 0.0, 0.0]}, ...]}

with the tool's pose in the arm's base frame, position in m and rotation as axis-angle in rad. Of a recording (an
operator drove the arm around the board and paused), one picture is taken from the middle of each pause: a picture and a
pose that were measured at slightly different times fit together only while nothing moves.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from PIL import Image as PilImage

from vla import rotation
from vla.embodiment import CameraSpec, EmbodimentSpec
from vla.errors import ConfigError, DataError
from vla.experience import Image
from vla.protocols import EpisodeSource
from vla.transforms import reorient

POSES = "poses.json"
PAUSE_STEPS = 3
"""An arm pauses if it stands still for so many steps."""
STILL_M, STILL_RAD = 0.0005, 0.002
"""Per step: less is standing still."""


@dataclass(frozen=True)
class Pair:
    """A picture and where the arm was.

    Attributes:
        place: for people, e.g. the file's name.
        pose: of the tool in the arm's base frame.
        picture: upright.
    """

    place: str
    pose: Float64[np.ndarray, "4 4"]
    picture: Image


def pairs_in_folder(folder: Path) -> Iterator[Pair]:
    """The pairs of a folder.

    Raises:
        DataError: ``poses.json`` or a picture is missing or damaged.
    """
    file = folder / POSES
    try:
        entries = json.loads(file.read_text())["poses"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(file, "poses", expected="a list of pictures with poses", found=str(error)) from error
    if not isinstance(entries, list):
        raise DataError(file, "poses", expected="a list", found=type(entries).__name__)
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(file, f"pose {number}", expected="picture, position and rotation", found=repr(entry))
        yield Pair(str(entry.get("picture")), _pose(file, number, entry), _picture(file, number, entry))


def pairs_in_recording(source: EpisodeSource, camera: str, *, most: int = 40) -> Iterator[Pair]:
    """One pair for each pause of the arm, at most so many, spread evenly.

    Args:
        source: of episodes with the tool's pose in their state.
        camera: whose pictures.
        most: pictures that are decoded.

    Raises:
        ConfigError: the state has no pose, or the arm never pauses.
        UnknownName: there is no such camera.
    """
    spec = source.spec
    stored = spec.camera(camera)
    upright = CameraSpec(camera, stored.height, stored.width, "upright", stored.role)
    places: list[tuple[int, int]] = []
    for number in range(len(source)):
        poses = _poses(spec, source[number].state)
        places += [(number, step) for step in _pauses(poses)]
    if not places:
        raise ConfigError(
            f"the arm never stands still for {PAUSE_STEPS} steps in these {len(source)} episodes: pause at every view"
        )
    chosen = np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int))
    for number, step in (places[place] for place in chosen):
        episode = source[number]
        picture = reorient(episode.images[camera][step], stored, upright)
        yield Pair(f"episode {number} step {step}", _poses(spec, episode.state[step : step + 1])[0], picture)


def _poses(spec: EmbodimentSpec, state: np.ndarray) -> Float64[np.ndarray, "t 4 4"]:
    positions = [place for place, channel in enumerate(spec.state) if channel.kind == "position"]
    turns = [place for place, channel in enumerate(spec.state) if channel.kind == "rotation"]
    form = spec.state_rotation
    if len(positions) != 3 or form is None or len(turns) != len(rotation.from_matrix(np.eye(3), _plain(form))):
        raise ConfigError(f"the state of {spec.name} has not the pose of one tool: {', '.join(spec.state_names)}")
    scale = np.array([channel.scale for channel in spec.state])
    values = state.astype(np.float64) * scale
    poses = np.tile(np.eye(4), (len(values), 1, 1))
    poses[:, :3, :3] = rotation.to_matrix(values[:, turns], form)
    poses[:, :3, 3] = values[:, positions]
    return poses


def _plain(form: Any) -> Any:
    return "axis_angle" if form == "axis_angle_2pi" else form


def _pauses(poses: Float64[np.ndarray, "t 4 4"]) -> list[int]:
    """The middle of each stretch in which the arm stands still."""
    if len(poses) < 2:
        return []
    shift = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    turns = poses[1:, :3, :3] @ np.swapaxes(poses[:-1, :3, :3], 1, 2)
    angle = np.linalg.norm(rotation.from_matrix(turns, "axis_angle"), axis=1)
    still = (shift < STILL_M) & (angle < STILL_RAD)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]]).astype(int)))
    return [int(a + b) // 2 for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= PAUSE_STEPS]


def _pose(file: Path, number: int, entry: Any) -> Float64[np.ndarray, "4 4"]:
    pose = np.eye(4)
    try:
        numbers = {name: np.array(entry[name], np.float64) for name in ("position", "rotation")}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(file, f"pose {number}", expected="position and rotation", found=repr(error)) from error
    for name, values in numbers.items():
        if values.shape != (3,) or not np.isfinite(values).all():
            raise DataError(file, f"pose {number}", expected=f"{name} of three finite numbers", found=str(values))
    pose[:3, :3], pose[:3, 3] = rotation.to_matrix(numbers["rotation"], "axis_angle"), numbers["position"]
    return pose


def _picture(file: Path, number: int, entry: Any) -> Image:
    name = entry.get("picture")
    if not isinstance(name, str) or Path(name).name != name:
        raise DataError(file, f"pose {number}", expected="picture: a file's name in this folder", found=repr(name))
    try:
        with PilImage.open(file.parent / name) as opened:
            return np.asarray(opened.convert("RGB"))
    except (OSError, PilImage.DecompressionBombError) as error:
        raise DataError(file.parent / name, "picture", expected="a picture", found=str(error)) from error


def same_size(pairs: Sequence[Pair]) -> tuple[int, int]:
    """Height and width of all pictures.

    Raises:
        ConfigError: there are none, or they differ.
    """
    sizes = {pair.picture.shape[:2] for pair in pairs}
    if len(sizes) != 1:
        raise ConfigError(f"pictures of one camera have one size, found {sorted(sizes) or 'no pictures'}")
    height, width = sizes.pop()
    return int(height), int(width)
