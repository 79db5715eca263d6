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
    role = "primary"                        # or secondary, wrist, other
    orientation = "upright"                 # or mirrored, flipped, turned_180
    bgr = false                             # true where red and blue are stored swapped

A column takes numbers of one field, ``take = [first, end]`` if not all; a field may be taken from more than once, so
columns also bring numbers into another order. ``scale`` is what one unit of the stored numbers stands for, ``low`` and
``high`` are limits after scaling. Channel names that :data:`STANDARD` knows have their unit and kind from there; others
are written ``name:unit:kind``; ``_`` leaves a number out.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32

from vla.datasets.description_parts import LEFT_OUT, STANDARD, Camera, Column
from vla.datasets.description_toml import Table
from vla.datasets.oxe.fixes import FIXES
from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper, RotationForm
from vla.errors import ConfigError, DataError
from vla.transforms import action_map

__all__ = ["STANDARD", "Camera", "Column", "Description", "parse_description", "read_description"]


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

    @property
    def chooses(self) -> tuple[str, ...]:
        """Names of the fixes that leave out steps by their numbers, or whole episodes: only RLDS is read with those."""
        return tuple(name for name in self.fixes if FIXES[name].keep is not None or FIXES[name].holds)

    @property
    def holds(self) -> tuple[str, ...]:
        """Fields of an episode, true or false, that must all be true."""
        return tuple(FIXES[name].holds for name in self.fixes if FIXES[name].holds)

    @property
    def thins(self) -> bool:
        """Whether steps are left out by their numbers."""
        return any(FIXES[name].keep is not None for name in self.fixes)

    def kept(self, numbers: Mapping[str, Float32[np.ndarray, "t n"]]) -> Bool[np.ndarray, "t"]:
        """Which steps of an episode the fixes leave, by the numbers as they are stored."""
        action = _gather(self.action, numbers, len(numbers[self.action[0].field]))
        spec, result = self.embodiment({}, fixes=False), np.ones(len(action), bool)
        for name in self.fixes:
            keep = FIXES[name].keep
            if keep is not None:
                result &= keep(spec, action)
        return result

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
            if (keep := FIXES[name].keep) is not None:
                keep(stored, action)
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


def read_description(path: Path, *, choosing: bool = True) -> Description:
    """The description in a TOML file.

    Args:
        path: of the file.
        choosing: whether its fixes may leave out steps by their numbers, or whole episodes.

    Raises:
        DataError: the file is not TOML, or not a description, or has fixes that may not be.
    """
    try:
        value = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, "file", expected="TOML", found=str(error)) from error
    description = parse_description(value, path)
    if description.chooses and not choosing:
        expected = "fixes that keep every episode and its steps: those that choose are for RLDS"
        raise DataError(path, "fixes", expected=expected, found=", ".join(description.chooses))
    return description


def parse_description(value: Any, path: Path) -> Description:
    """The description that a TOML file's value is.

    Args:
        value: as ``tomllib`` gives it.
        path: named in errors.

    Raises:
        DataError: a field is missing, unknown or out of range.
    """
    known = {"names", "robot", "rate", "instruction", "source", "note", "fixes", "state", "action", "cameras"}
    table = Table(path, "", value, known)
    state = table.inner("state", {"rotation", "columns"})
    action = table.inner("action", {"mode", "frame", "rotation", "gripper", "columns"})
    try:
        return Description(
            names=table.texts("names"),
            robot=table.text("robot"),
            rate=table.number("rate"),
            instruction=table.text("instruction", ""),
            source=table.text("source", ""),
            state=state.columns() if state.value else (),
            state_rotation=state.rotation(),
            action=action.columns(),
            mode=action.choice("mode", ("delta", "absolute")),
            frame=action.choice("frame", ("base", "tool", "joint")),
            action_rotation=action.rotation(),
            gripper=action.gripper(),
            cameras=table.cameras(),
            fixes=table.texts("fixes", FIXES),
            note=table.text("note", ""),
        ).checked()
    except ConfigError as error:
        raise DataError(path, "description", expected="a consistent description", found=str(error)) from error


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
