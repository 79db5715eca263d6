"""A simulated arm whose time runs with the wall clock, commanded or not, and that stops when nobody commands it.

::

    command ─▶ tracking ──no command for 0.15 s, stop, client gone, limit broken──▶ braking ──slow enough──▶ holding
                  ▲                                                                     │                       │
                  └────────────────────────────── the next command ─────────────────────┴───────────────────────┘

No sockets here: :mod:`vla.robot_driver.mujoco_arm_server` moves requests in and answers out. What is simulated is an
:class:`ArmWorld`, handed in by whoever composes the two.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.experience import Image

Mode = Literal["tracking", "braking", "holding"]
MODES: tuple[Mode, ...] = ("tracking", "braking", "holding")

STOPPED = 0.005
"""Speed of the tool below which the arm counts as standing [m/s]."""

_SLOW = 0.05  # [m/s]; below it the goal stays where it is: against a steady force, damping alone would drift on
_SAMPLE = 0.01  # [s] between two measurements of the speed
_TRACE_SECONDS = 30.0
_MAX_LAG = 0.25  # [s]; further behind, time is given up instead of being made up for


@runtime_checkable
class ArmWorld(Protocol):
    """What a simulation offers to be an arm: a servo that is stepped, cameras, and an operator who sets the scene."""

    @property
    def spec(self) -> EmbodimentSpec:
        """What it senses and accepts; its first three state channels are the tool's position [m]."""
        ...

    @property
    def substep_seconds(self) -> float:
        """Length of one physics step [s]."""
        ...

    @property
    def instruction(self) -> str:
        """What is to be done in the scene as set."""
        ...

    @property
    def max_steps(self) -> int:
        """Control steps the scene's task is usually given."""
        ...

    def reset(self, scene: Mapping[str, Any]) -> None:
        """Set a scene; what the map holds is between the world and whoever asks.

        Raises:
            VlaError: there is no such scene.
        """
        ...

    def set_goal(self, action: Float32[np.ndarray, "a"]) -> None:
        """Move towards what ``action`` says, in the units of the spec, from the present pose."""
        ...

    def hold(self) -> None:
        """Make the present pose the goal, the gripper as it is, as firmly as the arm can; until the next goal."""
        ...

    def substep(self) -> None:
        """One physics step."""
        ...

    def state(self) -> Float32[np.ndarray, "s"]:
        """Measured now."""
        ...

    def render(self, camera: str) -> Image:
        """What a camera sees now, as its spec says."""
        ...

    def succeeded(self) -> bool:
        """Whether the scene's task is solved."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(frozen=True)
class ServoLimits:
    """What the arm's own controller enforces, whatever its client does.

    Attributes:
        command_timeout: without a command for this long the arm brakes [s]. Taking pictures does not count.
        max_age: oldest observation that a command may answer [s].
        max_speed: of the tool; above it the arm brakes and refuses commands until the next reset [m/s]. The default is
            the Panda's own Cartesian limit (Franka Control Interface, "Robot and interface specifications").
    """

    command_timeout: float = 0.15
    max_age: float = 1.0
    max_speed: float = 1.7

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
        log: told of every change of mode and every reset, with JSON values.
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
        self.events: deque[dict[str, Any]] = deque(maxlen=1000)
        self._trace: deque[tuple[float, float, float, int]] = deque(maxlen=int(_TRACE_SECONDS / _SAMPLE))
        self.mode: Mode = "holding"
        self._fault = ""
        self.speed = 0.0
        self._steps = self._gap = 0.0  # arm time is both together: simulated, and passed by without being simulated
        self._substeps, self._deadline = 0, math.inf
        self._busy = self._slipped = self._worst_lag = self._render_s = 0.0
        self._renders = 0
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
        if lag > _MAX_LAG:
            self._slipped += lag
            self._gap += lag
            self._event("slip", f"the machine was too slow: {lag:.3f} s were not simulated")
            return 0.0
        begin = self._clock()
        for _ in range(min(most, int(lag / self._dt))):
            self._substep()
        self._busy += self._clock() - begin
        return self.lag

    def command(self, action: Any, after: Any) -> Float32[np.ndarray, "a"]:
        """Move towards an action from the present pose; returns what was really made the goal, after clipping.

        Args:
            action: in the order and units of the spec.
            after: time of the observation that it answers, on the arm's clock [s].

        Raises:
            PolicyFault: not finite, wrong shape or too old; the arm brakes.
            BodyFault: the arm was stopped by its own limits and waits for a reset.
        """
        if self._fault:
            raise BodyFault(f"{self._fault}; reset the scene to go on")
        size = self.spec.action.size
        if not isinstance(action, np.ndarray) or action.shape != (size,) or action.dtype != np.float32:
            raise self._refused(f"an action is {size} numbers of float32")
        if not np.isfinite(action).all():
            raise self._refused(f"an action is finite, found {action}")
        age = self.time - after if isinstance(after, float) else math.nan
        if not -self._dt <= age <= self.limits.max_age:
            raise self._refused(
                f"the action answers an observation {age:.3f} s old, the limit is {self.limits.max_age} s"
            )
        sent = np.clip(action, self._low, self._high).astype(np.float32)
        self.world.set_goal(sent)
        self._deadline = self.time + self.limits.command_timeout
        if self.mode != "tracking":
            self._change("tracking", "a command")
        return sent

    def brake(self, reason: str) -> None:
        """Come to rest as fast as the controller can, then hold."""
        if self.mode == "tracking":
            self.world.hold()
            self._change("braking", reason)

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
        """An operator sets the scene: the arm is put where the scene has it, no time is simulated meanwhile."""
        self.world.reset(scene)
        self.world.hold()
        self.mode, self._fault, self._deadline = "holding", "", math.inf
        self._gap += max(0.0, self.lag)
        self._here, self.speed = self._tool(), 0.0
        self._event("reset", str(dict(scene)))

    def telemetry(self) -> dict[str, Any]:
        """How it is doing; JSON values, times in seconds, speeds in m/s."""
        return {
            "time": self.time,
            "monotonic": self._clock(),
            "mode": self.mode,
            "speed": self.speed,
            "stopped": self.mode == "holding" and self.speed < STOPPED,
            "fault": self._fault,
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
            self.brake(f"no command for {self.limits.command_timeout:g} s")
        if self.mode == "braking" and self.speed > _SLOW:
            self.world.hold()  # at every step: a goal that moves along leaves only the damping, so no swing back
        self.world.substep()
        self._steps += self._dt
        self._substeps += 1
        if self._substeps % self._every:
            return
        here = self._tool()
        self.speed = float(np.linalg.norm(here - self._here)) / (self._every * self._dt)
        self._here = here
        if self.speed > self.limits.max_speed and not self._fault:
            self._fault = f"the tool moved at {self.speed:.2f} m/s, the limit is {self.limits.max_speed:g} m/s"
            self.brake(self._fault)
        if self.mode == "braking" and self.speed < STOPPED:
            self._change("holding", f"{self.speed:.4f} m/s")
        self._trace.append((self._clock(), self.time, self.speed, MODES.index(self.mode)))

    def _refused(self, reason: str) -> PolicyFault:
        self.brake(reason)
        return PolicyFault(f"{reason}; the arm was stopped")

    def _change(self, mode: Mode, reason: str) -> None:
        self.mode = mode
        self._event(mode, reason)

    def _event(self, what: str, reason: str) -> None:
        event = {"monotonic": self._clock(), "time": self.time, "what": what, "reason": reason, "speed": self.speed}
        self.events.append(event)
        if self._log:
            self._log(event)

    def _tool(self) -> np.ndarray:
        return self.world.state()[:3].astype(np.float64)
