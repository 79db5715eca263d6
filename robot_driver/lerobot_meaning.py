"""What lerobot's numbers mean: each as one channel of an embodiment, in metres or radians, the gripper 0 to 1.

lerobot describes a robot by names alone (``"elbow_flex.pos": float``). For the SO-100 and SO-101 the rest is known: it
depends on how the robot was made (degrees, or shares of its calibrated range) and on its calibration. For any other
robot the user says it in a TOML file, and nothing is guessed::

    name = "koch"

    [[state]]
    name = "elbow"
    unit = "rad"
    kind = "joint"
    key = "elbow_flex.pos"      # lerobot's name
    gain = 0.017453292519943295 # ours = gain * lerobot's + offset
    offset = 0.0

    [action]
    mode = "absolute"
    frame = "joint"
    rate = 30.0                 # with a gripper also: gripper = { closed = 0.0, opened = 1.0 }

    [[action.channels]]
    name = "elbow_goal"
    unit = "rad"
    kind = "joint"
    low = -1.5
    high = 1.5
    key = "elbow_flex.pos"
    gain = 0.017453292519943295

    [[cameras]]
    name = "front"
    height = 480
    width = 640
    role = "primary"

    [lerobot]                   # further fields of lerobot's own configuration of the robot
    use_degrees = true
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiment import CameraSpec, EmbodimentSpec, Kind, Unit
from vla.embodiments.so101 import GRIPPER, JOINTS, RATE_HZ, so101
from vla.errors import ConfigError, DataError, SpecMismatch

SO_ARMS = ("so100_follower", "so101_follower", "bi_so_follower")
_TURN = 4095.0
"""Ticks that lerobot takes for 360 degrees."""


@dataclass(frozen=True)
class Number:
    """One of lerobot's numbers: ``ours = gain * theirs + offset``.

    Attributes:
        key: lerobot's name.
        gain: our unit for one of lerobot's.
        offset: in our unit.
        low: least that the robot can be sent, in our unit.
        high: greatest.
    """

    key: str
    gain: float = 1.0
    offset: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self):
        if not (math.isfinite(self.gain) and self.gain != 0 and math.isfinite(self.offset)):
            raise ConfigError(f"{self.key}: gain must be finite and not 0, offset finite, found {self}")


@dataclass(frozen=True)
class Meaning:
    """An embodiment and where each of its numbers is found.

    Attributes:
        spec: the embodiment.
        state: for each state channel.
        action: for each action channel.

    Raises:
        ConfigError: a number is not used once.
    """

    spec: EmbodimentSpec
    state: tuple[Number, ...]
    action: tuple[Number, ...]

    def __post_init__(self):
        for numbers, channels in ((self.state, self.spec.state), (self.action, self.spec.action.channels)):
            keys = [number.key for number in numbers]
            if len(keys) != len(channels) or len(set(keys)) != len(keys):
                raise ConfigError(f"each channel has one number of its own, found {', '.join(keys)}")

    def measured(self, values: Mapping[str, Any]) -> Float32[np.ndarray, "s"]:
        """The state in what lerobot gives."""
        found = [n.gain * float(values[n.key]) + n.offset for n in self.state]
        scales = [channel.scale for channel in self.spec.state]
        return (np.array(found) / scales).astype(np.float32)

    def goals(self, action: Float32[np.ndarray, "a"]) -> dict[str, float]:
        """What lerobot is sent for an action, within what the channels and the robot allow."""
        values = np.clip(action.astype(np.float64) * self._scales(), *self._ends())
        return {n.key: (float(value) - n.offset) / n.gain for n, value in zip(self.action, values, strict=True)}

    def sent(self, goals: Mapping[str, Any]) -> Float32[np.ndarray, "a"]:
        """The action that lerobot says it sent; the inverse of :meth:`goals`."""
        values = [n.gain * float(goals[n.key]) + n.offset for n in self.action]
        return (np.array(values) / self._scales()).astype(np.float32)

    def compare(self, observation: Mapping[str, Any], action: Mapping[str, Any]) -> None:
        """Compare with lerobot's features.

        Raises:
            SpecMismatch: a number or a camera is missing, has another size, or an action's number has no channel.
        """
        wrong = [f"{n.key} is not measured" for n in self.state if observation.get(n.key) is not float]
        wrong += [f"{n.key} cannot be commanded" for n in self.action if action.get(n.key) is not float]
        wrong += [
            f"{key} is commanded, no channel says how" for key in sorted(set(action) - {n.key for n in self.action})
        ]
        for camera in self.spec.cameras:
            shape = observation.get(camera.name)
            if not isinstance(shape, tuple) or tuple(shape) != (camera.height, camera.width, 3):
                wrong.append(f"camera {camera.name}: {camera.height}x{camera.width}x3, the robot has {shape}")
        if wrong:
            raise SpecMismatch(wrong, have="the lerobot robot", want=f"the embodiment {self.spec.name}")

    def _scales(self) -> Float64[np.ndarray, "a"]:
        return np.array([channel.scale for channel in self.spec.action.channels])

    def _ends(self) -> tuple[Float64[np.ndarray, "a"], Float64[np.ndarray, "a"]]:
        pairs = zip(self.action, self.spec.action.channels, strict=True)
        ends = [(max(n.low, channel.low), min(n.high, channel.high)) for n, channel in pairs]
        return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def so_arms(
    arms: Mapping[str, Any], *, cameras: Sequence[CameraSpec] = (), rate: float = RATE_HZ, leader: bool = False
) -> Meaning:
    """An SO-100's or SO-101's numbers, or those of two.

    Args:
        arms: lerobot's, calibrated, by what stands before their numbers' names.
        cameras: those on the robot.
        rate: of commands [Hz].
        leader: its actions are read, not sent.

    Raises:
        ConfigError: a motor is not calibrated.
    """
    numbers = [so_arm(arm.bus.calibration, side, degrees=arm.config.use_degrees) for side, arm in arms.items()]
    state = tuple(number for measured, _ in numbers for number in measured)
    action = state if leader else tuple(number for _, sent in numbers for number in sent)
    return Meaning(so101(cameras, rate=rate, arms=tuple(arms)), state, action)


def so_arm(
    calibration: Mapping[str, Any], side: str = "", *, degrees: bool
) -> tuple[tuple[Number, ...], tuple[Number, ...]]:
    """One SO-100's or SO-101's numbers, measured and sent.

    Args:
        calibration: lerobot's, by motor: ``range_min`` and ``range_max`` [ticks].
        side: before the numbers' names.
        degrees: whether lerobot gives degrees from the middle of the range, or -100 ... 100 over it.

    Raises:
        ConfigError: a motor is not calibrated.
    """
    missing = [side + name for name in (*JOINTS, GRIPPER) if name not in calibration]
    if missing:
        raise ConfigError(f"not calibrated: {', '.join(missing)}")
    ticks = {name: calibration[name].range_max - calibration[name].range_min for name in (*JOINTS, GRIPPER)}
    state = []
    for name in JOINTS:
        half = math.pi * ticks[name] / _TURN  # of the range [rad]
        gain = math.radians(1.0) if degrees else half / 100.0
        state.append(Number(f"{side}{name}.pos", gain, low=-half, high=half))
    state.append(Number(f"{side}{GRIPPER}.pos", 0.01, low=0.0, high=1.0))
    # lerobot cuts goals off to whole ticks: an arm told to stay where it is would creep. Half a tick more rounds them
    shifts = [*(-math.pi / _TURN for _ in JOINTS), -0.5 / ticks[GRIPPER]]
    action = [replace(number, offset=shift) for number, shift in zip(state, shifts, strict=True)]
    return tuple(state), tuple(action)


def read_meaning(path: Path) -> tuple[Meaning | None, dict[str, Any]]:
    """A user's file: its embodiment, None if it has only a table ``lerobot``, and the fields in that table.

    Raises:
        DataError: the file is not TOML, or does not describe an embodiment.
    """
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(path, "file", expected="TOML of an embodiment", found=str(error)) from error
    fields = table.pop("lerobot", {})
    if not table and fields:
        return None, fields
    try:
        action = {"rotation": None, "gripper": None, **table["action"]}
        state, said_state = _split(table["state"])
        action["channels"], said_action = _split(action["channels"])
        for channel in (*state, *action["channels"]):
            _known(channel, "unit", get_args(Unit))
            _known(channel, "kind", get_args(Kind))
        spec = EmbodimentSpec.from_json(
            {"state_rotation": None, "cameras": [], **table, "state": state, "action": action}
        )
        return Meaning(spec, said_state, said_action), fields
    except (KeyError, TypeError, ConfigError) as error:
        raise DataError(path, "embodiment", expected="state, action and cameras", found=f"{error}") from error


def features_text(observation: Mapping[str, Any], action: Mapping[str, Any]) -> str:
    """The features that lerobot declares, for people, one a line."""
    shown = {key: "a number" if what is float else f"a picture {what}" for key, what in observation.items()}
    lines = [f"  measured: {key}, {what}" for key, what in shown.items()]
    return "\n".join([*lines, *(f"  commanded: {key}" for key in action)])


def _known(channel: Mapping[str, Any], name: str, choices: Sequence[str]) -> None:
    if channel.get(name) not in choices:
        raise ConfigError(f"{channel.get('name')}: {name} is one of {', '.join(choices)}, found {channel.get(name)!r}")


def _split(channels: Any) -> tuple[list[dict[str, Any]], tuple[Number, ...]]:
    """The channels by themselves, and where their numbers are found."""
    ours = [{key: value for key, value in item.items() if key not in ("key", "gain", "offset")} for item in channels]
    numbers = [Number(item["key"], item.get("gain", 1.0), item.get("offset", 0.0)) for item in channels]
    return ours, tuple(numbers)
