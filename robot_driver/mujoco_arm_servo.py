"""A simulated arm whose time runs with a clock, commanded or not, and that stops when nobody commands it.

::

    command ─▶ tracking ──no command for 0.15 s, stop, client gone, limit broken──▶ braking ──slow enough──▶ holding
                  ▲                                                                     │                       │
                  └────────────────────────────── the next command ─────────────────────┴───────────────────────┘

No sockets here: :mod:`vla.robot_driver.mujoco_arm_desk` turns requests into calls and answers. What is simulated is an
:class:`ArmWorld`, handed in by whoever composes the two. Its rules, each of which acts within one physics step::

    shape, finite   stop    an action has the wrong size, a NaN or an infinity
    stale           stop    it answers no observation, or one that is too old or of the future
    order           stop    it is older than one that was obeyed already: sent again, or overtaken
    step            clamp   it is larger than the arm's channels allow
    heartbeat       stop    no action for ``command_timeout``
    clock           stop    the clock leaps, or goes back: then until the scene is reset
    client          stop    the client says stop, closes, breaks the protocol or is gone
    estop           stop    somebody pressed it; nothing moves until it is released
    tool_speed      stop    the tool was measured above its limit; until the scene is reset
    joint_position, joint_velocity, joint_acceleration, joint_torque, workspace, table, gripper
                    clamp   of a world with joints (:mod:`vla.safety_joints`); the first three, measured beyond the
                            limit all the same, stop until the scene is reset
    joint_position, joint_velocity
                    stop    of a world whose joints are only watched: measured beyond the limit; until the reset
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.robot_driver.arm_joints import GuardedJoints, broken
from vla.robot_driver.arm_world import ArmWorld, JointWorld, WatchedWorld
from vla.safety_joints import JointGuard

Mode = Literal["tracking", "braking", "holding"]
MODES: tuple[Mode, ...] = ("tracking", "braking", "holding")

STOPPED = 0.005
"""Speed of the tool below which the arm counts as standing [m/s]."""

STOP_GIVE = 0.02
"""How far a watched world's joint may be pressed beyond its stop, which gives in a simulation: people who teleoperated
LIBERO's Panda were up to 0.009 beyond [rad]."""

HURRY = 2.0
"""How many times its largest speed a watched world's joint may have: LIBERO's controller knows none, and where it drags
a drawer or a pot a joint reaches 1.5 times the Panda's in runs that are as they should be."""

_SLOW = 0.05  # [m/s]; below it the goal stays where it is: against a steady force, damping alone would drift on
_SAMPLE = 0.01  # [s] between two measurements of the speed
_TRACE_SECONDS = 30.0
_MAX_LAG = 0.25  # [s]; further behind, time is given up instead of being made up for
_QUIET = 0.5  # [s] without acting, after which a clamping rule is logged again


@dataclass(frozen=True)
class ServoLimits:
    """What the arm's own controller enforces, whatever its client does.

    Attributes:
        command_timeout: without a command for this long the arm brakes [s]. Taking pictures does not count.
        max_age: oldest observation that a command may answer [s].
        max_speed: of the tool; above it the arm brakes and refuses commands until the next reset [m/s]. The default is
            the Panda's own Cartesian limit (Franka Control Interface, "Robot and interface specifications").
        joints: whether a :class:`JointWorld` is driven within its joint limits, and a :class:`WatchedWorld` is stopped
            beyond them; without, to show what they are for.
    """

    command_timeout: float = 0.15
    max_age: float = 1.0
    max_speed: float = 1.7
    joints: bool = True

    def __post_init__(self):
        for name in ("command_timeout", "max_age", "max_speed"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, found {getattr(self, name)}")


class Servo:
    """The arm's controller: its clock, its watchdog and its limits.

    Args:
        world: what is simulated.
        limits: see :class:`ServoLimits`.
        clock: the wall clock [s]; the default is shared by all processes of a machine.
        log: told of every change of mode, reset and rule that acts, with JSON values.
    """

    def __init__(
        self,
        world: ArmWorld,
        limits: ServoLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        log: Callable[[dict[str, Any]], None] | None = None,
    ):
        self.world, self.limits, self.spec = world, limits, world.spec
        self._clock, self._log = clock, log
        self._dt = world.substep_seconds
        channels = self.spec.action.channels
        self._low = np.array([channel.low / channel.scale for channel in channels])
        self._high = np.array([channel.high / channel.scale for channel in channels])
        self._every = max(1, round(_SAMPLE / self._dt))
        self._joints: GuardedJoints | None = None
        if isinstance(world, JointWorld):
            guard = JointGuard(world.joint_limits, world.reach, self._dt) if limits.joints else None
            self._joints = GuardedJoints(world, guard)
        self._watched = world if isinstance(world, WatchedWorld) and limits.joints else None
        self.events: deque[dict[str, Any]] = deque(maxlen=1000)
        self._trace: deque[tuple[float, float, float, int]] = deque(maxlen=int(_TRACE_SECONDS / _SAMPLE))
        self.mode: Mode = "holding"
        self._fault = self._estop = ""
        self._acted_at: dict[str, float] = {}
        self.rules: dict[str, int] = {}
        self.speed = 0.0
        self._steps = self._gap = 0.0  # arm time is both together: simulated, and passed by without being simulated
        self._substeps, self._deadline = 0, math.inf
        self._busy = self._slipped = self._worst_lag = self._render_s = 0.0
        self._renders = 0
        self.forget_client()
        world.hold()
        self._here = self._tool()
        self._begin = clock()

    @property
    def time(self) -> float:
        """The arm's clock [s], from its start; tracks the wall clock."""
        return self._steps + self._gap

    @property
    def lag(self) -> float:
        """How far the arm's clock is behind the wall clock [s]."""
        return self._clock() - self._begin - self.time

    def advance(self, most: int = 8) -> float:
        """Simulate up to ``most`` physics steps that are due; returns the lag that is left [s]."""
        lag = self.lag
        self._worst_lag = max(self._worst_lag, lag)
        if abs(lag) > _MAX_LAG:
            return self._leapt(lag)
        begin = self._clock()
        for _ in range(min(most, int(lag / self._dt + 1e-6))):
            self._substep()
        self._busy += self._clock() - begin
        return self.lag

    def command(self, action: Any, after: Any) -> Float32[np.ndarray, "a"]:
        """Move towards an action from the present pose; returns what was really made the goal, after clipping.

        Args:
            action: in the order and units of the spec.
            after: time of the observation that it answers, on the arm's clock [s].

        Raises:
            PolicyFault: not finite, wrong shape, too old or out of order; the arm brakes.
            BodyFault: the arm was stopped by its own limits and waits for a reset, or for the release of its e-stop.
        """
        if self._estop or self._fault:
            raise BodyFault(self._why_not())
        size = self.spec.action.size
        if not isinstance(action, np.ndarray) or action.shape != (size,) or action.dtype != np.float32:
            raise self._refused("shape", f"an action is {size} numbers of float32")
        if not np.isfinite(action).all():
            raise self._refused("finite", f"an action is finite, found {action}")
        age = self.time - after if isinstance(after, float) else math.nan
        if not -self._dt <= age <= self.limits.max_age:
            what = f"the action answers an observation {age:.3f} s old, the limit is {self.limits.max_age} s"
            raise self._refused("stale", what)
        if after < self._after:
            raise self._refused(
                "order", f"the action answers {after:.3f} s, after one that answers {self._after:.3f} s"
            )
        self._after = after
        sent = np.clip(action, self._low, self._high).astype(np.float32)
        if not np.array_equal(sent, action):
            self.note("step", f"a step of {np.abs(action).max():.3g} was clipped")
        self.world.set_goal(sent)
        self._deadline = self.time + self.limits.command_timeout
        if self.mode != "tracking":
            self._change("tracking", "a command", "")
        return sent

    def brake(self, reason: str, rule: str = "client") -> None:
        """Come to rest as fast as the controller can, then hold; until the next command."""
        if self.mode == "tracking":
            self.rules[rule] = self.rules.get(rule, 0) + 1
            self._halt(reason, rule)

    def estop(self, reason: str) -> None:
        """Brake, and refuse everything that moves until :meth:`release`."""
        self._estop = self._estop or reason
        self.note("estop", reason)
        self._halt(reason, "estop")

    def release(self) -> None:
        """An operator says that the arm may move again; it stands until the next command."""
        if self._estop:
            self._estop = ""
            self._event("released", "the e-stop was released", "estop")

    def forget_client(self) -> None:
        """The next command is the first of a new client."""
        self._after = -math.inf

    def observe(self, *, images: bool) -> dict[str, Any]:
        """State and pictures of one instant, with the arm's time at that instant."""
        answer: dict[str, Any] = {"time": self.time, "state": self.world.state(), "images": {}}
        if images:
            begin = self._clock()
            answer["images"] = {camera.name: self.world.render(camera.name) for camera in self.spec.cameras}
            spent = self._clock() - begin
            self._render_s += spent
            self._renders += 1
            # a camera takes none of a real controller's time, nor of its client's: only this simulation waits for it
            self._deadline += spent
        return answer

    def reset(self, scene: Mapping[str, Any]) -> None:
        """An operator sets the scene: the arm is put where the scene has it, no time is simulated meanwhile.

        Raises:
            BodyFault: the e-stop is pressed.
        """
        if self._estop:
            raise BodyFault(self._why_not())
        self.world.reset(scene)
        self.world.hold()
        if self._joints:
            self._joints.forget()
        self.mode, self._fault, self._deadline = "holding", "", math.inf
        self._gap += max(0.0, self.lag)
        self._here, self.speed = self._tool(), 0.0
        self._event("reset", str(dict(scene)), "")

    def telemetry(self) -> dict[str, Any]:
        """How it is doing; JSON values, times in seconds, speeds in m/s."""
        return {
            "time": self.time,
            "monotonic": self._clock(),
            "mode": self.mode,
            "speed": self.speed,
            "stopped": self.mode == "holding" and self.speed < STOPPED,
            "fault": self._fault,
            "estop": self._estop,
            "rules": dict(self.rules),
            "lag": self.lag,
            "worst_lag": self._worst_lag,
            "slipped": self._slipped,
            # of the time that was to be simulated (resets are not)
            "real_time_factor": self._steps / max(self._steps + self._slipped + max(0.0, self.lag), 1e-9),
            "substep_s": self._busy / max(self._substeps, 1),
            "render_s": self._render_s / max(self._renders, 1),
            "renders": self._renders,
        }

    def trace(self) -> dict[str, np.ndarray]:
        """The last 30 s, 100 a second: wall clock when simulated, arm clock [s], speed [m/s], index into MODES."""
        columns = np.array(self._trace, np.float64).reshape(-1, 4)
        names = ("monotonic", "time", "speed", "mode")
        return {name: columns[:, place].copy() for place, name in enumerate(names)}

    def _substep(self) -> None:
        if self.mode == "tracking" and self.time > self._deadline:
            self.brake(f"no command for {self.limits.command_timeout:g} s", "heartbeat")
        if self._joints:
            self._drive(self._joints)
        else:
            if self.mode == "braking" and self.speed > _SLOW:
                # at every step: a goal that moves along leaves only the damping, so no swing back
                self.world.hold()
            self.world.substep()
            if self._watched and not self._fault:
                self._watch(self._watched)
        self._steps += self._dt
        self._substeps += 1
        if self._substeps % self._every:
            return
        here = self._tool()
        self.speed = float(np.linalg.norm(here - self._here)) / (self._every * self._dt)
        self._here = here
        if self.speed > self.limits.max_speed:
            what = f"the tool moved at {self.speed:.2f} m/s, the limit is {self.limits.max_speed:g} m/s"
            self._trip("tool_speed", what)
        if self.mode == "braking" and self.speed < STOPPED and (self._joints is None or self._joints.still):
            self.world.hold()
            self._change("holding", f"{self.speed:.4f} m/s", "")
        self._trace.append((self._clock(), self.time, self.speed, MODES.index(self.mode)))

    def _drive(self, joints: GuardedJoints) -> None:
        for rule in joints.step(braking=self.mode == "braking"):
            self.note(rule, "clamped")
        if joints.trip[0]:
            self._trip(*joints.trip)

    def _watch(self, world: WatchedWorld) -> None:
        rule, what = broken(world.joint_limits, *world.joints(), give=STOP_GIVE, hurry=HURRY)
        if rule:
            self._trip(rule, what)

    def _trip(self, rule: str, what: str) -> None:
        if not self._fault and self.limits.joints:
            self._fault = what
            self.note(rule, what)
            self._halt(what, rule)

    def _leapt(self, lag: float) -> float:
        """The clock went where no controller can follow: stop, and go on from there."""
        if lag > 0:
            self._slipped += lag
            self._gap += lag
            what = f"the machine was too slow: {lag:.3f} s were not simulated"
        else:
            self._begin += lag  # the arm's own time never goes back
            what = self._fault = f"the clock went back by {-lag:.3f} s"
        self.rules["clock"] = self.rules.get("clock", 0) + 1
        self._event("slip", what, "clock")
        self._halt(what, "clock")
        return 0.0

    def _why_not(self) -> str:
        if self._estop:
            return f"the e-stop is pressed ({self._estop}); release it to go on"
        return f"{self._fault}; reset the scene to go on"

    def _refused(self, rule: str, reason: str) -> PolicyFault:
        self.note(rule, reason)
        self._halt(reason, rule)
        return PolicyFault(f"{reason}; the arm was stopped")

    def note(self, rule: str, what: str) -> None:
        """Count a rule; it is logged when it begins to act, not at each of 500 steps a second."""
        self.rules[rule] = self.rules.get(rule, 0) + 1
        if self.time - self._acted_at.get(rule, -math.inf) > _QUIET:
            self._event("rule", what, rule)
        self._acted_at[rule] = self.time

    def _halt(self, reason: str, rule: str) -> None:
        if self.mode == "tracking":
            self.world.hold()
            self._change("braking", reason, rule)

    def _change(self, mode: Mode, reason: str, rule: str) -> None:
        self.mode = mode
        self._event(mode, reason, rule)

    def _event(self, what: str, reason: str, rule: str) -> None:
        event = {"monotonic": self._clock(), "time": self.time, "what": what, "reason": reason, "speed": self.speed}
        event["rule"] = rule
        self.events.append(event)
        if self._log:
            self._log(event)

    def _tool(self) -> np.ndarray:
        return self.world.state()[:3].astype(np.float64)
