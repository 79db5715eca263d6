"""What a robot senses and accepts, channel by channel: the contract that data, simulators, arms and policies share.

A number is never just the fifth entry of a vector: a :class:`Channel` gives it a name and a unit, an
:class:`ActionSpec` says whether three rotation numbers are an axis-angle or Euler angles, and whether the
gripper closes towards 0 or towards 1. :mod:`vla.transforms` converts between two specs, or refuses.
"""

import dataclasses
import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from vla.errors import ConfigError, UnknownName
from vla.frames import CameraCalibration, Offset

Unit = Literal["m", "rad", "1", "m/s", "rad/s", "N", "Nm"]
Kind = Literal["position", "rotation", "gripper", "joint", "force", "other"]
RotationForm = Literal["axis_angle", "axis_angle_2pi", "euler_xyz", "quat_xyzw", "rot6d"]
"""``axis_angle`` has angles in [0, pi]; ``axis_angle_2pi`` (LIBERO's state) keeps the sign of the quaternion it came
from, so angles reach 2 pi. ``euler_xyz`` is extrinsic (fixed axes) roll, pitch, yaw, as in Bridge.
``rot6d`` is the first two columns of the matrix, one after the other (Zhou et al. 2019)."""
Orientation = Literal["upright", "mirrored", "flipped", "turned_180"]
"""How a stored picture relates to what a person standing at the camera sees: ``mirrored`` left-right, ``flipped``
upside down, ``turned_180`` both."""

Role = Literal["primary", "secondary", "wrist", "other"]

ROTATION_SIZE: dict[str, int] = {"axis_angle": 3, "axis_angle_2pi": 3, "euler_xyz": 3, "quat_xyzw": 4, "rot6d": 6}


@dataclass(frozen=True)
class Channel:
    """One number of a state or an action.

    Attributes:
        name: unique within an embodiment, e.g. ``"dx"``, ``"joint_3"``.
        unit: unit of ``number * scale``.
        kind: what the number means.
        low: smallest valid ``number * scale`` [unit].
        high: largest valid ``number * scale`` [unit].
        scale: what one unit of the stored number stands for [unit]; LIBERO's raw dx has 0.05.
        max_rate: largest change of ``number * scale`` [unit/s].
    """

    name: str
    unit: Unit = "1"
    kind: Kind = "other"
    low: float = -math.inf
    high: float = math.inf
    scale: float = 1.0
    max_rate: float = math.inf

    def __post_init__(self):
        if not self.name:
            raise ConfigError("a channel needs a name")
        if not self.low < self.high:
            raise ConfigError(f"channel {self.name}: low {self.low} is not below high {self.high}")
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ConfigError(f"channel {self.name}: scale must be finite and above 0, found {self.scale}")


@dataclass(frozen=True)
class Gripper:
    """The two numbers that a gripper's action channel uses; this project's own data and bodies use 0 and 1."""

    closed: float = 0.0
    opened: float = 1.0

    def __post_init__(self):
        if self.closed == self.opened:
            raise ConfigError(f"a gripper whose closed and open values are both {self.opened} cannot move")


@dataclass(frozen=True)
class ActionSpec:
    """What an action's numbers mean.

    Attributes:
        channels: in the order of the vector.
        mode: change since the pose the prediction was made from, or target pose.
        frame: axes the translation and the rotation are expressed in.
        rotation: form of the channels of kind ``"rotation"``; None if there are none.
        gripper: meaning of the channels of kind ``"gripper"``; None if there are none.
        rate: control rate [Hz].
    """

    channels: tuple[Channel, ...]
    mode: Literal["delta", "absolute"]
    frame: Literal["base", "tool", "joint"]
    rotation: RotationForm | None
    gripper: Gripper | None
    rate: float

    def __post_init__(self):
        _check_rotation("action", self.channels, self.rotation)
        has_gripper = any(channel.kind == "gripper" for channel in self.channels)
        if has_gripper != (self.gripper is not None):
            raise ConfigError("an action with a gripper channel says what its numbers mean, one without says None")
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise ConfigError(f"action rate must be above 0 Hz, found {self.rate}")

    @property
    def names(self) -> tuple[str, ...]:
        """Channel names in the order of the vector."""
        return tuple(channel.name for channel in self.channels)

    @property
    def size(self) -> int:
        """Length of the action vector."""
        return len(self.channels)


@dataclass(frozen=True)
class CameraSpec:
    """One camera as its pictures are stored: UInt8[height width 3], RGB.

    Attributes:
        name: e.g. ``"agentview"``.
        height: pixels.
        width: pixels.
        orientation: of the stored picture.
        role: what the view shows, so that data sets with different names can share an input.
        calibration: where it sits and what it sees through; None if nobody measured it.
    """

    name: str
    height: int
    width: int
    orientation: Orientation = "upright"
    role: Role = "other"
    calibration: CameraCalibration | None = None

    def __post_init__(self):
        if self.height < 1 or self.width < 1:
            raise ConfigError(f"camera {self.name}: size {self.height}x{self.width} is empty")


@dataclass(frozen=True)
class EmbodimentSpec:
    """A robot as its data describe it.

    Attributes:
        name: e.g. ``"libero_panda"``.
        state: channels of the measured state.
        state_rotation: form of the state channels of kind ``"rotation"``; None if there are none.
        action: see :class:`ActionSpec`.
        cameras: by unique name.
        tool: the tool centre point in the flange's frame, which the poses of state and action are of; None if nobody
            said.
        base: the arm's base frame in the frame that poses are given in; None if nobody said.

    Raises:
        ConfigError: channel or camera names repeat, or rotation channels have no form.
    """

    name: str
    state: tuple[Channel, ...]
    state_rotation: RotationForm | None
    action: ActionSpec
    cameras: tuple[CameraSpec, ...]
    tool: Offset | None = None
    base: Offset | None = None

    def __post_init__(self):
        _check_rotation("state", self.state, self.state_rotation)
        names = Counter(channel.name for channel in (*self.state, *self.action.channels))
        names += Counter(f"camera {camera.name}" for camera in self.cameras)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise ConfigError(f"embodiment {self.name}: names used more than once: {', '.join(twice)}")

    @property
    def state_names(self) -> tuple[str, ...]:
        """State channel names in the order of the vector."""
        return tuple(channel.name for channel in self.state)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Camera names in their declared order."""
        return tuple(camera.name for camera in self.cameras)

    def camera(self, name: str) -> CameraSpec:
        """The camera of that name.

        Raises:
            UnknownName: there is none.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise UnknownName(f"camera of {self.name}", name, self.camera_names)

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :meth:`from_json` reads back to an equal spec; infinite limits become None.

        Offsets that nobody stated and calibrations that nobody made have no key: specs from before there were any keep
        their fingerprint.
        """
        value = _to_json(self)
        value["cameras"] = [_stated(camera, ("calibration",)) for camera in value["cameras"]]
        return _stated(value, ("tool", "base"))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "EmbodimentSpec":
        """The spec that :meth:`to_json` wrote.

        Raises:
            ConfigError: a field is missing, unknown or out of range.
        """
        try:
            action = dict(value["action"])
            action["channels"] = _channels(action["channels"])
            action["gripper"] = Gripper(**action["gripper"]) if action["gripper"] is not None else None
            return cls(
                name=value["name"],
                state=_channels(value["state"]),
                state_rotation=value["state_rotation"],
                action=ActionSpec(**action),
                cameras=tuple(_camera(camera) for camera in value["cameras"]),
                **{key: Offset(**value[key]) for key in ("tool", "base") if value.get(key) is not None},
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"embodiment: {error} does not fit an embodiment's fields") from error

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change whenever a field does; stored with checkpoints, data and results.

        Only calibrations do not count: a camera that was measured anew gives the same numbers the same meaning.
        """
        value = self.to_json()
        value["cameras"] = [{k: v for k, v in camera.items() if k != "calibration"} for camera in value["cameras"]]
        return _digest(value)

    @property
    def identity(self) -> str:
        """16 hex digits that change whenever any field does, calibrations among them."""
        return _digest(self.to_json())


def _check_rotation(what: str, channels: tuple[Channel, ...], form: RotationForm | None) -> None:
    """Rotation numbers come as one run of the length that their form has: three numbers never travel alone."""
    places = [index for index, channel in enumerate(channels) if channel.kind == "rotation"]
    if not places and form is None:
        return
    if not places or form is None:
        raise ConfigError(f"{what}: rotation channels need a rotation form, and a form needs channels")
    size = ROTATION_SIZE.get(form)
    if size is None:
        raise ConfigError(f"{what}: rotation form {form!r} is none of {', '.join(ROTATION_SIZE)}")
    if len(places) % size:
        raise ConfigError(f"{what}: rotation form {form} takes {size} channels, found {len(places)}")
    for start in range(0, len(places), size):
        run = places[start : start + size]
        if run != list(range(run[0], run[0] + size)):
            raise ConfigError(f"{what}: the {size} channels of a rotation must stand side by side, found at {run}")


def _channels(values: list[dict[str, Any]]) -> tuple[Channel, ...]:
    infinite: dict[str, float] = {"low": -math.inf, "high": math.inf, "max_rate": math.inf}

    def restored(value: dict[str, Any]) -> dict[str, Any]:
        return {key: infinite[key] if item is None and key in infinite else item for key, item in value.items()}

    return tuple(Channel(**restored(value)) for value in values)


def _camera(value: dict[str, Any]) -> CameraSpec:
    known = value.get("calibration")
    return (
        CameraSpec(**value)
        if known is None
        else CameraSpec(**{**value, "calibration": CameraCalibration.from_json(known)})
    )


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _stated(value: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Without the fields of these names that are None."""
    return {key: item for key, item in value.items() if key not in names or item is not None}


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no infinity; from_json restores it by field
    return value
