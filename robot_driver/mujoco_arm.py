"""Driver of a Panda that is simulated with MuJoCo in another process and reached over a socket, as a real arm is.

It knows nothing of the simulation: what it says and hears is in :mod:`vla.robot_driver.mujoco_arm_desk`.
"""

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault, ConfigError
from vla.experience import Observation
from vla.robot_driver.mujoco_arm_link import Asks, Link, Role
from vla.safety import SafetyLimits


@dataclass(frozen=True)
class Config:
    """Where the arm is.

    Attributes:
        host: of its process.
        port: of its process.
        timeout: an arm that does not answer within this is gone [s].
        reset_timeout: setting a scene may compile it [s].
    """

    host: str = "127.0.0.1"
    port: int = 47811
    timeout: float = 1.0
    reset_timeout: float = 120.0

    def __post_init__(self):
        if not 0 < self.port < 2**16:
            raise ConfigError(f"port must be between 1 and 65535, found {self.port}")
        if not (self.timeout > 0 and self.reset_timeout > 0):
            raise ConfigError(f"timeouts must be above 0 s, found {self.timeout} and {self.reset_timeout}")

    def make(self) -> "MujocoArm":
        """Connect.

        Raises:
            BodyFault: nobody listens there, or another client controls the arm.
        """
        return MujocoArm(self)

    def limits(self) -> SafetyLimits:
        """How old an answer may be. What moves there is not known here: the arm's own process limits its motion."""
        return SafetyLimits()

    def link(self, role: Role) -> Asks:
        """A connection over TCP.

        Raises:
            BodyFault: nobody listens there, or the arm refuses.
        """
        return Link((self.host, self.port), role, timeout=self.timeout)


class MujocoArm:
    """The arm as a :class:`~vla.protocols.Body`: its clock runs by itself, commands return at once.

    An action is a change from the pose the arm has when it arrives. Without a new one the arm keeps moving towards
    it for its ``command_timeout``, then brakes and holds. A second connection is kept for its e-stop, which any thread
    may press while another one waits for an answer.

    Args:
        config: where it is.
        links: makes the connections; over TCP if None.

    Raises:
        BodyFault: it cannot be reached, or another client controls it.
    """

    def __init__(self, config: Config, *, links: Callable[[Role], Asks] | None = None):
        self.config = config
        make = links or config.link
        self._link = make("control")
        self._pressing, self._numbers = threading.Lock(), itertools.count()
        try:
            self._monitor = make("monitor")
        except BodyFault:
            self._link.close("there is no connection for its e-stop")
            raise
        try:
            self._spec = EmbodimentSpec.from_json(self._link.hello["spec"])
            self._time = float(self._link.hello["time"])
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            self._link.fail(f"its greeting makes no sense: {error}")
        self._scene = self._link.hello

    @property
    def spec(self) -> EmbodimentSpec:
        """As the arm declares it."""
        return self._spec

    def observe(self, *, images: bool = True) -> Observation:
        """State and pictures of one instant, stamped with the arm's own clock.

        Raises:
            BodyFault: the arm does not answer, or what it says does not fit its spec.
        """
        answer = self._link.ask("observe", images=images)
        state, pictures, time = answer.get("state"), answer.get("images"), answer.get("time")
        shape = (len(self._spec.state),)
        if not isinstance(state, np.ndarray) or state.dtype != np.float32 or state.shape != shape:
            self._link.fail(f"a state is float32 of shape {shape}, found {_form(state)}")
        if not np.isfinite(state).all() or not isinstance(time, float):
            self._link.fail(f"measured values must be finite, found {state} at {time!r} s")
        if not isinstance(pictures, dict) or set(pictures) != (set(self._spec.camera_names) if images else set()):
            self._link.fail(f"pictures of {', '.join(self._spec.camera_names)} were asked for, found {_form(pictures)}")
        for camera in self._spec.cameras if images else ():
            picture, shape = pictures[camera.name], (camera.height, camera.width, 3)
            if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape != shape:
                self._link.fail(f"camera {camera.name}: expected uint8 of shape {shape}, found {_form(picture)}")
        self._time = time
        return Observation(pictures, state, str(self._scene.get("instruction", "")), time)

    def command(self, action: Float32[np.ndarray, "a"]) -> Float32[np.ndarray, "a"]:
        """Move towards ``action`` from now on; returns what the arm made of it after its own clipping.

        Raises:
            PolicyFault: the arm refuses it: not finite, wrong shape, or answering too old an observation.
            BodyFault: the arm does not answer, or was stopped by its own limits.
        """
        action = np.asarray(action, dtype=np.float32)
        number = next(self._numbers)
        sent = self._link.ask("command", action=action, after=self._time, number=number).get("sent")
        if not isinstance(sent, np.ndarray) or sent.shape != action.shape or sent.dtype != np.float32:
            self._link.fail(f"the action sent is float32 of shape {action.shape}, found {_form(sent)}")
        return sent

    def stop(self) -> None:
        """Brake and hold. Never raises: an arm whose connection is lost stops by itself."""
        if not self._link.lost:
            try:
                self._link.ask("stop")
            except BodyFault:
                # it did not confirm: hanging up makes its own controller stop it
                self._link.close("stop was not confirmed")

    def estop(self, reason: str) -> None:
        """Brake now and refuse to move until :meth:`release`; from any thread. Never raises."""
        with self._pressing:
            try:
                self._monitor.ask("estop", reason=reason)
            except BodyFault:
                self._link.close(f"e-stop: {reason}")  # hanging up stops it too

    def release(self) -> None:
        """It may move again.

        Raises:
            BodyFault: it does not answer.
        """
        with self._pressing:
            self._monitor.ask("release")

    def close(self) -> None:
        """Stop and hang up. Safe to call more than once."""
        self.stop()
        self._link.close()
        self._monitor.close()

    def task(self, scene: Mapping[str, Any] | None = None) -> "ArmTask":
        """The task of a scene, to be set by the arm's operator (here: its process).

        Args:
            scene: what the arm's world understands, JSON values; for a LIBERO world a row.
        """
        return ArmTask(self, dict(scene or {}))

    def telemetry(self) -> dict[str, Any]:
        """How the arm is doing; see ``Servo.telemetry``."""
        return self._link.ask("telemetry")


@dataclass
class ArmTask:
    """A scene that the arm's operator sets, and whether it is solved; a :class:`~vla.protocols.Task`."""

    arm: MujocoArm
    scene: dict[str, Any]
    _told: dict[str, Any] = field(default_factory=dict)

    @property
    def instruction(self) -> str:
        """In the scene's words; known after the reset."""
        return str(self._scene("instruction"))

    @property
    def max_steps(self) -> int:
        """Control steps before the episode counts as not solved; known after the reset."""
        return int(self._scene("max_steps"))

    def reset(self) -> None:
        """Have the scene set.

        Raises:
            BodyFault: the arm's world has no such scene.
        """
        link = self.arm._link
        self._told = self.arm._scene = link.ask("reset", timeout=self.arm.config.reset_timeout, scene=self.scene)

    def succeeded(self) -> bool:
        """Whether the goal holds, as the arm's world sees it.

        Raises:
            BodyFault: the arm does not answer.
        """
        return self.arm._link.ask("succeeded").get("succeeded") is True

    def _scene(self, name: str) -> Any:
        if name not in self._told:
            raise BodyFault(f"the {name} is known once the scene is set")
        return self._told[name]


class ArmMonitor:
    """Watches an arm from any process, without being able to move it; it can stop it.

    Raises:
        BodyFault: it cannot be reached.
    """

    def __init__(self, config: Config):
        self._link = config.link("monitor")

    def telemetry(self) -> dict[str, Any]:
        """How the arm is doing; see ``Servo.telemetry``."""
        return self._link.ask("telemetry")

    def trace(self) -> dict[str, np.ndarray]:
        """Speed and mode over the last 30 s; see ``Servo.trace``."""
        return self._link.ask("trace")

    def events(self) -> list[dict[str, Any]]:
        """Changes of mode, resets and rules that acted, oldest first."""
        return self._link.ask("events")["events"]

    def estop(self, reason: str) -> None:
        """Brake now and refuse to move until :meth:`release`.

        Raises:
            BodyFault: the arm does not answer.
        """
        self._link.ask("estop", reason=reason)

    def release(self) -> None:
        """It may move again.

        Raises:
            BodyFault: the arm does not answer.
        """
        self._link.ask("release")

    def close(self) -> None:
        """Hang up."""
        self._link.close()


def _form(value: Any) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)[:80]
