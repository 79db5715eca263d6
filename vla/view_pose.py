"""Poses of hands, whatever form the numbers have: measured by a state, commanded by an action, predicted by a chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from vla import rotation
from vla.embodiment import ROTATION_SIZE, Channel, EmbodimentSpec
from vla.experience import ActionChunk, Observation


@dataclass(frozen=True)
class Hand:
    """Where a hand's pose stands in the state.

    Attributes:
        name: ``"hand"``, or with a number where there are several.
        position: columns of x, y, z.
        rotation: columns of its rotation.
    """

    name: str
    position: tuple[int, int, int]
    rotation: slice


def hands(spec: EmbodimentSpec) -> tuple[Hand, ...]:
    """The hands of a state, in their order; none unless each rotation has a position in metres of its own."""
    if spec.state_rotation is None:
        return ()
    size = ROTATION_SIZE[spec.state_rotation]
    turned = [column for column, channel in enumerate(spec.state) if channel.kind == "rotation"]
    placed = [i for i, channel in enumerate(spec.state) if channel.kind == "position" and channel.unit == "m"]
    count = len(turned) // size
    if len(placed) != 3 * count:
        return ()
    names = ["hand"] if count == 1 else [f"hand_{number}" for number in range(count)]
    return tuple(
        Hand(
            name,
            (placed[3 * i], placed[3 * i + 1], placed[3 * i + 2]),
            slice(turned[size * i], turned[size * i] + size),
        )
        for i, name in enumerate(names)
    )


def pose(
    spec: EmbodimentSpec, hand: Hand, state: Float32[np.ndarray, "s"]
) -> tuple[Float64[np.ndarray, "3"], Float[np.ndarray, "3 3"]] | None:
    """Position [m] and rotation matrix in the state's frame; None where the numbers are no pose."""
    values = state.astype(np.float64) * np.array([channel.scale for channel in spec.state])
    place, turn = values[list(hand.position)], values[hand.rotation]
    form = spec.state_rotation
    if form is None or not (np.isfinite(place).all() and np.isfinite(turn).all()):
        return None
    if form in ("quat_xyzw", "rot6d"):
        columns = turn.reshape(-1, turn.size if form == "quat_xyzw" else 3)
        if (np.linalg.norm(columns, axis=1) < 1e-6).any():
            return None
    matrix = rotation.to_matrix(turn, form)
    return (place, matrix) if np.isfinite(matrix).all() else None


def hand_position(spec: EmbodimentSpec, observation: Observation) -> Float64[np.ndarray, "3"] | None:
    """Measured position of the hand [m]; None if the state does not hold one, or the actions do not move it."""
    places = _positions(spec.state)
    if len(places) != 3 or len(_positions(spec.action.channels)) != 3 or spec.action.frame != "base":
        return None
    return np.array([observation.state[place] * spec.state[place].scale for place in places], np.float64)


def predicted_path(
    spec: EmbodimentSpec, position: Float64[np.ndarray, "3"], chunk: ActionChunk
) -> Float64[np.ndarray, "h+1 3"]:
    """Where a chunk leads from ``position`` if every action is carried out exactly, base frame [m]."""
    places = _positions(spec.action.channels)
    scale = np.array([spec.action.channels[place].scale for place in places])
    moves = chunk.actions[:, places].astype(np.float64) * scale
    points = position + np.cumsum(moves, axis=0) if spec.action.mode == "delta" else moves
    return np.concatenate([position[None], points])


def _positions(channels: Sequence[Channel]) -> list[int]:
    return [place for place, channel in enumerate(channels) if channel.kind == "position" and channel.unit == "m"]


def commanded(
    spec: EmbodimentSpec, observation: Observation, action: Float32[np.ndarray, "a"]
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3 3"]] | None:
    """Pose that an action sends the hand to, base frame; None if the state measures no pose of one hand, or the action
    does not give one in that frame.
    """
    here = pose(spec, hands(spec)[0], observation.state) if len(hands(spec)) == 1 else None
    places = _positions(spec.action.channels)
    turned = [place for place, channel in enumerate(spec.action.channels) if channel.kind == "rotation"]
    if here is None or len(places) != 3 or spec.action.frame != "base":
        return None
    values = action.astype(np.float64) * [channel.scale for channel in spec.action.channels]
    turn = np.eye(3)
    form = spec.action.rotation
    if form is not None and len(turned) == ROTATION_SIZE[form]:
        turn = rotation.to_matrix(values[turned], form)
    elif spec.action.mode == "absolute":
        turn = here[1]
    if spec.action.mode == "absolute":
        return values[places], turn
    return here[0] + values[places], turn @ here[1]
