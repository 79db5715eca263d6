"""Poses of a tool, and the poses that a chunk of actions leads to from one of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from vla import rotation
from vla.embodiment import ROTATION_SIZE, ActionSpec, Channel, EmbodimentSpec
from vla.errors import ConfigError


@dataclass(frozen=True)
class Pose:
    """Of the tool in the base frame.

    Attributes:
        position: [m].
        matrix: its axes as columns.
    """

    position: Float64[np.ndarray, "3"]
    matrix: Float64[np.ndarray, "3 3"]


def moves_tool(spec: ActionSpec) -> bool:
    """Whether an action is a pose of one tool, or a change of it."""
    form = spec.rotation
    shift, turn = (_places(spec.channels, kind) for kind in ("position", "rotation"))
    return form is not None and len(shift) == 3 and len(turn) == ROTATION_SIZE[form] and spec.frame != "joint"


def measures_tool(spec: EmbodimentSpec) -> bool:
    """Whether a state holds the pose of one tool."""
    form = spec.state_rotation
    shift, turn = (_places(spec.state, kind) for kind in ("position", "rotation"))
    return form is not None and len(shift) == 3 and len(turn) == ROTATION_SIZE[form]


def measured_pose(spec: EmbodimentSpec, state: Float[np.ndarray, "s"]) -> Pose:
    """The tool's pose in a state.

    Raises:
        ConfigError: a state has none.
    """
    if not measures_tool(spec) or spec.state_rotation is None:
        raise ConfigError(f"{spec.name} does not measure the pose of one tool, it measures {spec.state_names}")
    shift, turn = (_places(spec.state, kind) for kind in ("position", "rotation"))
    values = state.astype(np.float64) * [channel.scale for channel in spec.state]
    return Pose(values[shift], rotation.to_matrix(values[turn], spec.state_rotation))


def poses_after(actions: Float[np.ndarray, "h a"], spec: ActionSpec, start: Pose) -> list[Pose]:
    """The pose that each action leads to: deltas are added up from ``start`` on.

    Args:
        actions: in the order and units of ``spec``.
        spec: deltas are about the base's axes (``frame="base"``) or the tool's (``"tool"``).
        start: that the first action counts from.

    Raises:
        ConfigError: the action is no pose of one tool.
    """
    if not moves_tool(spec) or spec.rotation is None:
        raise ConfigError(f"a pose has three positions and one rotation in base or tool axes, found {spec.names}")
    if spec.mode == "absolute" and spec.frame == "tool":
        raise ConfigError("an absolute pose is in the base frame, found the tool's")
    values = actions.astype(np.float64) * [channel.scale for channel in spec.channels]
    shifts, turns = (values[:, _places(spec.channels, kind)] for kind in ("position", "rotation"))
    poses, last = [], start
    for shift, matrix in zip(shifts, rotation.to_matrix(turns, spec.rotation), strict=True):
        if spec.mode == "absolute":
            last = Pose(shift, matrix)
        elif spec.frame == "base":
            last = Pose(last.position + shift, matrix @ last.matrix)
        else:
            last = Pose(last.position + last.matrix @ shift, last.matrix @ matrix)
        poses.append(last)
    return poses


def change_to(action: Float[np.ndarray, "a"], spec: ActionSpec, start: Pose, end: Pose) -> Float[np.ndarray, "a"]:
    """An action with its change of the pose replaced by the one that leads from ``start`` to ``end``.

    Raises:
        ConfigError: the action is no change of one tool's pose.
    """
    if not moves_tool(spec) or spec.rotation is None or spec.mode != "delta":
        raise ConfigError(f"a change of the tool's pose was expected, found {spec.names}, {spec.mode}")
    shift, turn = end.position - start.position, end.matrix @ start.matrix.T
    if spec.frame == "tool":
        shift, turn = start.matrix.T @ shift, start.matrix.T @ end.matrix
    values = action.astype(np.float64)
    scale = np.array([channel.scale for channel in spec.channels])
    for kind, change in (("position", shift), ("rotation", rotation.from_matrix(turn, spec.rotation))):
        places = _places(spec.channels, kind)
        values[places] = change / scale[places]
    return values.astype(np.float32)


def _places(channels: tuple[Channel, ...], kind: str) -> list[int]:
    return [place for place, channel in enumerate(channels) if channel.kind == kind]
