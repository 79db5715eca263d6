"""A body that refuses what no arm should do, on by default, whatever the policy, a camera or the network does.

::

    Body.observe ─▶ time runs? ─▶ clocks agree? ─▶ cameras see? ─▶ state alive? ─▶ policy
                     └────────────────── stop and raise BodyFault ──────────────┘
    policy ─▶ command ─▶ e-stop? finite? fresh? repeated? ─▶ change, step, rotation, joints, workspace ─▶ Body.command
                         └────── stop and raise ────────┘    └───────── clamp, log and go on ────────┘

It wraps any :class:`~vla.protocols.Body` and is one. It runs in the policy's process, so it cannot outlive it: the
arm's own controller (on the other side of the socket) covers a policy that is dead or hangs. Each rule is one function
of :mod:`vla.safety_rules` (clamps) or one class of :mod:`vla.safety_watch` (stops); what is allowed is declared in
:mod:`vla.safety_limits`, with numbers beside the robot's embodiment.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np
from jaxtyping import Float32, Float64

from vla import safety_rules
from vla.anchoring import CountsFrom
from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault, PolicyFault
from vla.experience import Observation
from vla.protocols import Body
from vla.safety_channels import Places
from vla.safety_limits import JointLimits, SafetyLimits
from vla.safety_watch import Alarm, CameraWatch, ClockWatch, Estoppable, RepeatWatch, Standstill, StuckWatch
from vla.tool_pose import Pose

__all__ = ["RULES", "JointLimits", "SafeBody", "SafetyEvent", "SafetyLimits"]

RULES: dict[str, Literal["clamp", "stop"]] = {
    "shape": "stop",
    "finite": "stop",
    "stale": "stop",
    "frozen": "stop",
    "clock": "stop",
    "camera_black": "stop",
    "camera_frozen": "stop",
    "stuck": "stop",
    "repeated": "stop",
    "heartbeat": "stop",
    "estop": "stop",
    "acceleration": "clamp",
    "translation": "clamp",
    "rotation": "clamp",
    "joint_velocity": "clamp",
    "joint_position": "clamp",
    "workspace": "clamp",
}
"""What each rule does."""


@dataclass(frozen=True)
class SafetyEvent:
    """One intervention.

    Attributes:
        time: of the observation that the refused or changed action answers, on the body's clock [s].
        rule: one of :data:`RULES`.
        what: for a person.
        value: the number that was out of its limit [m, rad or s]; NaN where there is none.
    """

    time: float
    rule: str
    what: str
    value: float

    @property
    def does(self) -> Literal["clamp", "stop"]:
        """Whether the action was changed or the arm was stopped."""
        return RULES[self.rule]


class SafeBody:
    """A body within limits. Its e-stop works from any thread; the rest is for one thread.

    Args:
        body: what moves.
        limits: see :class:`SafetyLimits`.
        on_event: told of every intervention as it happens, of the e-stop in the thread that pressed it; ``events``
            has them all.
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
        self._lock = threading.RLock()  # one call of the body at a time: few drivers bear more
        self._pressed = ""
        self._seen: Observation | None = None
        self._seen_at = -math.inf
        self._told_at: float | None = None  # when the last command was sent; None while the arm is told to stand
        self._before: np.ndarray | None = None  # the last translation
        self._still, self._stuck, self._repeat = Standstill(limits), StuckWatch(limits), RepeatWatch(limits)
        self._watches = (self._still, ClockWatch(limits), CameraWatch(limits), self._stuck)
        self._action, self._at = body.spec.action, Places.of(body.spec, limits)

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
            BodyFault: a rule about what is measured, or the e-stop; the body was told to stop.
        """
        with self._lock:
            asked = self._clock()
            observation = self.body.observe(images=images)
            got = self._clock()
            self._check_estop()
            alarms = [watch.look(observation, asked, got) for watch in self._watches]
            self._seen, self._seen_at = observation, got
            for alarm in alarms:
                if alarm:
                    self._refuse(alarm, BodyFault)
            return observation

    def command(self, action: Float32[np.ndarray, "a"]) -> Float32[np.ndarray, "a"]:
        """Clamp and send; returns what was really sent.

        Raises:
            PolicyFault: the action is not finite, has the wrong shape, answers no or too old an observation, or is the
                same too often; the body was told to stop and the action was not sent.
            BodyFault: the e-stop is pressed.
        """
        with self._lock:
            self._check_estop()
            action = np.asarray(action)
            if alarm := self._unfit(action):
                self._refuse(alarm, PolicyFault)
            clamped = self._clamped(action)
            self._still.command()
            self._told_at = self._clock()
            return self.body.command(clamped)

    def counts_from(self) -> Pose | None:
        """The body's own; see :class:`~vla.anchoring.CountsFrom`."""
        with self._lock:
            return self.body.counts_from() if isinstance(self.body, CountsFrom) else None

    def stop(self) -> None:
        """Hold still now."""
        with self._lock:
            self._stop()

    def close(self) -> None:
        """Stop and close the body."""
        with self._lock:
            self._told_at = None
            self.body.close()

    def estop(self, reason: str = "the operator pressed it") -> None:
        """Stop now and refuse everything until :meth:`reset`; from any thread, whatever the body is doing.

        A body with an e-stop of its own stops at once; any other one as soon as its present call has ended.
        """
        first, self._pressed = not self._pressed, self._pressed or reason
        if isinstance(self.body, Estoppable):
            self.body.estop(reason)
        if first:
            self._log(Alarm("estop", f"e-stop: {reason}", math.nan))  # before a busy body lets go of the lock
            with self._lock:
                self._stop()

    def reset(self) -> None:
        """The operator says that it may move again.

        Raises:
            BodyFault: the body does not answer.
        """
        with self._lock:
            if isinstance(self.body, Estoppable):
                self.body.release()
            self._pressed = ""

    def check(self) -> None:
        """Stop an arm that has not been commanded for ``heartbeat``, though it was not told to stop."""
        with self._lock:
            if self._told_at is None or (silent := self._clock() - self._told_at) <= self.limits.heartbeat:
                return
            self._stop()
            self._log(Alarm("heartbeat", f"no command for {silent:.3f} s", silent))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Have a thread :meth:`check` while the block runs; an arm that cannot be told to stop is told again."""
        over = threading.Event()

        def watch() -> None:
            told = False
            while not over.wait(self.limits.heartbeat / 4):
                try:
                    self.check()
                except BodyFault as error:
                    if not told:
                        self._log(Alarm("heartbeat", f"the arm could not be told to stop: {error}", math.nan))
                    told = True

        if math.isinf(self.limits.heartbeat):
            yield
            return
        thread = threading.Thread(target=watch, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _unfit(self, action: np.ndarray) -> Alarm | None:
        """Why an action is not sent at all."""
        if action.shape != (self._action.size,) or action.dtype.kind != "f":
            what = f"an action is {self._action.size} floats, found {action.dtype} of shape {action.shape}"
            return Alarm("shape", what, math.nan)
        if not np.isfinite(action).all():
            place = int(np.flatnonzero(~np.isfinite(action))[0])
            return Alarm(
                "finite", f"action channel {self._action.names[place]} is {action[place]}", float(action[place])
            )
        if self._seen is None:
            return Alarm("stale", "an action before any observation", math.inf)
        age = self._clock() - self._seen_at
        if age > self.limits.max_age:
            what = f"the action answers an observation {age:.3f} s old, the limit is {self.limits.max_age:g} s"
            return Alarm("stale", what, age)
        motion = np.abs(action[[*self._at.shift, *self._at.turn, *self._at.joints]]).max(initial=0.0)
        moves = bool(motion > 0) and self._action.mode == "delta"
        return self._repeat.command(action.astype(np.float32), moves=moves)

    def _clamped(self, action: np.ndarray) -> Float32[np.ndarray, "a"]:
        at, absolute = self._at, self._action.mode == "absolute"
        values = action.astype(np.float64) * at.scale  # physical units
        before, motion = values.copy(), 0.0
        if at.shift:
            here = self._measured(at.here) if at.here else np.zeros(3)
            origin = here if absolute else np.zeros(3)
            step = safety_rules.change(values[at.shift] - origin, self._before, self.limits, self._tell)
            step = safety_rules.translation(step, self.limits, self._tell)
            step = safety_rules.workspace(step, here, self.limits, self._tell)
            self._before, motion = step, float(np.linalg.norm(step))
            if not np.array_equal(step, before[at.shift] - origin):
                values[at.shift] = origin + step
        if at.turn:
            values[at.turn] = safety_rules.turn(values[at.turn], self._action.rotation, self.limits, self._tell)
        if at.joints:
            here = self._measured(at.joints_here)
            origin = here if absolute else np.zeros(len(here))
            names = tuple(self._action.names[place] for place in at.joints)
            step = safety_rules.joints(values[at.joints] - origin, here, at.bounds, names, self._tell)
            motion = max(motion, float(np.abs(step).max()))
            if not np.array_equal(step, before[at.joints] - origin):
                values[at.joints] = origin + step
        self._stuck.command(motion)
        if np.array_equal(values, before):
            return action.astype(np.float32)  # untouched, to the last bit
        return (values / at.scale).astype(np.float32)

    def _measured(self, places: list[int]) -> Float64[np.ndarray, "n"]:
        if self._seen is None:
            raise BodyFault("nothing was measured yet")
        return self._seen.state[places].astype(np.float64) * self._at.state_scale[places]

    def _tell(self, rule: str, what: str, value: float) -> None:
        self._log(Alarm(rule, what, value))

    def _log(self, alarm: Alarm) -> None:
        event = SafetyEvent(self._seen.time if self._seen else math.nan, *alarm)
        self._events.append(event)
        if self._on_event:
            self._on_event(event)

    def _stop(self) -> None:
        self.body.stop()
        self._told_at = self._before = None  # only once it was told: the heartbeat would not try again

    def _check_estop(self) -> None:
        if self._pressed:
            self._stop()
            raise BodyFault(f"the e-stop is pressed ({self._pressed}); the arm was stopped")

    def _refuse(self, alarm: Alarm, fault: type[PolicyFault] | type[BodyFault]) -> NoReturn:
        self._stop()  # first of all
        self._log(alarm)
        raise fault(f"{alarm.what}; the arm was stopped")
