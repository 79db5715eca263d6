"""From a pose to reach to the action that moves there: a proportional controller in the base frame."""

import numpy as np
from jaxtyping import Float64

from vla import rotation
from vla.embodiments.libero_panda import STEP_M, STEP_RAD
from vla.sim.libero_world import LiberoWorld

OPEN, CLOSED = -1.0, 1.0  # raw gripper numbers
POINTING_DOWN = np.diag([1.0, -1.0, -1.0])  # the hand above the table, fingers opening along the base's y axis
MAX_TURN = 0.8  # of the largest rotation of one step


def hand_position(world: LiberoWorld) -> Float64[np.ndarray, "3"]:
    """Where the point between the finger tips is [m]."""
    return world.state()[:3].astype(np.float64)


def turn_to(world: LiberoWorld, yaw: float) -> Float64[np.ndarray, "3"]:
    """Axis-angle [rad], base frame, from the hand's orientation to pointing down with ``yaw`` about the vertical."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    wanted = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ POINTING_DOWN
    hand = rotation.to_matrix(world.state()[3:6], "axis_angle_2pi")
    return rotation.from_matrix(wanted @ hand.T, "axis_angle")


def distance(world: LiberoWorld, position: Float64[np.ndarray, "3"]) -> float:
    """From the hand [m]."""
    return float(np.linalg.norm(position - hand_position(world)))


def towards(
    world: LiberoWorld, position: Float64[np.ndarray, "3"], yaw: float, gripper: float, *, speed: float = 1.0
) -> Float64[np.ndarray, "7"]:
    """The raw action of one step towards a pose.

    Args:
        world: where the hand is.
        position: of the point between the finger tips [m].
        yaw: about the vertical [rad].
        gripper: :data:`OPEN` or :data:`CLOSED`.
        speed: largest translation as a part of the largest that the body accepts.
    """
    move = (position - hand_position(world)) / STEP_M
    length = float(np.linalg.norm(move))
    move *= min(1.0, speed / length) if length > 0 else 1.0
    turn = np.clip(turn_to(world, yaw) / STEP_RAD, -MAX_TURN, MAX_TURN)
    return np.concatenate([move, turn, [gripper]])
