"""Which numbers of an action and of a state the limits speak of, and whether they can be watched at all."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vla.embodiment import ROTATION_SIZE, Channel, EmbodimentSpec
from vla.errors import ConfigError
from vla.safety_limits import SafetyLimits


@dataclass(frozen=True)
class Places:
    """Where things are in the two vectors.

    Attributes:
        here: the tool's position in the state; empty if no limit needs it.
        shift: its three translations in the action; empty if there are none.
        turn: rotations in the action.
        joints: joints in the action.
        joints_here: the same joints in the state.
        bounds: of those joints: smallest and largest positions, largest change of one period [rad].
        scale: what one unit of each number of the action stands for.
        state_scale: the same for the state.
    """

    here: list[int]
    shift: list[int]
    turn: list[int]
    joints: list[int]
    joints_here: list[int]
    bounds: Float64[np.ndarray, "3 j"]
    scale: Float64[np.ndarray, "a"]
    state_scale: Float64[np.ndarray, "s"]

    @staticmethod
    def of(spec: EmbodimentSpec, limits: SafetyLimits) -> "Places":
        """Of an embodiment under limits.

        Raises:
            ConfigError: a limit cannot be watched with these channels.
        """
        action = spec.action
        bounded = limits.box or math.isfinite(min(limits.max_translation, limits.max_change))
        absolute = action.mode == "absolute"
        turn = [place for place, channel in enumerate(action.channels) if channel.kind == "rotation"]
        if bounded and action.frame != "base" and (limits.box or absolute):
            raise ConfigError(f"a workspace box needs actions in the base frame, found {action.frame!r}")
        if math.isfinite(limits.max_rotation):
            if absolute:
                raise ConfigError("max_rotation limits changes of rotation; these actions are absolute")
            if turn and len(turn) != ROTATION_SIZE[action.rotation or "axis_angle"]:
                raise ConfigError(f"max_rotation limits one rotation, the action has {len(turn)} rotation channels")
        joints, joints_here, bounds = _joints(spec)
        return Places(
            here=_positions("state", spec.state, limits.box or (absolute and bounded)),
            shift=_positions("action", action.channels, bounded),
            turn=turn,
            joints=joints,
            joints_here=joints_here,
            bounds=bounds,
            scale=np.array([channel.scale for channel in action.channels]),
            state_scale=np.array([channel.scale for channel in spec.state]),
        )


def _positions(what: str, channels: tuple[Channel, ...], wanted: bool) -> list[int]:
    places = [index for index, channel in enumerate(channels) if channel.kind == "position" and channel.unit == "m"]
    if len(places) == 3:
        return places
    if wanted:
        raise ConfigError(f"translation limits need three position channels in the {what}, found {len(places)}")
    return []


def _joints(spec: EmbodimentSpec) -> tuple[list[int], list[int], Float64[np.ndarray, "3 j"]]:
    """Places of the joints in the action and of the same ones, in the same order, in the state; their bounds.

    A body that does not measure each joint that it is told to move cannot be watched; its own controller has to.
    """
    action = [place for place, channel in enumerate(spec.action.channels) if channel.kind == "joint"]
    state = [place for place, channel in enumerate(spec.state) if channel.kind == "joint"]
    if len(action) != len(state):
        return [], [], np.zeros((3, 0))
    absolute, bounds = spec.action.mode == "absolute", []
    for told, measured in zip((spec.action.channels[i] for i in action), (spec.state[i] for i in state), strict=True):
        ranged = told if absolute else measured  # the range of a change says nothing of where it ends
        most = told.max_rate / spec.action.rate
        bounds.append((ranged.low, ranged.high, most if absolute else min(most, told.high)))
    return action, state, np.array(bounds, np.float64).reshape(-1, 3).T
