"""Checks of one episode's numbers against what its spec declares: finite, in range, in their rotation form, in time."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from vla.embodiment import ROTATION_SIZE, Channel, EmbodimentSpec, RotationForm
from vla.experience import Episode
from vla.quality_findings import Finding, Severity, in_episode

ACTION_TOLERANCE = 1e-3
"""Of the declared range: rounding when a set was converted."""
STATE_TOLERANCE = 1e-2
"""Of the declared range: what is measured may overshoot a little."""
GAP = 1.5
"""Periods between two steps from which on it is a gap."""
RATE_TOLERANCE = 0.05
"""Of the declared rate."""
FAR_M = 20.0
"""No arm reaches further from its base: the numbers are something else than metres."""
FAR_RAD = 4 * math.pi
"""No joint or angle is turned further: the numbers are something else than radians."""


def finite(place: int, episode: Episode) -> Iterator[Finding]:
    """Every number of the state and the action is finite."""
    for part, channels, values in parts(episode):
        for column in np.flatnonzero(~np.isfinite(values).all(0)):
            bad = np.flatnonzero(~np.isfinite(values[:, column]))
            found = f"{values[bad[0], column]} in {part}, {len(bad)} of {len(values)} steps"
            yield in_episode("finite", "error", place, episode, bad, channels[column], "a finite number", found)


def in_range(place: int, episode: Episode) -> Iterator[Finding]:
    """Numbers lie between their channel's declared low and high, and change no faster than its declared rate.

    An action outside is an error (the controller would have clipped it, so it is not what the robot did), a state
    outside a warning.
    """
    for part, channels, values in parts(episode):
        tolerance = ACTION_TOLERANCE if part == "action" else STATE_TOLERANCE
        severity: Severity = "error" if part == "action" else "warning"
        for column, channel in enumerate(channels):
            physical = values[:, column].astype(np.float64) * channel.scale
            outside = _outside(physical, channel, tolerance)
            if outside.any():
                steps = np.flatnonzero(outside)
                worst = steps[np.argmax(np.abs(physical[steps]))]
                low, high = channel.low / channel.scale, channel.high / channel.scale
                yield in_episode(
                    "range",
                    severity,
                    place,
                    episode,
                    steps,
                    channel,
                    f"{part} between {low:.6g} and {high:.6g}",
                    f"{values[worst, column]:.6g} at step {worst}; outside in {len(steps)} of {len(values)} steps",
                )
            if math.isfinite(channel.max_rate) and len(values) > 1:
                speed = np.abs(np.diff(physical)) * episode.spec.action.rate
                fast = np.flatnonzero(speed > channel.max_rate * (1 + tolerance))
                if len(fast):
                    most = f"{channel.max_rate:.4g} {_per_second(channel)}"
                    found = f"{speed.max():.4g} {_per_second(channel)}, {len(fast)} times"
                    yield in_episode("speed", "warning", place, episode, fast, channel, f"at most {most}", found)


def units(place: int, episode: Episode) -> Iterator[Finding]:
    """Metres and radians are of a size that an arm can have: millimetres and degrees are not."""
    limits = {"m": (FAR_M, "metres"), "rad": (FAR_RAD, "radians")}
    for part, channels, values in parts(episode):
        if not len(values):
            continue
        for column, channel in enumerate(channels):
            limit, unit = limits.get(channel.unit, (math.inf, ""))
            typical = float(np.median(np.abs(values[:, column].astype(np.float64)))) * channel.scale
            if typical > limit:
                expected, found = f"{unit}, below {limit:.3g}", f"{typical:.4g} in the median of the {part}"
                yield in_episode("units", "error", place, episode, np.arange(len(values)), channel, expected, found)


def rotation_form(place: int, episode: Episode) -> Iterator[Finding]:
    """Rotations can be what they are declared as.

    A quaternion has length 1, an axis-angle at most pi (LIBERO's: 2 pi), Euler angles at most 2 pi, and the two columns
    of the 6-D form length 1 at a right angle. Actions outside their declared range are left to that check.
    """
    spec = episode.spec
    for part, channels, values in parts(episode):
        form = spec.state_rotation if part == "state" else spec.action.rotation
        for columns in rotations(channels, form):
            chosen = channels[columns]
            scale = np.array([channel.scale for channel in chosen])
            physical = values[:, columns].astype(np.float64) * scale
            usable = np.isfinite(physical).all(1)
            for column, channel in enumerate(chosen):
                usable &= ~_outside(physical[:, column], channel, STATE_TOLERANCE)
            wrong, expected, measure = _misformed(physical, form)
            steps = np.flatnonzero(wrong & usable)
            if len(steps):
                worst = steps[np.argmax(np.abs(measure[steps]))]
                found = f"{measure[worst]:.5g} at step {worst}, {len(steps)} of {len(values)} steps"
                yield in_episode("rotation", "error", place, episode, steps, chosen[0], f"{form}: {expected}", found)


def wrapped(place: int, episode: Episode) -> Iterator[Finding]:
    """State rotations do not leap from one name of a pose to another (Euler angles from pi to -pi).

    The pose is right, but statistics and policies see a jump of 2 pi.
    """
    spec = episode.spec
    if spec.state_rotation not in ("axis_angle", "axis_angle_2pi", "euler_xyz"):
        return
    for columns in rotations(spec.state, spec.state_rotation):
        leaps = np.abs(np.diff(episode.state[:, columns].astype(np.float64), axis=0)).max(1, initial=0.0)
        steps = np.flatnonzero(leaps > math.pi)
        if len(steps):
            channel, found = spec.state[columns][0], f"{len(steps)} leaps of up to {leaps.max():.3g} rad"
            expected = "numbers that change as little as the pose does"
            yield in_episode("wrap", "note", place, episode, steps + 1, channel, expected, found)


def timing(place: int, episode: Episode) -> Iterator[Finding]:
    """Times rise, at the declared rate, without gaps."""
    steps = np.diff(episode.time)
    if not len(steps):
        return
    period = 1 / episode.spec.action.rate
    back = np.flatnonzero(~(steps > 0))
    if len(back):
        found = f"{steps[back[0]]:.4g} s after step {back[0]}, {len(back)} times"
        yield in_episode("time", "error", place, episode, back + 1, None, "times that rise", found)
        return
    typical = float(np.median(steps))
    if abs(typical / period - 1) > RATE_TOLERANCE:
        expected, found = f"{1 / period:.4g} Hz as declared", f"{1 / typical:.4g} Hz"
        yield in_episode("rate", "error", place, episode, np.arange(len(episode)), None, expected, found)
    gaps = np.flatnonzero(steps > GAP * max(typical, period))
    if len(gaps):
        found = f"{steps[gaps].max():.4g} s, {len(gaps)} gaps"
        yield in_episode("gap", "warning", place, episode, gaps, None, f"{typical:.4g} s between steps", found)


def parts(episode: Episode) -> Iterator[tuple[str, tuple[Channel, ...], Float[np.ndarray, "t c"]]]:
    """State and action with their channels."""
    yield "state", episode.spec.state, episode.state
    yield "action", episode.spec.action.channels, episode.action


def rotations(channels: Sequence[Channel], form: RotationForm | None) -> list[slice]:
    """The columns of each rotation among the channels."""
    if form is None:
        return []
    size = ROTATION_SIZE[form]
    columns = [column for column, channel in enumerate(channels) if channel.kind == "rotation"]
    return [slice(columns[start], columns[start] + size) for start in range(0, len(columns), size)]


def as_commanded(spec: EmbodimentSpec, action: Float[np.ndarray, "t a"]) -> Float[np.ndarray, "t a"]:
    """Actions as a controller takes them: physical units, clipped to the declared range."""
    channels = spec.action.channels
    low, high, scale = (np.array([getattr(c, name) for c in channels]) for name in ("low", "high", "scale"))
    return np.clip(action.astype(np.float64) * scale, low, high)


def _outside(physical: Float[np.ndarray, "t"], channel: Channel, tolerance: float) -> Bool[np.ndarray, "t"]:
    ends = [abs(end) for end in (channel.low, channel.high) if math.isfinite(end)]
    if not ends:
        return np.zeros(len(physical), dtype=bool)
    slack = tolerance * (channel.high - channel.low if len(ends) == 2 else max(ends))
    return (physical < channel.low - slack) | (physical > channel.high + slack)


def _misformed(
    values: Float[np.ndarray, "t n"], form: RotationForm | None
) -> tuple[Bool[np.ndarray, "t"], str, Float[np.ndarray, "t"]]:
    """Which rotations cannot be of the form, what they should be, and what was measured."""
    if form == "quat_xyzw":
        length = np.linalg.norm(values, axis=1)
        return np.abs(length - 1) > 1e-3, "length 1", length
    if form == "rot6d":
        a, b = values[:, :3], values[:, 3:]
        lengths = np.stack([np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)], axis=1) - 1
        measures = np.concatenate([lengths, (a * b).sum(1, keepdims=True)], axis=1)
        worst = measures[np.arange(len(measures)), np.abs(measures).argmax(1)]
        return np.abs(worst) > 1e-2, "columns of length 1 at a right angle, deviation 0", worst
    if form == "euler_xyz":
        largest = np.abs(values).max(1)
        return largest > 2 * math.pi + 1e-3, "angles within 2 pi", largest
    limit, said = (2 * math.pi, "2 pi") if form == "axis_angle_2pi" else (math.pi, "pi")
    angle = np.linalg.norm(values, axis=1)
    return angle > limit + 1e-3, f"an angle of at most {said}", angle


def _per_second(channel: Channel) -> str:
    return "/s" if channel.unit == "1" else f"{channel.unit}/s"
