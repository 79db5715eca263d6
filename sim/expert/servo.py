"""From a pose to reach to the action that moves there: a proportional controller in the base frame."""

import numpy as np
from jaxtyping import Float64

from vla import rotation
from vla.embodiments.libero_panda import STEP_M, STEP_RAD
from vla.sim.expert.hand import Pose
from vla.sim.libero_world import LiberoWorld

OPEN, CLOSED = -1.0, 1.0  # raw gripper numbers
FINGER_SLACK = 0.003  # [m]
MAX_TURN = 0.8  # of the largest rotation of one step


def hand_position(world: LiberoWorld) -> Float64[np.ndarray, "3"]:
    """Where the point between the finger tips is [m]."""
    return world.state()[:3].astype(np.float64)


def hand_pose(world: LiberoWorld) -> Pose:
    """Where the hand is and how it is turned."""
    state = world.state().astype(np.float64)
    return Pose(state[:3], rotation.to_matrix(state[3:6], "axis_angle_2pi"))


def turn_to(world: LiberoWorld, wanted: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3"]:
    """Axis-angle [rad], base frame, from the hand's orientation to another."""
    return rotation.from_matrix(wanted @ hand_pose(world).rotation.T, "axis_angle")


def towards(world: LiberoWorld, pose: Pose, gripper: float, *, speed: float = 1.0) -> Float64[np.ndarray, "7"]:
    """The raw action of one step towards a pose.

    Args:
        world: where the hand is.
        pose: to reach.
        gripper: :data:`OPEN`, :data:`CLOSED`, or how far each finger shall be from the middle [m].
        speed: largest translation as a part of the largest that the body accepts.
    """
    move = (pose.position - hand_position(world)) / STEP_M
    length = float(np.linalg.norm(move))
    move *= min(1.0, speed / length) if length > 0 else 1.0
    turn = np.clip(turn_to(world, pose.rotation) / STEP_RAD, -MAX_TURN, MAX_TURN)
    return np.concatenate([move, turn, [fingers(world, gripper)]])


def fingers(world: LiberoWorld, gripper: float) -> float:
    """The raw gripper number: 0 keeps the fingers where they are, so that they stop half way."""
    if gripper in (OPEN, CLOSED):
        return gripper
    missing = gripper - float(np.abs(world.state()[6:]).mean())
    return 0.0 if abs(missing) < FINGER_SLACK else -np.sign(missing)
