"""What an action becomes before it is sent: one function for each rule that clamps.

All take and return physical units, float64, and tell what they changed through ``log(rule, what, value)``.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from vla import rotation
from vla.embodiment import RotationForm
from vla.safety_limits import SafetyLimits

Log = Callable[[str, str, float], None]
Vector = Float64[np.ndarray, "3"]

SLACK = 1e-6
"""[m] or [rad]; float32 rounding is no intervention."""


def change(step: Vector, before: Vector | None, limits: SafetyLimits, log: Log) -> Vector:
    """``acceleration``: a step differs from the one before by no more than ``max_change``; the first one from none."""
    before = np.zeros(3) if before is None else before
    length = float(np.linalg.norm(step - before))
    if length <= limits.max_change + SLACK:
        return step
    log("acceleration", f"a change of {length:.4f} m from one step to the next was reduced", length)
    return before + (step - before) * (limits.max_change / length)


def translation(step: Vector, limits: SafetyLimits, log: Log) -> Vector:
    """``translation``: a step is no longer than ``max_translation``; its direction is kept."""
    length = float(np.linalg.norm(step))
    if length <= limits.max_translation + SLACK:
        return step
    log("translation", f"a step of {length:.4f} m was shortened", length)
    return step * (limits.max_translation / length)


def workspace(step: Vector, here: Vector, limits: SafetyLimits, log: Log) -> Vector:
    """``workspace``: a target is inside the box, whose lower side is the table."""
    if not limits.box:
        return step
    # outside the box, only the way back is open, and nobody is pushed: the bound is then 0, not a leap
    least = np.minimum(np.array(limits.low) - here, 0.0)
    most = np.maximum(np.array(limits.high) - here, 0.0)
    inner = np.clip(step, least, most)
    beyond = float(np.abs(step - inner).max())
    if beyond <= SLACK:
        return step
    axis = "xyz"[int(np.abs(step - inner).argmax())]
    log("workspace", f"target {beyond:.4f} m outside the workspace along {axis}", beyond)
    return inner


def turn(
    values: Float64[np.ndarray, "r"], form: RotationForm | None, limits: SafetyLimits, log: Log
) -> Float64[np.ndarray, "r"]:
    """``rotation``: a step's rotation is no larger than ``max_rotation``; its axis is kept."""
    if form is None or math.isinf(limits.max_rotation):
        return values
    vector = rotation.convert(values, form, "axis_angle")
    angle = float(np.linalg.norm(vector))
    if angle <= limits.max_rotation + SLACK:
        return values
    log("rotation", f"a rotation of {angle:.3f} rad was reduced", angle)
    return rotation.convert(vector * (limits.max_rotation / angle), "axis_angle", form)


def joints(
    step: Float64[np.ndarray, "j"],
    here: Float64[np.ndarray, "j"],
    bounds: Float64[np.ndarray, "3 j"],
    names: tuple[str, ...],
    log: Log,
) -> Float64[np.ndarray, "j"]:
    """``joint_velocity`` and ``joint_position``: a joint's target is within reach of one period, and of its range.

    Args:
        step: change of the joints [rad].
        here: where they are measured [rad].
        bounds: smallest and largest positions, and the largest change of one period [rad].
        names: of the joints.
        log: told.
    """
    low, high, most = bounds
    slower = np.clip(step, -most, most)
    if (too_fast := float(np.abs(step - slower).max(initial=0.0))) > SLACK:
        name = names[int(np.abs(step - slower).argmax())]
        log("joint_velocity", f"{name} was to change by {too_fast:.4f} rad more than a period allows", too_fast)
    inner = np.clip(slower, np.minimum(low - here, 0.0), np.maximum(high - here, 0.0))
    if (beyond := float(np.abs(slower - inner).max(initial=0.0))) > SLACK:
        name = names[int(np.abs(slower - inner).argmax())]
        log("joint_position", f"{name} was to go {beyond:.4f} rad beyond its range", beyond)
    return np.where(np.abs(step - inner) > SLACK, inner, step)
