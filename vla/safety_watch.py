"""What is watched over time: does the body's clock run, do its cameras see, do its joints answer, does a policy think.

A watch looks at each observation (or action) and says what is wrong, or nothing. One that has spoken starts anew, so
that a fault that was repaired does not stop the arm for ever.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from vla.experience import Image, Observation
from vla.safety_limits import SafetyLimits

_MOVED = 0.005  # [m] or [rad], away from where a camera's picture last changed: as far as a person sees in a picture
_TOLD = 0.02  # [m] or [rad] of motion commanded, summed up: a stuck state's arm would have moved by then


class Alarm(NamedTuple):
    """What is wrong: the rule, words for a person, and the number that is out of its limit."""

    rule: str
    what: str
    value: float


@runtime_checkable
class Estoppable(Protocol):
    """A body with an e-stop of its own, which works from any thread, whatever the body does meanwhile."""

    def estop(self, reason: str) -> None:
        """Brake now and refuse to move until released; never raises."""
        ...

    def release(self) -> None:
        """It may move again.

        Raises:
            BodyFault: it does not answer.
        """
        ...


class Standstill:
    """``frozen``: the measured time stands still although commands are sent."""

    def __init__(self, limits: SafetyLimits):
        self._limit = limits.max_age
        self._time, self._advanced_at, self._commands = math.nan, -math.inf, 0

    def command(self) -> None:
        """One was sent."""
        self._commands += 1

    def look(self, observation: Observation, asked: float, got: float) -> Alarm | None:
        """Judge an observation; ``asked`` and ``got`` are this process's clock before and after [s]."""
        if observation.time != self._time:
            self._time, self._advanced_at, self._commands = observation.time, got, 0
        still = got - self._advanced_at
        if not self._commands or still <= self._limit:
            return None
        what = f"measured time stands still at {observation.time:g} s although commands were sent"
        return Alarm("frozen", what, still)


class ClockWatch:
    """``clock``: the measured time goes back, or leaps away from the time that passes here.

    An observation was made between asking and getting it, so the difference of the clocks lies in an interval. As long
    as the clocks run alike, all intervals have a point in common (Marzullo 1984); network delay only widens them.
    """

    def __init__(self, limits: SafetyLimits):
        self._slack = limits.clock_jump
        self._start()

    def _start(self) -> None:
        self._least, self._most, self._last = -math.inf, math.inf, -math.inf

    def look(self, observation: Observation, asked: float, got: float) -> Alarm | None:
        """Judge an observation; see :class:`Standstill`."""
        if math.isinf(self._slack):
            return None
        back, self._last = self._last - observation.time, observation.time
        self._least = max(self._least, observation.time - got)
        self._most = min(self._most, observation.time - asked)
        leap = self._least - self._most
        if back <= 0 and leap <= self._slack:
            # clocks drift: what was seen long ago is given up slowly, 1 ms a look
            self._least, self._most = self._least - 0.001, self._most + 0.001
            return None
        self._start()
        if back > 0:
            return Alarm("clock", f"measured time went back by {back:.3f} s to {observation.time:g} s", back)
        return Alarm("clock", f"measured time leapt by {leap:.3f} s to {observation.time:g} s", leap)


@dataclass
class _Seen:
    picture: Image
    state: Float32[np.ndarray, "s"]
    times: int = 1


class CameraWatch:
    """``camera_black`` and ``camera_frozen``: a picture of nothing, or of the past, though the arm moves."""

    def __init__(self, limits: SafetyLimits):
        self._black, self._most = limits.black, limits.frozen_pictures
        self._seen: dict[str, _Seen] = {}

    def look(self, observation: Observation, asked: float, got: float) -> Alarm | None:
        """Judge an observation; see :class:`Standstill`."""
        for camera, picture in observation.images.items():
            if self._black >= 0 and (brightest := int(picture.max())) <= self._black:
                return Alarm("camera_black", f"camera {camera} sees nothing brighter than {brightest}", brightest)
            if not self._most:
                continue
            seen = self._seen.get(camera)
            if seen is None or not np.array_equal(seen.picture, picture):
                self._seen[camera] = _Seen(picture.copy(), observation.state)
                continue
            seen.times += 1
            moved = float(np.abs(observation.state - seen.state).max(initial=0.0))
            if seen.times >= self._most and moved > _MOVED:
                del self._seen[camera]
                what = f"camera {camera} showed the same picture {seen.times} times while the arm moved by {moved:.3f}"
                return Alarm("camera_frozen", what, seen.times)
        return None


class StuckWatch:
    """``stuck``: the measured state is the same to the last bit, though motion is commanded."""

    def __init__(self, limits: SafetyLimits):
        self._most = limits.stuck
        self._state: np.ndarray | None = None
        self._times, self._told = 0, 0.0

    def command(self, motion: float) -> None:
        """So much was commanded [m or rad]."""
        self._told += motion

    def look(self, observation: Observation, asked: float, got: float) -> Alarm | None:
        """Judge an observation; see :class:`Standstill`."""
        if not self._most:
            return None
        if self._state is None or not np.array_equal(self._state, observation.state):
            self._state, self._times, self._told = observation.state.copy(), 1, 0.0
            return None
        self._times += 1
        if self._times < self._most or self._told < _TOLD:
            return None
        times, self._state = self._times, None
        return Alarm("stuck", f"the same state was measured {times} times though {self._told:.3f} was commanded", times)


class RepeatWatch:
    """``repeated``: a policy says, moving, what it said before to the last bit, again and again: it looks no more.

    A chunk of different actions that comes again and again is such a policy too, so an action counts as said before if
    it is among the last 64.
    """

    def __init__(self, limits: SafetyLimits):
        self._most = limits.repeated
        self._said: deque[bytes] = deque(maxlen=64)
        self._times = 0

    def command(self, action: Float32[np.ndarray, "a"], *, moves: bool) -> Alarm | None:
        """Judge an action."""
        if not self._most:
            return None
        said = action.tobytes()
        self._times = self._times + 1 if moves and said in self._said else 0
        self._said.append(said)
        if self._times < self._most - 1:
            return None
        times, self._times = self._times + 1, 0
        self._said.clear()
        return Alarm("repeated", f"{times} actions in a row were said before", times)
