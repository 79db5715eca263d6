"""What the numbers and pictures of a data set mean: a TOML file, the same for RLDS, LeRobot and HDF5.

::

    names = ["bridge_dataset"]              # as the data set calls itself
    robot = "widowx"                        # name of the embodiment
    rate = 5.0                              # control rate [Hz]
    instruction = "language_instruction"    # field of the text
    source = "features.json of release 1.0.0; Walke et al. 2023"
    note = "what the sources do not say, and what is assumed instead"
    fixes = ["drop_first_step"]             # names in vla.datasets.oxe.fixes

    [state]
    rotation = "euler_xyz"
    columns = [{ field = "observation/state", channels = "x y z roll_x pitch_y yaw_z gripper_state" }]

    [action]
    mode = "delta"
    frame = "base"
    rotation = "euler_xyz"
    gripper = { closed = 0.0, open = 1.0 }
    columns = [{ field = "action", channels = "dx dy dz droll_x dpitch_y dyaw_z gripper" }]

    [[cameras]]
    name = "image_0"
    field = "observation/image_0"
    role = "primary"

A column takes numbers of one field, ``take = [first, end]`` if not all. Channel names that :data:`STANDARD` knows
have their unit and kind from there; others are written ``name:unit:kind``; ``_`` leaves a number out.
"""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32

from vla.datasets.oxe.fixes import FIXES
from vla.embodiment import (
    ActionSpec,
    CameraSpec,
    Channel,
    EmbodimentSpec,
    Gripper,
    Kind,
    Orientation,
    Role,
    RotationForm,
    Unit,
)
from vla.errors import ConfigError, DataError
from vla.transforms import action_map

STANDARD: tuple[tuple[str, Unit, Kind], ...] = (
    (r"d?[xyz](_\w+)?", "m", "position"),
    (r"d?(roll_x|pitch_y|yaw_z)(_\w+)?", "rad", "rotation"),
    (r"d?(rx|ry|rz)(_\w+)?", "rad", "rotation"),
    (r"d?q[xyzw](_\w+)?", "1", "rotation"),
    (r"d?rot6d_[0-5](_\w+)?", "1", "rotation"),
    (r"gripper(_\w+)?", "1", "gripper"),
    (r"finger(_\w+)?", "m", "gripper"),
    (r"d?joint(_\w+)?", "rad", "joint"),
    (r"vjoint(_\w+)?", "rad/s", "joint"),
    (r"force_\w+", "N", "force"),
    (r"torque_\w+", "Nm", "force"),
    (r"base_d[xy]", "m", "other"),
    (r"base_dyaw", "rad", "other"),
)
"""Patterns of channel names with their unit and kind; the first that fits the whole name counts."""

LEFT_OUT = "_"


@dataclass(frozen=True)
class Camera:
    """One camera and the field that holds its pictures.

    Attributes:
        name: what it is called here.
        field: of the data set.
        role: what the view shows.
        orientation: of the stored pictures.
        bgr: the stored pictures have red and blue swapped.
        bgr_mended: height and width [pixels] of copies in circulation whose pictures were resized and put right.
    """

    name: str
    field: str
    role: Role = "other"
    orientation: Orientation = "upright"
    bgr: bool = False
    bgr_mended: tuple[int, int] | None = None

    def swapped(self, height: int, width: int) -> bool:
        """Whether pictures stored at this size [pixels] have red and blue swapped."""
        return self.bgr and (height, width) != self.bgr_mended


@dataclass(frozen=True)
class Column:
    """Numbers of one field that become channels side by side.

    Attributes:
        field: of the data set.
        channels: in the field's order; None for a number that is left out.
        start: the first number taken.
    """

    field: str
    channels: tuple[Channel | None, ...]
    start: int = 0

    @property
    def stop(self) -> int:
        """One past the last number taken."""
        return self.start + len(self.channels)


@dataclass(frozen=True)
class Description:
    """A data set as this project reads it.

    Attributes:
        names: what it is called in its own files.
        robot: name of the embodiment.
        rate: control rate [Hz].
        instruction: field of the text; empty if there is none.
        source: where these facts are taken from.
        state: columns, side by side.
        state_rotation: form of its rotation channels.
        action: columns, side by side.
        mode: of the actions.
        frame: of the actions.
        action_rotation: form of their rotation channels.
        gripper: what the stored numbers of their gripper channels mean.
        cameras: in the order in which they are read.
        fixes: names of what is mended, in this order.
        note: what the sources do not say, and what is assumed instead.
    """

    names: tuple[str, ...]
    robot: str
    rate: float
    instruction: str
    source: str
    state: tuple[Column, ...]
    state_rotation: RotationForm | None
    action: tuple[Column, ...]
    mode: Literal["delta", "absolute"]
    frame: Literal["base", "tool", "joint"]
    action_rotation: RotationForm | None
    gripper: Gripper | None
    cameras: tuple[Camera, ...]
    fixes: tuple[str, ...] = ()
    note: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """Numeric fields that are read, each once."""
        return tuple(dict.fromkeys(column.field for column in (*self.state, *self.action)))

    def dropped(self, *, fixes: bool) -> tuple[int, int]:
        """Steps left out at the start and at the end of each episode."""
        used = [FIXES[name] for name in self.fixes] if fixes else []
        return sum(fix.drop_first for fix in used), sum(fix.drop_last for fix in used)

    def embodiment(self, sizes: Mapping[str, tuple[int, int]], *, fixes: bool) -> EmbodimentSpec:
        """The robot with the cameras that ``sizes`` names.

        Args:
            sizes: camera name to height and width [pixels].
            fixes: canonical actions (gripper 0 closed, 1 open; scales multiplied in); else as stored.
        """
        cameras = tuple(
            CameraSpec(camera.name, *sizes[camera.name], camera.orientation, camera.role)
            for camera in self.cameras
            if camera.name in sizes
        )
        action = self._canonical if fixes else self._stored
        return EmbodimentSpec(self.robot, _channels(self.state), self.state_rotation, action, cameras)

    def check(self, widths: Mapping[str, int], file: str | Path) -> None:
        """Compare the columns with what the data set has.

        Args:
            widths: numbers a step of each numeric field.
            file: named in errors.

        Raises:
            DataError: a field is not there or is too narrow.
        """
        for column in (*self.state, *self.action):
            if column.field not in widths:
                known = ", ".join(sorted(widths)) or "none"
                raise DataError(file, column.field, expected="a field of numbers", found=f"only {known}")
            if widths[column.field] < column.stop:
                expected = f"at least {column.stop} numbers a step for {' '.join(_names(column))}"
                raise DataError(file, column.field, expected=expected, found=str(widths[column.field]))

    def columns(
        self, numbers: Mapping[str, Float32[np.ndarray, "t n"]], *, fixes: bool
    ) -> tuple[Float32[np.ndarray, "t s"], Float32[np.ndarray, "t a"]]:
        """State and action of one whole episode; steps to be dropped are still in it.

        Args:
            numbers: field to its numbers.
            fixes: mended and canonical; else as stored.
        """
        steps = len(numbers[self.action[0].field])
        state, action = _gather(self.state, numbers, steps), _gather(self.action, numbers, steps)
        if fixes:
            spec = self.embodiment({}, fixes=False)
            for name in self.fixes:
                state, action = FIXES[name].mend(spec, state, action)
            if self._stored != self._canonical:
                action = action_map(self._stored, self._canonical)(action)
        return state, action

    def checked(self) -> "Description":
        """Itself, if its parts fit together.

        Raises:
            ConfigError: names repeat, rotation channels have no form, a gripper has no meaning, or a fix does not
                suit these channels.
        """
        for fixes in (False, True):
            self.embodiment({}, fixes=fixes)
        stored = self.embodiment({}, fixes=False)
        state, action = np.zeros((2, len(stored.state)), np.float32), np.zeros((2, stored.action.size), np.float32)
        for name in self.fixes:
            FIXES[name].mend(stored, state, action)
        names = [camera.name for camera in self.cameras]
        if not self.action or len(set(names)) != len(names):
            raise ConfigError("a data set has action columns, and each camera a name of its own")
        return self

    @property
    def _stored(self) -> ActionSpec:
        channels = _channels(self.action)
        return ActionSpec(channels, self.mode, self.frame, self.action_rotation, self.gripper, self.rate)

    @property
    def _canonical(self) -> ActionSpec:
        stored = self._stored
        channels = tuple(
            Channel(channel.name, "1", "gripper", 0.0, 1.0)
            if channel.kind == "gripper"
            else dataclasses.replace(channel, scale=1.0)
            for channel in stored.channels
        )
        return dataclasses.replace(stored, channels=channels, gripper=Gripper() if self.gripper else None)


def read_description(path: Path) -> Description:
    """The description in a TOML file.

    Raises:
        DataError: the file is not TOML, or a field of it is missing, unknown or out of range.
    """
    try:
        value = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(path, "file", expected="TOML", found=str(error)) from error
    reader = _Reader(path)
    known = {"names", "robot", "rate", "instruction", "source", "note", "fixes", "state", "action", "cameras"}
    reader.only(value, known, "file")
    state = reader.table(value, "state") if "state" in value else {"columns": []}
    action = reader.table(value, "action")
    reader.only(state, {"rotation", "columns"}, "state")
    reader.only(action, {"mode", "frame", "rotation", "gripper", "columns"}, "action")
    fixes = tuple(value.get("fixes", ()))
    for name in fixes:
        reader.choice(name, FIXES, "fixes")
    try:
        return Description(
            names=tuple(value.get("names", ())),
            robot=reader.get(value, "robot", str),
            rate=float(reader.get(value, "rate", (int, float))),
            instruction=value.get("instruction", ""),
            source=value.get("source", ""),
            state=reader.columns(state, "state"),
            state_rotation=reader.choice(state.get("rotation"), (None, *get_args(RotationForm)), "state: rotation"),
            action=reader.columns(action, "action"),
            mode=reader.choice(action.get("mode"), ("delta", "absolute"), "action: mode"),
            frame=reader.choice(action.get("frame"), ("base", "tool", "joint"), "action: frame"),
            action_rotation=reader.choice(action.get("rotation"), (None, *get_args(RotationForm)), "action: rotation"),
            gripper=reader.gripper(action.get("gripper")),
            cameras=tuple(reader.camera(camera) for camera in value.get("cameras", ())),
            fixes=fixes,
            note=value.get("note", ""),
        ).checked()
    except (ConfigError, TypeError, AttributeError) as error:
        raise DataError(path, "description", expected="a consistent description", found=str(error)) from error


@dataclass(frozen=True)
class _Reader:
    """Values of one file, compared with what may stand there."""

    path: Path

    def refuse(self, field: str, expected: str, found: Any) -> DataError:
        return DataError(self.path, field, expected=expected, found=repr(found))

    def only(self, value: Mapping[str, Any], known: set[str], field: str) -> None:
        unknown = sorted(set(value) - known)
        if unknown:
            raise self.refuse(field, f"only {', '.join(sorted(known))}", ", ".join(unknown))

    def get(self, value: Mapping[str, Any], field: str, kind: type | tuple[type, ...]) -> Any:
        if not isinstance(value.get(field), kind):
            raise self.refuse(field, str(kind), value.get(field))
        return value[field]

    def table(self, value: Mapping[str, Any], field: str) -> dict[str, Any]:
        return self.get(value, field, dict)

    def choice(self, value: Any, known: Any, field: str) -> Any:
        if value not in known:
            raise self.refuse(field, f"one of {', '.join(map(str, known))}", value)
        return value

    def gripper(self, value: Any) -> Gripper | None:
        if value is None:
            return None
        if not isinstance(value, dict) or set(value) != {"closed", "open"}:
            raise self.refuse("action: gripper", "{ closed = ..., open = ... }", value)
        return Gripper(closed=float(value["closed"]), opened=float(value["open"]))

    def camera(self, value: Mapping[str, Any]) -> Camera:
        self.only(value, {"name", "field", "role", "orientation", "bgr", "bgr_mended"}, "cameras")
        name, field = self.get(value, "name", str), self.get(value, "field", str)
        role = self.choice(value.get("role", "other"), get_args(Role), f"camera {name}: role")
        turn = self.choice(value.get("orientation", "upright"), get_args(Orientation), f"camera {name}: orientation")
        mended = value.get("bgr_mended")
        if mended is not None and [type(item) for item in mended] != [int, int]:
            raise self.refuse(f"camera {name}: bgr_mended", "height and width", mended)
        return Camera(name, field, role, turn, bool(value.get("bgr", False)), mended and (mended[0], mended[1]))

    def columns(self, value: Mapping[str, Any], part: str) -> tuple[Column, ...]:
        return tuple(self.column(column, part) for column in self.get(value, "columns", list))

    def column(self, value: Mapping[str, Any], part: str) -> Column:
        self.only(value, {"field", "channels", "take", "scale", "low", "high"}, f"{part}: columns")
        field, names = self.get(value, "field", str), self.get(value, "channels", str).split()
        limits = {key: float(value[key]) for key in ("scale", "low", "high") if key in value}
        channels = tuple(None if name == LEFT_OUT else self.channel(name, limits, f"{part}: {field}") for name in names)
        first, end = value.get("take", (0, len(names)))
        if end - first != len(names) or first < 0:
            raise self.refuse(f"{part}: {field}: take", f"a range of {len(names)} numbers", [first, end])
        return Column(field, channels, first)

    def channel(self, text: str, limits: dict[str, float], field: str) -> Channel:
        name, *rest = text.split(":")
        if len(rest) == 2:
            unit = self.choice(rest[0], get_args(Unit), f"{field}: {name}: unit")
            return Channel(name, unit, self.choice(rest[1], get_args(Kind), f"{field}: {name}: kind"), **limits)
        for pattern, unit, kind in STANDARD:
            if not rest and re.fullmatch(pattern, name):
                return Channel(name, unit, kind, **limits)
        raise self.refuse(f"{field}: {text}", "a standard name or name:unit:kind", text)


def _gather(
    columns: tuple[Column, ...], numbers: Mapping[str, Float32[np.ndarray, "t n"]], steps: int
) -> Float32[np.ndarray, "t c"]:
    parts = []
    for column in columns:
        kept = [column.start + place for place, channel in enumerate(column.channels) if channel is not None]
        parts.append(np.asarray(numbers[column.field][:, kept], dtype=np.float32))
    return np.concatenate(parts, axis=1) if parts else np.zeros((steps, 0), np.float32)


def _channels(columns: tuple[Column, ...]) -> tuple[Channel, ...]:
    return tuple(channel for column in columns for channel in column.channels if channel is not None)


def _names(column: Column) -> list[str]:
    return [LEFT_OUT if channel is None else channel.name for channel in column.channels]
