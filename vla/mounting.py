"""Where a tool sits on its arm and an arm on its table: matrices of offsets, and what differs between two robots.

A policy that was trained with a gripper 10 cm longer puts every tool of another length 10 cm beside the object: its
poses are of the tool centre point. So an offset that a policy's embodiment states must be the body's too.
"""

import numpy as np
from jaxtyping import Float64

from vla import rotation
from vla.embodiment import EmbodimentSpec
from vla.errors import SpecMismatch
from vla.frames import Offset

SAME_M = 0.001
"""Tool centre points this close are the same: about what calibrating one twice differs by [m]."""
SAME_RAD = 0.01
"""The same for its axes [rad]."""

CAMERA_M, CAMERA_RAD = 0.005, 0.02
"""A camera that was moved by less gives pictures that look the same [m, rad]."""

NAMES = {"tool": "the tool centre point", "base": "the base frame"}


def offset_matrix(offset: Offset) -> Float64[np.ndarray, "4 4"]:
    """The offset as a homogeneous matrix."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.to_matrix(np.array(offset.rotation), "axis_angle")
    matrix[:3, 3] = offset.position
    return matrix


def offset_of(matrix: Float64[np.ndarray, "4 4"]) -> Offset:
    """The offset of a homogeneous matrix, to 10 um and 0.1 mrad: it is part of a fingerprint, noise is not."""
    turn = rotation.from_matrix(matrix[:3, :3], "axis_angle")
    position = tuple(round(float(value), 5) + 0.0 for value in matrix[:3, 3])
    return Offset(position, tuple(round(float(value), 4) + 0.0 for value in turn))  # pyright: ignore[reportArgumentType]


def differences(body: EmbodimentSpec, policy: EmbodimentSpec) -> list[str]:
    """What the policy states about offsets and the body has otherwise, a line each."""
    found = []
    for name, what in NAMES.items():
        ours, theirs = getattr(policy, name), getattr(body, name)
        if ours is None:
            continue
        if theirs is None:
            found.append(f"{what} is {describe(ours)} for the policy, and the body does not state its own")
            continue
        if between := apart(theirs, ours):
            found.append(f"{what} is {describe(ours)} for the policy, {describe(theirs)} for the body: {between}")
    return found


def moved_cameras(body: EmbodimentSpec, policy: EmbodimentSpec) -> list[str]:
    """Cameras that sit elsewhere than those whose pictures a policy learned from, as far as both were measured."""
    found = []
    for camera in policy.cameras:
        ours, theirs = camera.calibration, body.camera(camera.name).calibration
        if ours is None or theirs is None:
            continue
        if ours.parent != theirs.parent:
            found.append(f"camera {camera.name}: on the {ours.parent} for the policy, on the {theirs.parent} here")
        elif between := apart(theirs.pose, ours.pose, metres=CAMERA_M, radians=CAMERA_RAD):
            found.append(f"camera {camera.name}: it sits elsewhere than the policy's, {between}")
    return found


def check_calibrations(spec: EmbodimentSpec) -> None:
    """See that cameras on the tool were calibrated with the tool that the robot has.

    Raises:
        SpecMismatch: one was not, or the robot does not say which tool it has.
    """
    found = []
    for camera in spec.cameras:
        used = camera.calibration.tool if camera.calibration else None
        if used is None:
            continue
        if spec.tool is None:
            found.append(
                f"camera {camera.name}: {describe(used)} when it was calibrated, the robot does not state its own"
            )
        elif between := apart(spec.tool, used):
            found.append(
                f"camera {camera.name}: {describe(used)} when it was calibrated, {describe(spec.tool)} now: {between}"
            )
    if found:
        raise SpecMismatch(found, have=f"the tool of {spec.name}", want="the tool that cameras were calibrated with")


def apart(one: Offset, other: Offset, *, metres: float = SAME_M, radians: float = SAME_RAD) -> str:
    """How far two offsets are apart, for people; empty where they are the same within so much."""
    between = np.linalg.inv(offset_matrix(one)) @ offset_matrix(other)
    away = float(np.linalg.norm(between[:3, 3]))
    turned = float(np.linalg.norm(rotation.from_matrix(between[:3, :3], "axis_angle")))
    if away <= metres and turned <= radians:
        return ""
    return f"{away * 1000:.1f} mm and {np.degrees(turned):.1f} degrees apart"


def describe(offset: Offset) -> str:
    """For people: millimetres and degrees."""
    place = ", ".join(f"{value * 1000:.1f}" for value in offset.position)
    turn = ", ".join(f"{np.degrees(value):.1f}" for value in offset.rotation)
    return f"({place}) mm turned by ({turn}) degrees"
