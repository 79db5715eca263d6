"""What is known to be wrong in Open X-Embodiment data sets, and how it is mended: small functions by name.

A fix gets the stored embodiment and the state and action of a whole episode, and gives arrays of the same shape; steps
that it makes useless are left out later (``drop_first``, ``drop_last``), so that lengths are known without reading.
Numbers stay as the stored embodiment means them: a mended gripper still has the data set's own closed and open values.
Some fixes choose instead: steps by their actions (``keep``), or episodes by what the data set says of them (``holds``).

An inverted gripper is no fix: :class:`~vla.embodiment.Gripper` says which value is open. The rules are those that Octo
(``octo/data``) and OpenVLA (``prismatic/vla/datasets/rlds``) load these data sets with.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from vla.embodiment import Channel, EmbodimentSpec, Gripper
from vla.errors import ConfigError

State = Float32[np.ndarray, "t s"]
Action = Float32[np.ndarray, "t a"]

OPEN_ABOVE, CLOSED_BELOW = 0.95, 0.05
"""How far open a gripper's command is, 0 to 1, to count as a decision for :func:`binarize_gripper`."""

NO_CHANGE = 0.1
"""Relative gripper commands within this much of the middle say nothing."""

DROID_Q01 = (
    -0.7776297926902771,
    -0.5803514122962952,
    -0.5795090794563293,
    -0.6464047729969025,
    -0.7041108310222626,
    -0.8895104378461838,
)
DROID_Q99 = (
    0.7597932070493698,
    0.5726242214441299,
    0.7351000607013702,
    0.6705610305070877,
    0.6464948207139969,
    0.8897542208433151,
)
"""1 % and 99 % quantiles of DROID's cartesian velocities [1 = 0.075 m or 0.15 rad a step], as OpenVLA has them."""

STILL = 1e-5
"""How far from none a motion may be that counts as none, where the quantiles are -1 and 1."""


def unchanged(spec: EmbodimentSpec, state: State, action: Action) -> tuple[State, Action]:
    """For fixes that only leave out steps."""
    return state, action


def relabel_from_states(spec: EmbodimentSpec, state: State, action: Action) -> tuple[State, Action]:
    """Motion becomes what was reached, not what was commanded: the next state minus this one; the last row stays.

    As published, rotations are plain differences of Euler angles; only their jumps of 2 pi are taken out here. That is
    the rotation between the two poses to first order while roll and pitch are small, as they are in Bridge.

    Raises:
        ConfigError: the actions are no deltas, or a motion channel ``d<name>`` has no state channel ``<name>``.
    """
    if spec.action.mode != "delta":
        raise ConfigError(f"relabelling needs actions that are deltas, found {spec.action.mode}")
    if {spec.action.rotation, spec.state_rotation} - {None, "euler_xyz"}:
        raise ConfigError("relabelling knows rotations as euler_xyz only")
    places = {channel.name: place for place, channel in enumerate(spec.state)}
    result = action.copy()
    for column, channel in enumerate(spec.action.channels):
        if channel.kind not in ("position", "rotation"):
            continue
        reached = places.get(channel.name.removeprefix("d"))
        if reached is None:
            raise ConfigError(f"relabelling finds no state channel for {channel.name!r} among {', '.join(places)}")
        moved = np.diff(state[:, reached])
        result[:-1, column] = _wrapped(moved) if channel.kind == "rotation" else moved
    return state, result


def binarize_gripper(spec: EmbodimentSpec, state: State, action: Action) -> tuple[State, Action]:
    """A gripper on its way counts as what it ends up as: values in between take the next decided one.

    After the last decision nobody knows: those steps get the episode's last value as it is, as published.

    Raises:
        ConfigError: the action has no gripper channel.
    """

    def binary(column: Float32[np.ndarray, "t"], gripper: Gripper) -> Float32[np.ndarray, "t"]:
        openness = (column - gripper.closed) / (gripper.opened - gripper.closed)
        decided = (openness > OPEN_ABOVE) | (openness < CLOSED_BELOW)
        steps = len(column)
        places = np.where(decided, np.arange(steps), steps)
        following = np.minimum.accumulate(places[::-1])[::-1]
        ends = np.where(openness > 0.5, gripper.opened, gripper.closed)
        return np.append(ends, column[-1:])[following]

    return state, _grippers(spec, action, binary)


def absolute_gripper(spec: EmbodimentSpec, state: State, action: Action) -> tuple[State, Action]:
    """Commands that only say a change (towards open, towards closed, none) become the state that they lead to.

    Before the first command the gripper was in the other state; without any command it is open throughout.

    Raises:
        ConfigError: the action has no gripper channel.
    """

    def held(column: Float32[np.ndarray, "t"], gripper: Gripper) -> Float32[np.ndarray, "t"]:
        middle, reach = (gripper.opened + gripper.closed) / 2, (gripper.opened - gripper.closed) / 2
        level = (column - middle) / reach
        said = np.flatnonzero(np.abs(level) > NO_CHANGE)
        if len(said) == 0:
            return np.full_like(column, gripper.opened)
        latest = np.searchsorted(said, np.arange(len(column)), side="right") - 1
        opening = np.where(latest < 0, level[said[0]] < 0, level[said[np.maximum(latest, 0)]] > 0)
        return np.where(opening, gripper.opened, gripper.closed)

    return state, _grippers(spec, action, held)


def clip_gripper(spec: EmbodimentSpec, state: State, action: Action) -> tuple[State, Action]:
    """Gripper commands beyond closed or beyond open are exactly that.

    Raises:
        ConfigError: the action has no gripper channel.
    """

    def clipped(column: Float32[np.ndarray, "t"], gripper: Gripper) -> Float32[np.ndarray, "t"]:
        return np.clip(column, min(gripper.closed, gripper.opened), max(gripper.closed, gripper.opened))

    return state, _grippers(spec, action, clipped)


def moving_steps(spec: EmbodimentSpec, action: Action) -> Bool[np.ndarray, "t"]:
    """Steps of DROID in which the arm is told to move; what the gripper does does not count.

    As OpenVLA trains on DROID (``prismatic/vla/datasets/rlds/oxe/utils/droid_utils.py``, ``zero_action_filter``): a
    step is left out if each of its six motions, brought to [-1, 1] by the quantiles of the whole data set, lies within
    1e-5 of none. Its samples are single steps; here the steps that stay follow each other. Openpi chooses otherwise: it
    starts no sample where the commanded joint velocities stay the same for half a second.

    Raises:
        ConfigError: the action is not a change of position and Euler angles.
    """
    channels = spec.action.channels
    columns = [column for column, channel in enumerate(channels) if channel.kind in ("position", "rotation")]
    if spec.action.mode != "delta" or len(columns) != len(DROID_Q01):
        raise ConfigError(f"still steps are known by six changes of position and rotation, not by {spec.action.names}")
    reach = (np.array(DROID_Q99) - np.array(DROID_Q01)) / 2
    return np.any(np.abs(action[:, columns]) / reach > STILL, axis=1)


@dataclass(frozen=True)
class Fix:
    """One thing mended.

    Attributes:
        mend: changes the numbers of a whole episode.
        drop_first: steps to leave out at the start.
        drop_last: steps to leave out at the end.
        keep: says which steps stay, by the stored action of a whole episode.
        holds: field of an episode, true or false; only episodes stay where it is true.
    """

    mend: Callable[[EmbodimentSpec, State, Action], tuple[State, Action]] = unchanged
    drop_first: int = 0
    drop_last: int = 0
    keep: Callable[[EmbodimentSpec, Action], Bool[np.ndarray, "t"]] | None = None
    holds: str = ""


FIXES: dict[str, Fix] = {
    "drop_first_step": Fix(drop_first=1),
    "drop_last_step": Fix(drop_last=1),
    "relabel_from_states": Fix(relabel_from_states, drop_last=1),
    "binarize_gripper": Fix(binarize_gripper),
    "absolute_gripper": Fix(absolute_gripper),
    "clip_gripper": Fix(clip_gripper),
    "drop_still_steps": Fix(keep=moving_steps),
    "keep_successes": Fix(holds="success"),
}


def _grippers(
    spec: EmbodimentSpec,
    action: Action,
    change: Callable[[Float32[np.ndarray, "t"], Gripper], np.ndarray],
) -> Action:
    """The action with every gripper channel changed."""
    gripper = spec.action.gripper
    if gripper is None:
        raise ConfigError(f"the action of {spec.name!r} has no gripper to mend: {', '.join(spec.action.names)}")
    result = action.copy()
    for column in _columns(spec.action.channels, "gripper"):
        result[:, column] = change(action[:, column], gripper)
    return result


def _columns(channels: tuple[Channel, ...], kind: str) -> list[int]:
    return [column for column, channel in enumerate(channels) if channel.kind == kind]


def _wrapped(angles: Float32[np.ndarray, "t"]) -> Float32[np.ndarray, "t"]:
    """Angles in [-pi, pi]; those that lie there already keep every bit."""
    turns = np.rint(angles / (2 * np.pi))
    return np.where(turns == 0, angles, angles - turns * (2 * np.pi)).astype(np.float32)
