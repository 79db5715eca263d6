"""From an operator's command to an action in the body's own spec: pure functions, no device and no clock.

::

    delta pose      Rate * speed / rate, or Shift
    absolute pose   the same, added to where the arm was sent last (at first, or after the clutch was open: where it is)
    joints          a leader's targets, approached no faster than the full speed; a Rate moves joint by joint

An operator who lets go (clutch open, ``stop``) sends nothing: the action is None and the arm holds still.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from vla import rotation
from vla.embodiment import ActionSpec, Channel, EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import Observation
from vla.teleoperation import Command, Joints, Rate, Shift
from vla.transforms import to_absolute
from vla.view_pose import hands, pose

SCALES = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""Shares of the full speed that ``faster`` and ``slower`` step through."""

LEASH_M = 0.1
"""An absolute target stays within this of the measured hand: a blocked arm must not wind up a leap [m]."""

LEASH_RAD = 0.3
"""The same for the hand's rotation, and for a joint that is moved by a rate [rad]."""

WAKE = 0.05
"""A leader arm that was told to stop is followed again once one of its joints has moved so far [rad]."""

Way = Literal["delta_pose", "absolute_pose", "delta_joints", "absolute_joints"]


@dataclass(frozen=True)
class Speeds:
    """Full speed, at scale 1.

    Attributes:
        linear: of the hand [m/s].
        angular: of the hand [rad/s].
        joint: of one joint [rad/s].
        scale: share of them, changed by ``faster`` and ``slower``; shifts and leaders are not scaled, leaders only kept
            from going faster.
    """

    linear: float = 0.25
    angular: float = 0.8
    joint: float = 0.8
    scale: float = 1.0

    def __post_init__(self):
        for name in ("linear", "angular", "joint", "scale"):
            if not (getattr(self, name) > 0 and np.isfinite(getattr(self, name))):
                raise ConfigError(f"teleoperation speed {name} must be above 0, found {getattr(self, name)}")


@dataclass(frozen=True)
class Jog:
    """What is known between two commands.

    Attributes:
        opening: of the gripper, 0 closed ... 1 open, as last sent.
        target: where the arm was sent last, for absolute actions (pose with axis-angle, or joints) and leaders; None
            if that no longer counts.
        speeds: with the scale of now.
        holding: whether the operator let go; the next motion ends it.
        left: where a leader arm's joints were at ``stop``: it always gives targets, so only moving it is a motion.
    """

    opening: float = 1.0
    target: Float64[np.ndarray, "n"] | None = None
    speeds: Speeds = Speeds()
    holding: bool = True
    left: Mapping[str, float] | None = None


def way(spec: EmbodimentSpec) -> Way:
    """How an embodiment can be jogged.

    Raises:
        ConfigError: not at all: it has neither one hand in metres nor joints, or an absolute pose that its state does
            not measure.
    """
    action = spec.action
    places, turned = _of(action, "position", "m"), _of(action, "rotation")
    if len(places) == 3:
        if action.mode == "delta":
            return "delta_pose"
        if len(hands(spec)) == 1 and turned and action.frame == "base":
            return "absolute_pose"
        raise ConfigError(f"{spec.name}: absolute poses can be jogged where the state measures one hand's pose")
    joints = _of(action, "joint")
    if joints and not places:
        if len(_of_state(spec)) != len(joints):
            found = len(_of_state(spec))
            raise ConfigError(f"{spec.name}: {len(joints)} joints are commanded, {found} are measured")
        return "delta_joints" if action.mode == "delta" else "absolute_joints"
    raise ConfigError(
        f"{spec.name}: an operator moves one hand (three positions in metres) or joints, "
        f"not {', '.join(action.names) or 'nothing'}"
    )


def jog(
    spec: EmbodimentSpec, command: Command, observation: Observation, before: Jog
) -> tuple[Float32[np.ndarray, "a"] | None, Jog]:
    """The action that a command stands for, within the channels' bounds; None to hold still.

    Args:
        spec: of the body.
        command: what the device says.
        observation: measured now, in the body's units.
        before: what the last call returned; :class:`Jog` at first.

    Raises:
        ConfigError: the body cannot be moved in that way (see :func:`way`), or joints are missing.
    """
    how, state = way(spec), _buttons(command, before)
    if not command.engaged or "stop" in command.pressed or "estop" in command.pressed:
        leader = command.motion.values if isinstance(command.motion, Joints) and "stop" in command.pressed else None
        return None, replace(state, target=None, holding=True, left=leader)
    if state.holding and (not command.moves or _rests(command, state.left)):
        return None, replace(state, target=None)
    values = np.zeros(spec.action.size)
    if how.endswith("pose"):
        change = _change(command, state.speeds, spec.action.rate)
        target = None
        if how == "absolute_pose":
            change, target = _pose_target(spec, observation, state.target, change)
        _put_pose(spec.action, values, change)
    else:
        here = _measured_joints(spec, observation)
        last = state.target if how == "absolute_joints" else None  # changes count from where the arm is
        target = _joint_target(spec.action, command, state.speeds, here, here if last is None else last)
        values[_of(spec.action, "joint")] = target - here if how == "delta_joints" else target
    _put_grippers(spec.action, values, command, state.opening)
    return _bounded(spec.action.channels, values), replace(state, target=target, holding=False, left=None)


def taken_from(spec: EmbodimentSpec, action: Float32[np.ndarray, "a"] | None, before: Jog) -> Jog:
    """The state when an operator takes over from ``action``, sent last: the gripper stays as it is."""
    grippers = _of(spec.action, "gripper")
    opening = before.opening
    if action is not None and grippers and spec.action.gripper is not None:
        numbers = spec.action.gripper
        share = (float(action[grippers[0]]) - numbers.closed) / (numbers.opened - numbers.closed)
        opening = float(np.clip(share, 0.0, 1.0))
    return replace(before, opening=opening, target=None, holding=True, left=None)


def _rests(command: Command, left: Mapping[str, float] | None) -> bool:
    """Whether a leader arm is still where it was told to stop."""
    if left is None or not isinstance(command.motion, Joints):
        return False
    return all(abs(value - left.get(name, np.inf)) < WAKE for name, value in command.motion.values.items())


def _buttons(command: Command, before: Jog) -> Jog:
    """Gripper and speed scale after the buttons."""
    opening, scale = before.opening, before.speeds.scale
    if command.gripper is not None:
        opening = command.gripper
    elif "gripper" in command.pressed and command.engaged:
        opening = 0.0 if opening > 0.5 else 1.0
    if "faster" in command.pressed:
        scale = min((step for step in SCALES if step > scale + 1e-9), default=scale)
    if "slower" in command.pressed:
        scale = max((step for step in SCALES if step < scale - 1e-9), default=scale)
    return replace(before, opening=opening, speeds=replace(before.speeds, scale=scale))


def _change(command: Command, speeds: Speeds, rate: float) -> Float64[np.ndarray, "6"]:
    """Translation [m] and axis-angle [rad] of one control step."""
    motion = command.motion
    if isinstance(motion, Joints):
        raise ConfigError("the device gives joints, and this arm takes poses of its hand")
    if isinstance(motion, Shift):
        return motion.values.astype(np.float64)
    if motion is None:
        return np.zeros(6)
    return motion.values * speeds.scale * np.repeat([speeds.linear, speeds.angular], 3) / rate


def _pose_target(
    spec: EmbodimentSpec, observation: Observation, target: np.ndarray | None, change: np.ndarray
) -> tuple[Float64[np.ndarray, "6"], Float64[np.ndarray, "6"]]:
    """The next absolute pose, twice: it is both what is sent and what is remembered."""
    measured = pose(spec, hands(spec)[0], observation.state)
    if measured is None:
        raise ConfigError(f"{spec.name}: the measured pose is none: {observation.state}")
    here = np.concatenate([measured[0], rotation.from_matrix(measured[1], "axis_angle")])
    there = to_absolute(here if target is None else target, change, "axis_angle")
    away = there[:3] - here[:3]
    there[:3] = here[:3] + away * min(1.0, LEASH_M / max(float(np.linalg.norm(away)), 1e-9))
    turned = rotation.from_matrix(rotation.to_matrix(there[3:], "axis_angle") @ measured[1].T, "axis_angle")
    angle = float(np.linalg.norm(turned))
    if angle > LEASH_RAD:
        held = rotation.to_matrix(turned * (LEASH_RAD / angle), "axis_angle") @ measured[1]
        there[3:] = rotation.from_matrix(held, "axis_angle")
    return there, there


def _put_pose(action: ActionSpec, values: np.ndarray, change: np.ndarray) -> None:
    values[_of(action, "position", "m")] = change[:3]
    turned = _of(action, "rotation")
    if turned:
        form = action.rotation or "axis_angle"
        values[turned] = rotation.convert(change[3:], "axis_angle", form)


def _joint_target(
    action: ActionSpec,
    command: Command,
    speeds: Speeds,
    here: Float64[np.ndarray, "j"],
    last: Float64[np.ndarray, "j"],
) -> Float64[np.ndarray, "j"]:
    """Where the joints should be after one control step."""
    channels = [action.channels[place] for place in _of(action, "joint")]
    most = np.array([min(speeds.joint * speeds.scale, channel.max_rate) for channel in channels]) / action.rate
    motion = command.motion
    if isinstance(motion, Shift):
        raise ConfigError("the device tracks a hand, and this arm takes joints")
    if isinstance(motion, Joints):
        missing = [channel.name for channel in channels if channel.name not in motion.values]
        if missing:
            raise ConfigError(f"the device gives no target for {', '.join(missing)}")
        wanted = np.array([motion.values[channel.name] for channel in channels])
        target = last + np.clip(wanted - last, -most, most)
    elif isinstance(motion, Rate):
        shares = np.zeros(len(channels))
        shares[:6] = motion.values[: len(channels)]
        step = shares * most
        step[(np.abs(last + step - here) > LEASH_RAD) & (step * (last - here) > 0)] = 0.0
        target = last + step
    else:
        target = last.copy()
    if action.mode == "absolute":
        target = np.clip(target, [channel.low for channel in channels], [channel.high for channel in channels])
    return target


def _measured_joints(spec: EmbodimentSpec, observation: Observation) -> Float64[np.ndarray, "j"]:
    places = _of_state(spec)
    return observation.state[places].astype(np.float64) * [spec.state[place].scale for place in places]


def _put_grippers(action: ActionSpec, values: np.ndarray, command: Command, opening: float) -> None:
    """All grippers do what the operator's one does, unless a leader names each."""
    named = command.motion.values if isinstance(command.motion, Joints) else {}
    if action.gripper is not None:
        numbers = action.gripper
        for place in _of(action, "gripper"):
            channel = action.channels[place]
            share = float(np.clip(named.get(channel.name, opening), 0.0, 1.0))
            values[place] = (numbers.closed + share * (numbers.opened - numbers.closed)) * channel.scale


def _bounded(channels: Sequence[Channel], values: np.ndarray) -> Float32[np.ndarray, "a"]:
    """Physical values within the channels' bounds, in the numbers that the body takes."""
    inside = np.clip(values, [channel.low for channel in channels], [channel.high for channel in channels])
    return (inside / [channel.scale for channel in channels]).astype(np.float32)


def _of(action: ActionSpec, kind: str, unit: str | None = None) -> list[int]:
    return [
        place
        for place, channel in enumerate(action.channels)
        if channel.kind == kind and (unit is None or channel.unit == unit)
    ]


def _of_state(spec: EmbodimentSpec) -> list[int]:
    return [place for place, channel in enumerate(spec.state) if channel.kind == "joint" and channel.unit == "rad"]
