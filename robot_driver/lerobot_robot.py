"""Driver of any robot that lerobot 0.6 knows, the SO-100 and SO-101 first. Not run on hardware.

::

    observe ─▶ lerobot's Robot ─▶ Feetech's library ─▶ /dev/ttyACM0 ─▶ six STS3215
    command ─▶    (metres, radians, gripper 0 to 1 on this side, lerobot's units on that)

What it was run on is lerobot's own classes and Feetech's library with an emulated bus of servos behind a
pseudo-terminal (:mod:`vla.robot_driver.feetech_emulator`). Servos hold their last goal whatever becomes of this
process; ``stop`` makes that goal the place where the arm is. A gripper's goal stays what it was last told, so that
what it holds is not dropped, unless the gripper itself is in trouble.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.embodiment import CameraSpec, EmbodimentSpec
from vla.embodiments.so101 import LIMITS
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.experience import Image, Observation
from vla.robot_driver.lerobot_bus import (
    LEROBOT_PATIENCE_S,
    LINE_ERRORS,
    OVERLOAD,
    PORT_ERRORS,
    PortGone,
    arms,
    be_patient,
    buses,
    complaints,
    drop_stale,
    faults,
    let_go,
    positions,
    shut,
)
from vla.robot_driver.lerobot_make import cameras_of, connect, make, ports
from vla.robot_driver.lerobot_meaning import SO_ARMS, Meaning, features_text, read_meaning, so_arms
from vla.safety_limits import SafetyLimits

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """A robot of lerobot's.

    Attributes:
        port: serial port, e.g. ``/dev/ttyACM0``; of two arms the left one's and the right one's with a comma between;
            empty for robots that have none.
        kind: lerobot's type of robot.
        name: lerobot's id of this one, which names its calibration file.
        calibration: folder of that file; lerobot's own by default.
        cameras: of SO-100s or SO-101s, each ``NAME=DEVICE:WIDTHxHEIGHT@FPS``, perhaps with ``:ROLE`` and ``:FILE`` of
            its calibration, e.g. ``front=0:640x480@30:primary:front.json``.
        file: TOML that says what the numbers of another robot mean (:mod:`vla.robot_driver.lerobot_meaning`).
        release: take the power off the motors when closed, as lerobot does: the arm sinks.
        health: how often the servos are asked how they are [s].
        patience: how long a servo may take to answer [s]; more on a machine that has much else to do.
    """

    port: str = ""
    kind: str = "so101_follower"
    name: str = "so101"
    calibration: Path | None = None
    cameras: tuple[str, ...] = ()
    file: Path | None = None
    release: bool = True
    health: float = 0.5
    patience: float = LEROBOT_PATIENCE_S

    def __post_init__(self):
        for name in ("health", "patience"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0 s, found {getattr(self, name)}")
        if self.kind in SO_ARMS and not self.port:
            raise ConfigError(f"{self.kind} needs a port, e.g. /dev/ttyACM0; lerobot-find-port finds it")

    def make(self) -> "LerobotRobot":
        """Connect.

        Raises:
            DependencyMissing: lerobot's libraries for it are not installed.
            BodyFault: its port or a motor is missing, a motor complains, or it is not calibrated.
            ConfigError: nobody says what its numbers mean, or lerobot does not take the settings.
        """
        specs, cameras = cameras_of(self.cameras)
        meaning, fields = read_meaning(self.file) if self.file else (None, {})
        given = {**ports(self.port), "id": self.name, "calibration_dir": self.calibration, **fields}
        robot = make("robots", self.kind, given | ({"cameras": cameras} if cameras else {}))
        if meaning is None and self.kind not in SO_ARMS:
            said = features_text(robot.observation_features, robot.action_features)
            raise ConfigError(f"what the numbers of {self.kind} mean is not known; say it in a file:\n{said}")
        for bus in buses(robot).values():
            be_patient(bus, self.patience)
        calibrate = f"lerobot-calibrate --robot.type={self.kind} --robot.port={self.port} --robot.id={self.name}"
        if self.calibration:
            calibrate += f" --robot.calibration_dir={self.calibration}"
        connect(robot, f"{self.kind} {self.name}", calibrate)
        try:
            if meaning is None:
                meaning = known_meaning(robot, specs)
            return LerobotRobot(robot, meaning, release=self.release, health=self.health)
        except BaseException:
            for bus in buses(robot).values():
                let_go(bus)
            raise

    def limits(self) -> SafetyLimits:
        """Those declared beside the embodiment; of a robot that a file describes, its channels' and what fits any.

        The heartbeat is what stops a base that is told speeds when the policy hangs: it would drive on.
        """
        return LIMITS if self.kind in SO_ARMS else SafetyLimits(heartbeat=0.5, frozen_pictures=10, black=8)


def known_meaning(robot: Any, cameras: tuple[CameraSpec, ...] = ()) -> Meaning:
    """What the numbers of a connected SO-100 or SO-101, or of two, mean; see :func:`.lerobot_meaning.so_arms`."""
    return so_arms(arms(robot), cameras=cameras)


class LerobotRobot:
    """A connected lerobot robot as a :class:`~vla.protocols.Body`. Not run on hardware.

    Times are this machine's monotonic clock. Pictures are the latest of lerobot's camera threads, at most half a
    second old (lerobot refuses older ones). Calls from two threads wait for each other.

    Args:
        robot: one of lerobot's, connected.
        meaning: of its numbers.
        release: take the power off when closed.
        health: how often the servos are asked how they are [s].
        clock: [s].

    Raises:
        SpecMismatch: the robot's features are not those of the meaning.
        ConfigError: it could not be told to hold still.
    """

    def __init__(
        self,
        robot: Any,
        meaning: Meaning,
        *,
        release: bool = True,
        health: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ):
        meaning.compare(robot.observation_features, robot.action_features)
        blind = [
            n.key for n in meaning.action if n.key not in robot.observation_features and not n.key.endswith(".vel")
        ]
        if blind:
            raise ConfigError(f"how to hold still is not known: {', '.join(blind)} are commanded and not measured")
        self.robot, self.meaning = robot, meaning
        self.complaints: dict[str, list[str]] = {}
        """What the servos last said of themselves, by motor."""
        self._release, self._health, self._clock = release, health, clock
        self._lock = threading.RLock()
        self._buses = buses(robot)
        pairs = zip(meaning.action, meaning.spec.action.channels, strict=True)
        self._grippers = {n.key.removesuffix(".pos") for n, channel in pairs if channel.kind == "gripper"}
        self._asked_at = -np.inf
        self._last = (np.zeros(len(meaning.state), np.float32), -np.inf)
        self._values: dict[str, Any] = {}
        self._gripped: dict[str, Any] = {}  # what grippers were told last
        self._shortest = np.inf  # reading that needed no second try [s]
        self._holds = False
        self._what = f"{robot.robot_type} {robot.id}"
        self._lost = ""

    @property
    def spec(self) -> EmbodimentSpec:
        """As its meaning says."""
        return self.meaning.spec

    def observe(self, *, images: bool = True) -> Observation:
        """Measured positions, stamped with the middle of the reading, and the cameras' latest pictures.

        Raises:
            BodyFault: a motor does not answer (it is named) or is in trouble, the port is gone, a camera stands still;
                where the arm could still be told to, it holds.
        """
        with self._lock, self._watched():
            for bus in self._buses.values():
                drop_stale(bus)
            begin = self._clock()
            values = self.robot.get_observation()
            end = self._clock()
            if self._leaps(self.meaning.measured(values), end):  # an answer to something else: ask once more
                for bus in self._buses.values():
                    drop_stale(bus)
                values = self.robot.get_observation()
                end = self._clock()
            if not np.isfinite(self.meaning.measured(values)).all():
                raise BodyFault(f"{self._what}: measured values must be finite, found {values}")
            self._last, self._values = (self.meaning.measured(values), end), dict(values)
            self._ask_health(end)
        # a reading that had to be repeated succeeded at its end
        self._shortest = min(self._shortest, end - begin)
        pictures = {camera.name: self._picture(camera, values) for camera in self.spec.cameras} if images else {}
        return Observation(pictures, self.meaning.measured(values), "", end - self._shortest / 2.0)

    def command(self, action: Float32[np.ndarray, "a"]) -> Float32[np.ndarray, "a"]:
        """Go there; returns what was sent, within the channels' and the calibration's limits.

        Positions are rounded to the encoder's ticks (0.0015 rad) on their way; that is not in what is returned.

        Raises:
            PolicyFault: the action is not finite or has the wrong shape; nothing was sent.
            BodyFault: the port is gone.
        """
        action = np.asarray(action, np.float32)
        if action.shape != (self.spec.action.size,) or not np.isfinite(action).all():
            raise PolicyFault(f"an action is {self.spec.action.size} finite numbers, found {action}")
        with self._lock, self._watched():
            sent = self.robot.send_action(self.meaning.goals(action))
            self._gripped = {key: value for key, value in sent.items() if key.removesuffix(".pos") in self._grippers}
            self._holds = False
        return self.meaning.sent(sent)

    def stop(self) -> None:
        """Hold where it is, and what the gripper holds. Never raises: servos out of reach hold their last goal.

        Told twice, it holds the same place: an arm that gives way under its own weight does not creep.
        """
        with self._lock:
            if self._lost or self._holds:
                return
            try:
                here = self._here() | self._grips()
                self.robot.send_action({n.key: here.get(n.key, 0.0) for n in self.meaning.action})
                self._holds = True
            except (TimeoutError, *LINE_ERRORS):
                pass  # a motor is silent, which the next observation reports
            except PORT_ERRORS as error:
                self._lose(f"the port is gone: {error}")
            except Exception:  # noqa: BLE001 - a robot that is not ours; whoever stops an arm has more to do
                _log.exception("%s could not be told to hold", self._what)

    def close(self) -> None:
        """Stop, take the power off if that was asked for, and close ports and cameras. Safe to call more than once."""
        with self._lock:
            self.stop()
            if not self._lost:
                self._lost = "it was closed"
                for bus in self._buses.values():
                    let_go(bus) if self._release else shut(bus)
            for camera in getattr(self.robot, "cameras", {}).values():
                if camera.is_connected:
                    camera.disconnect()
            if not self._buses and self.robot.is_connected:
                self.robot.disconnect()

    def _here(self) -> dict[str, Any]:
        """Where it is, by lerobot's names and in its units.

        A robot with speeds has to be told 0 although it does not say where it is (a camera stands still, a motor is
        silent): what is told positions stays where it was measured last.
        """
        speeds = [n.key.endswith(".vel") for n in self.meaning.action]
        if all(speeds):
            return {}
        try:
            return positions(self.robot)
        except (TimeoutError, *LINE_ERRORS):
            if not any(speeds) or not self._values:
                raise
            return self._values

    def _grips(self) -> dict[str, Any]:
        """What grippers were told last: measured, one that holds something is further open than it was told, and held
        there it would push no more. One that is too hot or draws too much does not push on.
        """
        tired = {name for name, words in self.complaints.items() if set(words) - {OVERLOAD}}
        return {
            key: goal
            for key, goal in self._gripped.items()
            if not key.endswith(".vel") and key.removesuffix(".pos") not in tired
        }

    def _leaps(self, state: Float32[np.ndarray, "s"], now: float) -> bool:
        """Whether it would have moved faster than it can, twice over, since the last observation."""
        last, then = self._last
        rates = np.array([2.0 * channel.max_rate / channel.scale for channel in self.spec.state])
        return bool((np.abs(state - last) > rates * max(now - then, 1e-3)).any())

    def _ask_health(self, now: float) -> None:
        if now - self._asked_at < self._health:
            return
        self._asked_at = now
        self.complaints = {
            name: words for side, bus in self._buses.items() for name, words in complaints(bus, side).items()
        }
        # a gripper that holds something is overloaded for as long as it does: Feetech's word for pushing without moving
        serious = {
            name: words for name, words in self.complaints.items() if words != [OVERLOAD] or name not in self._grippers
        }
        if serious:
            said = "; ".join(f"motor {name}: {' and '.join(words)}" for name, words in serious.items())
            raise BodyFault(f"{self._what}: {said}; it was told to hold")

    def _picture(self, camera: CameraSpec, values: Any) -> Image:
        picture, shape = values.get(camera.name), (camera.height, camera.width, 3)
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape != shape:
            found = f"{picture.dtype} of shape {picture.shape}" if isinstance(picture, np.ndarray) else repr(picture)
            raise BodyFault(f"camera {camera.name}: expected uint8 of shape {shape}, found {found}")
        return picture.copy()  # the camera's thread goes on writing

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Whatever fails inside, the arm is told to hold where it still can be."""
        if self._lost:
            raise BodyFault(f"{self._what} is gone: {self._lost}")
        try:
            with faults(self.robot, self._what):
                yield
        except PortGone as gone:
            self._lose(str(gone))
            raise
        except BodyFault:
            self.stop()
            raise

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        for bus in self._buses.values():
            shut(bus)
