"""Commanded motion beside measured motion: which action channel moves which state channel, and both as series.

::

    commanded[t]   the change that action t asks for        (delta: the action; absolute: its change since t - 1)
    measured[t]    state[t + 1] - state[t]                  turns: the axis-angle between the two, in the action's frame
"""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla import rotation
from vla.embodiment import Channel, EmbodimentSpec, RotationForm
from vla.experience import Episode
from vla.quality_numbers import as_commanded, rotations

_SUFFIX = re.compile(r"_(target|command|cmd|goal|action|desired|state|measured)(?=_|$)")


@dataclass(frozen=True)
class Pairs:
    """Which columns belong together.

    Attributes:
        names: action channel names of the scalar pairs, then of the rotations' axes.
        action: columns of the scalar pairs.
        state: columns of the scalar pairs.
        turns: columns of each rotation in the action and in the state.
        tool: columns of the state's hand rotation, for positions commanded in the tool's frame; else None.
    """

    names: tuple[str, ...]
    action: tuple[int, ...]
    state: tuple[int, ...]
    turns: tuple[tuple[slice, slice], ...]
    tool: slice | None


def pairs(spec: EmbodimentSpec) -> Pairs:
    """Positions and joints are paired by name (``dx`` moves ``x``), else by order if there are equally many."""
    action, state = spec.action.channels, spec.state
    columns: list[tuple[int, int]] = []
    for kind in ("position", "joint"):
        ours = [column for column, channel in enumerate(action) if channel.kind == kind]
        theirs = [column for column, channel in enumerate(state) if channel.kind == kind]
        columns += _matched(ours, theirs, action, state)
    turned_by, turned = rotations(action, spec.action.rotation), rotations(state, spec.state_rotation)
    turns = tuple(zip(turned_by, turned, strict=True)) if len(turned_by) == len(turned) else ()
    tool = None
    if spec.action.frame == "tool":
        if len(turned) == 1 and sum(action[ours].kind == "position" for ours, _ in columns) == 3:
            tool = turned[0]
        else:  # whose tool is not said
            columns = [pair for pair in columns if action[pair[0]].kind != "position"]
    names = [action[ours].name for ours, _ in columns]
    for columns_of, _ in turns:
        names += [f"{action[columns_of.start].name} turn about {axis}" for axis in "xyz"]
    return Pairs(tuple(names), tuple(a for a, _ in columns), tuple(s for _, s in columns), turns, tool)


def motions(found: Pairs, episode: Episode) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n p"]] | None:
    """Commanded and measured motion of one episode in the order of ``found.names``; None if it has unusable numbers."""
    spec = episode.spec
    state = episode.state.astype(np.float64) * np.array([channel.scale for channel in spec.state])
    action = as_commanded(spec, episode.action)
    if len(action) < 3 or not found.names or not (np.isfinite(state).all() and np.isfinite(action).all()):
        return None
    delta = spec.action.mode == "delta"
    commanded = [action[:-1, found.action] if delta else np.diff(action[:, found.action], axis=0, prepend=np.nan)[:-1]]
    change = np.diff(state[:, found.state], axis=0)
    if found.tool is not None:
        change = _in_tool(change, spec, found, state[:, found.tool])
    measured = [change]
    for ours, theirs in found.turns:
        hand = _matrices(state[:, theirs], spec.state_rotation)
        asked = _matrices(action[:, ours], spec.action.rotation)
        if hand is None or asked is None:
            return None
        turned = _between(hand, tool=spec.action.frame == "tool")
        measured.append(turned)
        if delta:
            commanded.append(rotation.from_matrix(asked[:-1], "axis_angle"))
        else:
            steps = _between(asked, tool=spec.action.frame == "tool")
            commanded.append(np.concatenate([np.full((1, 3), np.nan), steps])[:-1])
    first = 0 if delta else 1
    return np.concatenate(commanded, axis=1)[first:], np.concatenate(measured, axis=1)[first:]


def _matched(
    ours: list[int], theirs: list[int], action: tuple[Channel, ...], state: tuple[Channel, ...]
) -> list[tuple[int, int]]:
    by_name = {_bare(state[column].name): column for column in theirs}
    found = []
    for column in ours:
        name = _bare(action[column].name)
        match = by_name.get(name, by_name.get(name[1:] if name[:1] in ("d", "v") else ""))
        if match is not None:
            found.append((column, match))
    if not found and len(ours) == len(theirs):
        return list(zip(ours, theirs, strict=True))
    return found


def _bare(name: str) -> str:
    return _SUFFIX.sub("", name)


def _in_tool(
    change: Float[np.ndarray, "n s"], spec: EmbodimentSpec, found: Pairs, hand: Float[np.ndarray, "t r"]
) -> Float[np.ndarray, "n s"]:
    places = [i for i, column in enumerate(found.action) if spec.action.channels[column].kind == "position"]
    matrices = _matrices(hand, spec.state_rotation)
    if matrices is None:
        return change
    result = change.copy()
    result[:, places] = np.einsum("nji,nj->ni", matrices[:-1], change[:, places])
    return result


def _matrices(values: Float[np.ndarray, "t r"], form: RotationForm | None) -> Float[np.ndarray, "t 3 3"] | None:
    if form is None or (form in ("quat_xyzw", "rot6d") and not (np.linalg.norm(values, axis=1) > 1e-6).all()):
        return None
    return rotation.to_matrix(values, form)


def _between(matrices: Float[np.ndarray, "t 3 3"], *, tool: bool) -> Float[np.ndarray, "t-1 3"]:
    before, after = np.swapaxes(matrices[:-1], -1, -2), matrices[1:]
    return rotation.from_matrix(before @ after if tool else after @ before, "axis_angle")
