"""Poses of the hands that a state measures: a position and a rotation, whatever form the numbers have."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from vla import rotation
from vla.embodiment import ROTATION_SIZE, EmbodimentSpec


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
