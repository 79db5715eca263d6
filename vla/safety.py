"""A body that refuses what no arm should do: NaN, leaps, targets outside the workspace, answers to old observations.

::

    policy ─▶ SafeBody.command ─▶ finite? ─▶ fresh? ─▶ step size ─▶ workspace ─▶ Body.command ─▶ what was really sent
                                   └─ stop and raise ─┘  └── clamp, log and go on ──┘

It wraps any :class:`~vla.protocols.Body` and is one. It runs in the policy's process, so it cannot outlive it: the
arm's own watchdog (on the other side of the socket) covers a policy that is dead or hangs.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from jaxtyping import Float32, Float64

from vla import rotation
from vla.embodiment import ROTATION_SIZE, Channel, EmbodimentSpec
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.experience import Observation
from vla.protocols import Body

_SLACK = 1e-6  # [m] or [rad]; float32 rounding is no intervention


@dataclass(frozen=True)
class SafetyLimits:
    """What a body may be told to do.

    Attributes:
        max_translation: longest translation of one control step [m].
        max_rotation: largest rotation of one control step [rad].
        low: lower corner of the box that targets stay in, base frame [m]; its last number is the table plane.
        high: upper corner [m].
        max_age: oldest observation that an action may answer [s]; also how long the measured time may stand still
            after a command.

    Raises:
        ConfigError: a limit is not above 0, or the box is empty.
    """

    max_translation: float = math.inf
    max_rotation: float = math.inf
    low: tuple[float, float, float] = (-math.inf, -math.inf, -math.inf)
    high: tuple[float, float, float] = (math.inf, math.inf, math.inf)
    max_age: float = 1.0

    def __post_init__(self):
        for name in ("max_translation", "max_rotation", "max_age"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, found {getattr(self, name)}")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"workspace: each of low {self.low} must be below high {self.high}")

    @property
    def box(self) -> bool:
        """Whether any side of the workspace is limited."""
        return bool(np.isfinite([self.low, self.high]).any())


@dataclass(frozen=True)
class SafetyEvent:
    """One intervention.

    Attributes:
        time: of the observation that the refused or changed action answers, on the body's clock [s].
        rule: ``"shape"``, ``"finite"``, ``"stale"`` and ``"frozen"`` stop; ``"translation"``, ``"rotation"`` and
            ``"workspace"`` clamp.
        what: for a person.
        value: the number that was out of its limit [m, rad or s]; NaN where there is none.
    """

    time: float
    rule: str
    what: str
    value: float


class SafeBody:
    """A body within limits.

    Args:
        body: what moves.
        limits: see :class:`SafetyLimits`.
        on_event: told of every intervention as it happens; ``events`` has them all.
        clock: of this process [s]; ages are measured on it.

    Raises:
        ConfigError: a limit cannot be watched with the body's channels.
    """

    def __init__(
        self,
        body: Body,
        limits: SafetyLimits,
        *,
        on_event: Callable[[SafetyEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.body, self.limits = body, limits
        self._on_event, self._clock = on_event, clock
        self._events: list[SafetyEvent] = []
        self._seen: Observation | None = None
        self._seen_at = self._advanced_at = -math.inf
        self._unanswered = 0  # commands since the measured time last advanced
        self._action = body.spec.action
        self._here = _places("state", body.spec.state, "position", limits.box or self._absolute)
        bounded = limits.box or math.isfinite(limits.max_translation)
        self._shift = _places("action", self._action.channels, "position", bounded)
        self._turn = [i for i, channel in enumerate(self._action.channels) if channel.kind == "rotation"]
        self._scale = np.array([channel.scale for channel in self._action.channels])
        self._check_frames(bounded)

    @property
    def spec(self) -> EmbodimentSpec:
        """The body's own."""
        return self.body.spec

    @property
    def events(self) -> tuple[SafetyEvent, ...]:
        """All interventions so far."""
        return tuple(self._events)

    def observe(self, *, images: bool = True) -> Observation:
        """The body's observation.

        Raises:
            BodyFault: its measured time stands still although commands were sent; the body was told to stop.
        """
        observation = self.body.observe(images=images)
        now = self._clock()
        if self._seen is None or observation.time != self._seen.time:
            self._advanced_at, self._unanswered = now, 0
        self._seen, self._seen_at = observation, now
        if self._unanswered and now - self._advanced_at > self.limits.max_age:
            what = f"measured time stands still at {observation.time:g} s although commands were sent"
            self._refuse("frozen", what, now - self._advanced_at, BodyFault)
        return observation

    def command(self, action: Float32[np.ndarray, "a"]) -> Float32[np.ndarray, "a"]:
        """Clamp and send; returns what was really sent.

        Raises:
            PolicyFault: the action is not finite, has the wrong shape, or answers no or too old an observation; the
                body was told to stop and the action was not sent.
        """
        action = np.asarray(action)
        if action.shape != (self._action.size,) or action.dtype.kind != "f":
            what = f"an action is {self._action.size} floats, found {action.dtype} of shape {action.shape}"
            self._refuse("shape", what, math.nan, PolicyFault)
        if not np.isfinite(action).all():
            place = int(np.flatnonzero(~np.isfinite(action))[0])
            what = f"action channel {self._action.names[place]} is {action[place]}"
            self._refuse("finite", what, float(action[place]), PolicyFault)
        if self._seen is None:
            self._refuse("stale", "an action before any observation", math.inf, PolicyFault)
        age = self._clock() - self._seen_at
        if age > self.limits.max_age:
            what = f"the action answers an observation {age:.3f} s old, the limit is {self.limits.max_age:g} s"
            self._refuse("stale", what, age, PolicyFault)
        self._unanswered += 1
        return self.body.command(self._clamped(action))

    def stop(self) -> None:
        """Hold still now."""
        self.body.stop()

    def close(self) -> None:
        """Stop and close the body."""
        self.body.close()

    @property
    def _absolute(self) -> bool:
        return self._action.mode == "absolute"

    def _clamped(self, action: np.ndarray) -> Float32[np.ndarray, "a"]:
        values = action.astype(np.float64) * self._scale  # physical units
        before = values.copy()
        if self._shift:
            values[self._shift] = self._translation(values[self._shift])
        if self._turn and math.isfinite(self.limits.max_rotation):
            values[self._turn] = self._rotation(values[self._turn])
        if np.array_equal(values, before):
            return action.astype(np.float32)  # untouched, to the last bit
        return (values / self._scale).astype(np.float32)

    def _translation(self, values: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"]:
        here = self._position() if self._here else np.zeros(3)
        step = values - here if self._absolute else values
        length = float(np.linalg.norm(step))
        if length > self.limits.max_translation + _SLACK:
            self._log("translation", f"a step of {length:.4f} m was shortened", length)
            step = step * (self.limits.max_translation / length)
        if self.limits.box:
            # outside the box, only the way back is open, and nobody is pushed: the bound is then 0, not a leap
            least = np.minimum(np.array(self.limits.low) - here, 0.0)
            most = np.maximum(np.array(self.limits.high) - here, 0.0)
            inner = np.clip(step, least, most)
            beyond = float(np.abs(step - inner).max())
            if beyond > _SLACK:
                axis = "xyz"[int(np.abs(step - inner).argmax())]
                self._log("workspace", f"target {beyond:.4f} m outside the workspace along {axis}", beyond)
                step = inner
        return here + step if self._absolute else step

    def _rotation(self, values: Float64[np.ndarray, "r"]) -> Float64[np.ndarray, "r"]:
        form = self._action.rotation
        if form is None:
            return values
        turn = rotation.convert(values, form, "axis_angle")
        angle = float(np.linalg.norm(turn))
        if angle <= self.limits.max_rotation + _SLACK:
            return values
        self._log("rotation", f"a rotation of {angle:.3f} rad was reduced", angle)
        return rotation.convert(turn * (self.limits.max_rotation / angle), "axis_angle", form)

    def _position(self) -> Float64[np.ndarray, "3"]:
        if self._seen is None:
            raise BodyFault("no measured position yet")
        scales = [self.body.spec.state[place].scale for place in self._here]
        return self._seen.state[self._here].astype(np.float64) * scales

    def _log(self, rule: str, what: str, value: float) -> None:
        event = SafetyEvent(self._seen.time if self._seen else math.nan, rule, what, value)
        self._events.append(event)
        if self._on_event:
            self._on_event(event)

    def _refuse(self, rule: str, what: str, value: float, fault: type[PolicyFault] | type[BodyFault]) -> NoReturn:
        self.body.stop()  # first of all
        self._log(rule, what, value)
        raise fault(f"{what}; the arm was stopped")

    def _check_frames(self, bounded: bool) -> None:
        if bounded and self._action.frame != "base" and (self.limits.box or self._absolute):
            raise ConfigError(f"a workspace box needs actions in the base frame, found {self._action.frame!r}")
        if not math.isfinite(self.limits.max_rotation):
            return
        if self._absolute:
            raise ConfigError("max_rotation limits changes of rotation; these actions are absolute")
        if self._turn and len(self._turn) != ROTATION_SIZE[self._action.rotation or "axis_angle"]:
            raise ConfigError(f"max_rotation limits one rotation, the action has {len(self._turn)} rotation channels")


def _places(what: str, channels: tuple[Channel, ...], kind: str, wanted: bool) -> list[int]:
    places = [index for index, channel in enumerate(channels) if channel.kind == kind and channel.unit == "m"]
    if len(places) == 3:
        return places
    if wanted:
        raise ConfigError(f"translation limits need three {kind} channels in the {what}, found {len(places)}")
    return []
