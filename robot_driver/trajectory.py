"""A chunk of actions as a timed path that a servo can follow at its own rate.

::

    observation measured at t ─▶ policy (takes its time) ─▶ chunk: row 0, row 1, ... row h-1
    Anchor(t, pose)             ─────────┐                    │ deltas are added up, in the spec's frame
    path:   t: anchor ── t+dt: row 0 ── t+2dt: row 1 ── ... ── t+h*dt: row h-1, coming to rest

**Deltas are relative to the pose they were predicted from**: that of the observation that the chunk answers, not the
pose that is measured when an action is executed. That pose travels as an :class:`Anchor` with its time, and a chunk
that answers another time is refused. Rows whose time has passed are never executed late: the path is entered where the
clock is. A chunk's path comes to rest at its last row, so that a late next chunk means a stop, and nothing is made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float64
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp

from vla.embodiment import ActionSpec
from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk
from vla.tool_pose import Pose, poses_after

SLOWING_S = 0.1
"""Of a path's last part, during which it comes to rest [s]."""

_SAME = 1e-6  # [s]; times that went through a wire or a float32


class Target(NamedTuple):
    """Where a servo is to be at an instant, and how it is to move there [rad or m, and that each s and s2].

    ``end`` is what no channel passes, coming from where it is: a motion that has to catch up does not shoot over it.
    """

    position: Float64[np.ndarray, "n"]
    velocity: Float64[np.ndarray, "n"]
    acceleration: Float64[np.ndarray, "n"] | None = None
    end: Float64[np.ndarray, "n"] | None = None


class Withdrawn(Exception):
    """What a path raises that somebody has taken back: the servo brakes, and nothing is wrong."""


class Path(Protocol):
    """Targets by time, on the servo's clock."""

    @property
    def end(self) -> float:
        """Time of the last target that somebody asked for [s]."""
        ...

    def at(self, time: float) -> Target | None:
        """The target at a time; None after the end of a path that does not come to rest: the servo must brake.

        Raises:
            Withdrawn: nobody wants it to be followed any more.
        """
        ...


class Ramp(NamedTuple):
    """A path at a steady speed from one place to the next, where it then stays [s, and rad or m]; never beyond it."""

    begin: float
    end: float
    start: Float64[np.ndarray, "n"]
    goal: Float64[np.ndarray, "n"]

    def at(self, time: float) -> Target:
        """See :class:`Path`."""
        share = (time - self.begin) / (self.end - self.begin)
        still = np.zeros(len(self.goal))
        if share >= 1:
            return Target(self.goal, still, still, self.goal)
        way = self.goal - self.start
        return Target(self.start + max(0.0, share) * way, way / (self.end - self.begin), still, self.goal)


@dataclass(frozen=True)
class Anchor[T]:
    """What was measured together with the observation that a chunk answers: deltas count from here.

    Attributes:
        time: of the measurement, on the clock of the chunk's times [s].
        value: joint positions, or the tool's :class:`Pose`.
    """

    time: float
    value: T


class JointPath:
    """Positions at given times, and between them a cubic spline: speed and acceleration are continuous.

    A path that rests goes through the same positions to its last one, but takes its last ``SLOWING_S`` at a rate that
    falls smoothly to nothing, in twice the time: it stops on the way that was asked for, and not beyond it.

    Args:
        times: increasing [s], at least two.
        positions: one row for each time [rad or m].
        rests: whether the last position is reached at rest and then kept; if not, there is no target after it.

    Raises:
        ConfigError: the shapes do not fit, or the times do not increase.
    """

    def __init__(self, times: Float64[np.ndarray, "k"], positions: Float64[np.ndarray, "k n"], *, rests: bool = True):
        times, positions = np.asarray(times, np.float64), np.asarray(positions, np.float64)
        if times.ndim != 1 or len(times) < 2 or positions.ndim != 2 or len(positions) != len(times):
            raise ConfigError(f"a path has a row for each of 2 or more times, found {times.shape}, {positions.shape}")
        if not (np.diff(times) > 0).all():
            raise ConfigError("the times of a path must increase")
        self._start, self._rests, self._last = float(times[0]), rests, positions[-1]
        self._slowing = min(SLOWING_S, float(times[-1]) - self._start) if rests else 0.0
        self._end = float(times[-1]) + self._slowing
        self._curve = CubicSpline(times, positions, bc_type="natural")
        self._speed, self._push = self._curve.derivative(), self._curve.derivative(2)
        self._still = np.zeros(positions.shape[1])

    @property
    def start(self) -> float:
        """Time of the first position [s]."""
        return self._start

    @property
    def end(self) -> float:
        """Time at which the last position is reached [s]."""
        return self._end

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self._last)

    def at(self, time: float) -> Target | None:
        """See :class:`Path`; before its start the path stands at its first position."""
        if time >= self._end:
            return Target(self._last, self._still, self._still) if self._rests else None
        if time < self._start:
            return Target(self._curve(self._start), self._still, self._still)
        place, rate, change = self._pace(time)
        speed = self._speed(place)
        return Target(self._curve(place), speed * rate, self._push(place) * rate**2 + speed * change)

    def _pace(self, time: float) -> tuple[float, float, float]:
        """Where on the curve the path is at a time [s], how fast it goes along it, and how that changes [1/s]."""
        whole = 2 * self._slowing
        begin = self._end - whole
        if time <= begin:
            return time, 1.0, 0.0
        x = (time - begin) / whole  # the rate falls as 1 - (3 x2 - 2 x3), from 1 to 0; the place is its integral
        return begin + whole * (x - x**3 + 0.5 * x**4), 1 - 3 * x**2 + 2 * x**3, 6 * (x**2 - x) / whole


class PosePath:
    """Poses at given times; in between straight lines, and the short way round at a steady turn (slerp).

    Args:
        times: increasing [s], at least two.
        poses: one for each time.

    Raises:
        ConfigError: the lengths differ, or the times do not increase.
    """

    def __init__(self, times: Float64[np.ndarray, "k"], poses: Sequence[Pose]):
        times = np.asarray(times, np.float64)
        if times.ndim != 1 or len(times) < 2 or len(times) != len(poses):
            raise ConfigError(f"a path has a pose for each of 2 or more times, found {len(poses)} for {times.shape}")
        if not (np.diff(times) > 0).all():
            raise ConfigError("the times of a path must increase")
        self.times, self._positions = times, np.array([pose.position for pose in poses])
        self._turn = Slerp(times, Rotation.from_matrix(np.array([pose.matrix for pose in poses])))

    def at(self, time: float) -> Pose:
        """The pose at a time; the first one before the path's start, the last one after its end."""
        time = float(np.clip(time, self.times[0], self.times[-1]))
        position = np.array([np.interp(time, self.times, column) for column in self._positions.T])
        return Pose(position, self._turn(time).as_matrix())


def joint_path(
    chunk: ActionChunk,
    spec: ActionSpec,
    anchor: Anchor[Float64[np.ndarray, "n"]],
    *,
    channels: Sequence[str] | None = None,
    rests: bool = True,
) -> JointPath:
    """The way of joints that a chunk asks for.

    Args:
        chunk: in the order and units of ``spec``.
        spec: deltas are added up from the anchor on; a gripper's channel is a target in either mode.
        anchor: positions of these channels, measured with the observation that the chunk answers.
        channels: names, in the servo's order; all that are no gripper if None.
        rests: see :class:`JointPath`. False where rows come one at a time, each a chunk of one: the arm then does not
            slow down for each.

    Raises:
        ConfigError: a channel is neither a joint nor a gripper or does not exist, or the anchor has another length.
        PolicyFault: the chunk answers another observation than the anchor was measured with.
    """
    if channels is None:
        channels = [channel.name for channel in spec.channels if channel.kind != "gripper"]
    unknown = [name for name in channels if name not in spec.names]
    if unknown:
        raise ConfigError(f"the action has no channel {', '.join(unknown)}; it has {', '.join(spec.names)}")
    places = [spec.names.index(name) for name in channels]
    chosen = [spec.channels[place] for place in places]
    wrong = [channel.name for channel in chosen if channel.kind not in ("joint", "gripper")]
    if wrong:
        raise ConfigError(f"channels of a joint path are joints or grippers, not {', '.join(wrong)}")
    start = np.asarray(anchor.value, np.float64)
    if start.shape != (len(chosen),):
        raise ConfigError(f"{len(chosen)} channels, but the anchor has shape {start.shape}")
    times = _times(chunk, anchor.time)
    values = chunk.actions[:, places].astype(np.float64) * [channel.scale for channel in chosen]
    if spec.mode == "delta":
        added = np.array([channel.kind == "joint" for channel in chosen])
        values = np.where(added, start + np.cumsum(values, axis=0), values)
    return JointPath(times, np.vstack([start, values]), rests=rests)


def pose_path(chunk: ActionChunk, spec: ActionSpec, anchor: Anchor[Pose]) -> PosePath:
    """The way of the tool that a chunk asks for, in the base frame.

    Args:
        chunk: in the order and units of ``spec``.
        spec: with three position channels [m] and one rotation; deltas are added up from the anchor on, about the
            base's axes (``frame="base"``) or the tool's (``"tool"``).
        anchor: pose measured with the observation that the chunk answers.

    Raises:
        ConfigError: the action is no pose of one tool.
        PolicyFault: the chunk answers another observation than the anchor was measured with.
    """
    return PosePath(_times(chunk, anchor.time), [anchor.value, *poses_after(chunk.actions, spec, anchor.value)])


def _times(chunk: ActionChunk, anchored: float) -> Float64[np.ndarray, "k"]:
    if abs(chunk.time - anchored) > _SAME:
        raise PolicyFault(
            f"the chunk answers the observation of {chunk.time:.6f} s, its anchor was measured at {anchored:.6f} s"
        )
    return anchored + chunk.dt * np.arange(len(chunk.actions) + 1)
