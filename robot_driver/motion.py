"""One servo period of motion towards a moving target, within limits of velocity, acceleration and jerk (Ruckig).

::

    target (position, velocity, acceleration) ─▶ Ruckig, one period ─▶ could it still stop before a joint's end?
                                                                          ├─ yes ─────────────────────▶ next state
                                                                          └─ no: this channel brakes ─▶ next state

Ruckig is L. Berscheid and T. Kroeger, "Jerk-limited Real-time Trajectory Generation with Arbitrary Target States"
(2021): time-optimal, and bounded at all times, also between ticks. Two things are added:

* It plans towards a target that stands still, or that it is to pass at some speed, and by the time it is there a moving
  target is elsewhere: it would lag, and swing about it. So the plan is made in a frame that moves along with the target
  at the target's speed and acceleration; there the target stands, and a motion that has caught up has nothing to do.
* It does not know where a joint ends, or what a command asked for at most. No state is entered from which the joint
  could not be stopped in time.

Every channel moves by itself, so that 6 joints, 14 joints of two arms, and joints beside a gripper are the same thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.embodiment import Channel
from vla.errors import BodyFault, ConfigError, DependencyMissing

_REST = 1e-9
"""Of a limit; below it a speed or an acceleration is none."""

_BEYOND = 0.01
"""Of a channel's range; by so much an arm may be measured outside where a motion starts: it is then led back."""

_SHARE = 0.95
"""Of a limit; what a target may use of it: the rest is for catching up with it."""


@dataclass(frozen=True)
class MotionLimits:
    """What a motion stays within, one number for each channel (rad for a revolute joint, m for a sliding one).

    Attributes:
        low: smallest position [rad or m].
        high: largest position [rad or m].
        velocity: largest speed, either way [1/s].
        acceleration: largest acceleration, either way [1/s2].
        jerk: largest jerk, either way [1/s3].

    Raises:
        ConfigError: the lengths differ, a range is empty, or a bound of motion is not finite and above 0.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    jerk: tuple[float, ...]

    def __post_init__(self):
        for name in ("high", "velocity", "acceleration", "jerk"):
            if len(getattr(self, name)) != len(self.low):
                raise ConfigError(f"limits of {len(self.low)} channels, but {name} has {len(getattr(self, name))}")
        for name in ("velocity", "acceleration", "jerk"):
            wrong = [value for value in getattr(self, name) if not 0 < value < np.inf]
            if wrong:
                raise ConfigError(f"{name} must be finite and above 0 in every channel, found {wrong[0]}")
        for place, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low < high:
                raise ConfigError(f"channel {place}: low {low} is not below high {high}")

    @classmethod
    def of(cls, channels: Sequence[Channel], *, rise: float, ease: float) -> "MotionLimits":
        """Of an action's channels: their ranges and top speeds, and how fast those may be reached.

        Args:
            channels: positions; in the order of the servo.
            rise: from rest to top speed at the largest acceleration [s].
            ease: from none to the largest acceleration at the largest jerk [s].

        Raises:
            ConfigError: a channel has no range or no top speed.
        """
        endless = [one.name for one in channels if not np.isfinite([one.low, one.high, one.max_rate]).all()]
        if endless or not (rise > 0 and ease > 0):
            raise ConfigError(
                f"bounded motion needs ranges, top speeds and times above 0; missing: {endless or 'times'}"
            )
        velocity = [one.max_rate for one in channels]
        return cls(
            tuple(one.low for one in channels),
            tuple(one.high for one in channels),
            tuple(velocity),
            tuple(speed / rise for speed in velocity),
            tuple(speed / rise / ease for speed in velocity),
        )

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.low)

    def __add__(self, other: "MotionLimits") -> "MotionLimits":
        """The channels of both, e.g. of two arms, or of an arm and its gripper."""
        names = ("low", "high", "velocity", "acceleration", "jerk")
        return MotionLimits(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True)
class MotionState:
    """Where every channel is and how it moves."""

    position: Float64[np.ndarray, "n"]
    velocity: Float64[np.ndarray, "n"]
    acceleration: Float64[np.ndarray, "n"]


class Motion:
    """The commanded motion: a state that changes by one period at a time, towards a target or to rest.

    Args:
        limits: see :class:`MotionLimits`.
        period: of the servo [s].
        position: where the motion starts, at rest: what was measured.

    Raises:
        DependencyMissing: Ruckig is not installed.
        ConfigError: the position has not one number for each channel.
        BodyFault: the position is not finite, or outside the limits.
    """

    def __init__(self, limits: MotionLimits, period: float, position: Float64[np.ndarray, "n"]):
        try:
            import ruckig
        except ImportError as error:
            raise DependencyMissing("bounded motion needs Ruckig: pip install 'vla-stack[control]'") from error
        if not 0 < period < 1:
            raise ConfigError(f"a servo period lies between 0 and 1 s, found {period}")
        self.limits, self.period = limits, period
        self._velocity, self._acceleration = np.array(limits.velocity), np.array(limits.acceleration)
        self._jerk = np.array(limits.jerk)
        self._error, size = ruckig.RuckigError, limits.size
        self._generator, self._path = ruckig.Ruckig(size), ruckig.Trajectory(size)
        self._chase, self._rest = ruckig.InputParameter(size), ruckig.InputParameter(size)
        self._rest.control_interface = ruckig.ControlInterface.Velocity
        self._rest.max_velocity, self._rest.max_acceleration = list(limits.velocity), list(limits.acceleration)
        for one in (self._chase, self._rest):
            one.max_jerk, one.synchronization = list(limits.jerk), ruckig.Synchronization.No
        self.state = self.restart(position)

    @property
    def moving(self) -> bool:
        """Whether any channel has a speed or an acceleration."""
        slow = np.abs(self.state.velocity) <= _REST * self._velocity
        return not (slow & (np.abs(self.state.acceleration) <= _REST * self._acceleration)).all()

    def restart(self, position: Float64[np.ndarray, "n"]) -> MotionState:
        """Be at rest there: only where the arm really stands there.

        Raises:
            ConfigError: it has not one number for each channel.
            BodyFault: it is not finite, or outside the limits by more than 1 % of the range.
        """
        position = np.array(position, np.float64)
        if position.shape != (self.limits.size,):
            raise ConfigError(f"a position has {self.limits.size} numbers, found shape {position.shape}")
        low, high = np.array(self.limits.low), np.array(self.limits.high)
        beyond = _BEYOND * (high - low)
        outside = ~((position >= low - beyond) & (position <= high + beyond))
        if outside.any():
            place = int(np.flatnonzero(outside)[0])
            span = f"[{low[place]:g}, {high[place]:g}]"
            raise BodyFault(f"channel {place} is at {position[place]:g}, outside of {span}: move it back by hand")
        self._low, self._high = np.minimum(low, position), np.maximum(high, position)
        self.state = MotionState(position, np.zeros(self.limits.size), np.zeros(self.limits.size))
        return self.state

    def step(
        self,
        position: Float64[np.ndarray, "n"],
        velocity: Float64[np.ndarray, "n"] | None = None,
        acceleration: Float64[np.ndarray, "n"] | None = None,
        end: Float64[np.ndarray, "n"] | None = None,
    ) -> MotionState:
        """Move for one period towards a target.

        Args:
            position: of the target at the beginning of the period; cut to the limits.
            velocity: with which it moves; 0 if None; cut to the limits.
            acceleration: of the target; 0 if None; cut to the limits.
            end: that no channel passes, coming from where it is; one that can no longer stop before it goes no farther
                than it must. A standing target is reached without this, a moving one is caught up with and overshot.

        Raises:
            BodyFault: the target is not finite.
        """
        none = np.zeros(self.limits.size)
        speed = none if velocity is None else np.asarray(velocity, np.float64)
        push = none if acceleration is None else np.asarray(acceleration, np.float64)
        if not (np.isfinite(position).all() and np.isfinite(speed).all() and np.isfinite(push).all()):
            raise BodyFault(f"a target is finite, found {position} moving at {speed}, accelerating at {push}")
        target = np.clip(position, self.limits.low, self.limits.high)
        inside = target == position  # it does not move on beyond the end
        speed = np.where(inside, np.clip(speed, -_SHARE * self._velocity, _SHARE * self._velocity), 0.0)
        push = np.where(inside, np.clip(push, -_SHARE * self._acceleration, _SHARE * self._acceleration), 0.0)
        later = np.clip(speed + push * self.period, -_SHARE * self._velocity, _SHARE * self._velocity)
        self.state = self._first_allowed(target, speed, (later - speed) / self.period, end)
        return self.state

    def brake(self) -> MotionState:
        """Come to rest as fast as the limits allow; one period of it."""
        self.state = self._braked(self.state)
        return self.state

    def _first_allowed(
        self, target: np.ndarray, speed: np.ndarray, push: np.ndarray, end: np.ndarray | None
    ) -> MotionState:
        """After a period: each channel as fast as it can catch up and still keep its limits later, or else braking."""
        chosen = self._braked(self.state)
        within = (self._low, self._high) if end is None else self._up_to(end)  # by the way to rest just planned
        waiting = np.ones(self.limits.size, bool)
        # a frame that accelerates may lead to where the limit of speed is not kept later; one that does not, cannot
        for frame in (push, np.zeros(self.limits.size)) if push.any() else (push,):
            state = self._caught_up(target, speed, frame)
            if state is not None:
                taken = waiting & self._allowed(state, *within)
                chosen = MotionState(
                    np.where(taken, state.position, chosen.position),
                    np.where(taken, state.velocity, chosen.velocity),
                    np.where(taken, state.acceleration, chosen.acceleration),
                )
                waiting &= ~taken
            if not waiting.any():
                break
        return chosen

    def _caught_up(self, target: np.ndarray, speed: np.ndarray, push: np.ndarray) -> MotionState | None:
        """After a period on the fastest way to be where the target is and to move as it does; None if none is found."""
        state, values, period = self.state, self._chase, self.period
        later = speed + push * period
        values.current_position = (state.position - target).tolist()
        values.current_velocity = (state.velocity - speed).tolist()
        values.current_acceleration = (state.acceleration - push).tolist()
        # what is allowed, as seen from the frame, for as long as this period lasts
        values.max_velocity = (self._velocity - np.maximum(speed, later)).tolist()
        values.min_velocity = (-self._velocity - np.minimum(speed, later)).tolist()
        values.max_acceleration = (self._acceleration - push).tolist()
        values.min_acceleration = (-self._acceleration - push).tolist()
        if self._failure(values):
            return None
        position, velocity, acceleration = (np.array(one) for one in self._path.at_time(period))
        moved = target + (speed + 0.5 * push * period) * period
        return MotionState(position + moved, velocity + later, acceleration + push)

    def _braked(self, state: MotionState) -> MotionState:
        self._plan_rest(state)
        moved, velocity, acceleration = (np.array(one) for one in self._path.at_time(self.period))
        return MotionState(state.position + moved, velocity, acceleration)

    def _allowed(self, state: MotionState, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Which channels could still end their acceleration in time for the speed, and their speed for the position."""
        peak = state.velocity + state.acceleration * np.abs(state.acceleration) / (2 * self._jerk)
        fast = np.abs(peak) <= self._velocity * (1 + 1e-9)
        self._plan_rest(state)
        least, most = self._extremes(state)
        slack = 1e-9 * np.maximum(1.0, np.abs(state.position))
        return fast & (least >= low - slack) & (most <= high + slack)

    def _up_to(self, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The limits, narrowed to what lies between here and there, and what the planned way to rest needs anyway."""
        least, most = self._extremes(self.state)
        least, most = np.minimum(self.state.position, least), np.maximum(self.state.position, most)
        return np.maximum(self._low, np.minimum(end, least)), np.minimum(self._high, np.maximum(end, most))

    def _extremes(self, state: MotionState) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest position on the way to rest that was planned last, from that state."""
        found = self._path.position_extrema
        return state.position + [one.min for one in found], state.position + [one.max for one in found]

    def _plan_rest(self, state: MotionState) -> None:
        """The way to rest, counted from where it begins: Ruckig takes 0 for one of the extremes of such a way."""
        values = self._rest
        values.current_velocity, values.current_acceleration = state.velocity.tolist(), state.acceleration.tolist()
        failure = self._failure(values)
        if failure:
            raise BodyFault(f"no way to come to rest within the limits: {failure}")

    def _failure(self, values: Any) -> str:
        """Plan; why that failed, or nothing. Ruckig raises for what it refuses, and has codes that it cannot name."""
        try:
            result = self._generator.calculate(values, self._path)
        except (self._error, ValueError) as error:
            return str(error)
        return "" if result.value >= 0 else str(result)
