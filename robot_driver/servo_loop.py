"""What drivers stream through: a path in, a position to the arm every servo period, bounded at all times.

::

    policy, 5 to 30 Hz            servo, 100 to 500 Hz
    chunk ─▶ path ─▶ follow() ─▶ tick: path.at(now) ─▶ Motion (Ruckig) ─▶ send(position)
                                  └─ path over, too old, stop(), fault: Motion.brake() ─▶ send(position)
                                     (a fault: the arm is elsewhere, or cannot be measured; a path fails)

The policy's side only ever exchanges the path; whatever it does, or stops doing, the arm moves on within its limits or
comes to rest within them. While the arm stands, its position is sent on: most controllers want to hear something.

    servo = Servo(send, measure, limits, rate=500)
    servo.start()
    servo.follow(joint_path(chunk, spec, Anchor(chunk.time, joints)))
    servo.stop()
    servo.close()

In a thread, as here, another thread of the same process that holds Python's lock delays ticks (up to 5 ms each time it
is passed on): where inference runs in the same process, :mod:`vla.robot_driver.servo_process` is the one to use.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from vla.errors import BodyFault, ConfigError
from vla.robot_driver.motion import Motion, MotionLimits, MotionState
from vla.robot_driver.pacing import Pacer, prefer_this_thread
from vla.robot_driver.trajectory import JointPath, Path, Target, Withdrawn

_SETTLE_S, _LOOK_S = 1.0, 0.04  # [s]; at most, and between two looks: arms measure at 25 Hz and more
_SETTLED = 2e-4
"""Between two looks; an arm that moves less stands [rad or m]."""

Mode = Literal["holding", "following", "stopping"]


def way(start: Float64[np.ndarray, "n"], position: Float64[np.ndarray, "n"], now: float, seconds: float) -> JointPath:
    """From where a motion is to a position, in a time [s].

    Raises:
        ConfigError: the time is not above 0, or the position has another length.
    """
    if not seconds > 0 or np.shape(position) != start.shape:
        raise ConfigError(f"{len(start)} numbers and a time above 0 s, found {position} in {seconds} s")
    return JointPath(np.array([now, now + seconds]), np.array([start, position]), rests=False)


class Servo:
    """A loop at a fixed rate that moves an arm along the newest path; see the module's docstring.

    Args:
        send: gives positions to the arm [rad or m]; called once a period, in the servo's thread; must not block.
        measure: the arm's positions, measured [rad or m]; called in the servo's thread too.
        limits: of every channel.
        rate: ticks each second [Hz].
        stale_after: a path counts for so long after it was given, whatever it still holds [s]; then the arm brakes.
        max_deviation: of what is measured from what was sent; beyond it, or where measuring fails, the arm brakes and
            nothing is followed until :meth:`restart` [rad or m]. With infinity nothing is measured after the start.
        priority: real-time priority to ask for, 0 for none; see :func:`~vla.robot_driver.pacing.prefer_this_thread`.
        clock: that the paths' times are on [s].

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        send: Callable[[Float64[np.ndarray, "n"]], None],
        measure: Callable[[], Float64[np.ndarray, "n"]],
        limits: MotionLimits,
        *,
        rate: float = 500.0,
        stale_after: float = 1.0,
        max_deviation: float = math.inf,
        priority: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        if not 1 <= rate <= 2000:
            raise ConfigError(f"a servo's rate lies between 1 and 2000 Hz, found {rate}")
        for name, value in (("stale_after", stale_after), ("max_deviation", max_deviation)):
            if not value > 0:
                raise ConfigError(f"{name} must be above 0, found {value}")
        self.limits, self.rate, self._send, self._measure, self._clock = limits, rate, send, measure, clock
        self._stale_after, self._max_deviation, self._priority = stale_after, max_deviation, priority
        self._motion: Motion | None = None
        # exchanged whole, so that the servo's thread never sees half of it; what it is done with, that marks elsewhere
        self._given: tuple[Path, float] | None = None
        self._ended: tuple[Path, float] | None = None
        self._fault = ""
        self._error: Exception | None = None
        self.mode: Mode = "holding"
        self._stops = {"path over": 0, "path stale": 0, "stop": 0, "deviation": 0, "error": 0}
        self._granted: dict[str, bool] = {}
        self._pacer: Pacer | None = None
        self._over = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    @property
    def state(self) -> MotionState:
        """What was sent last, with its velocity and acceleration.

        Raises:
            BodyFault: the servo was not started.
        """
        return self._started().state

    @property
    def fault(self) -> str:
        """Why nothing is followed any more; empty if all is well."""
        return self._fault

    def restart(self) -> None:
        """Begin at rest where the arm is measured to be, forgetting paths and faults; not while it moves.

        Raises:
            BodyFault: the motion has not come to rest, or the arm is measured outside its limits.
            DependencyMissing: Ruckig is not installed.
        """
        if self._motion is not None and self._motion.moving:
            raise BodyFault("a servo is started anew only at rest")
        self._given = self._ended = None
        self._motion = Motion(self.limits, 1 / self.rate, self._measure())
        self._fault, self._error, self.mode = "", None, "holding"

    def start(self) -> None:
        """Begin to tick in a thread of its own, at rest where the arm is.

        Raises:
            BodyFault: it is running already; or of :meth:`restart`.
        """
        if self._pool is not None:
            raise BodyFault("the servo is running already")
        self.restart()
        self._over.clear()
        self._pool = ThreadPoolExecutor(1, "servo")
        self._running = self._pool.submit(self.run)

    def follow(self, path: Path) -> None:
        """Move along a path from now on, entering it where the clock is, whatever was followed before.

        Raises:
            BodyFault: of what went wrong in the servo since; it has stopped and waits for :meth:`restart`.
        """
        self._started()
        self.check()
        self._given = path, self._clock()

    def toward(self, position: Float64[np.ndarray, "n"], seconds: float) -> None:
        """Move to a position in a time, from where the motion is; for actions that come one by one.

        If nothing follows when the time is over, the arm brakes: a time a little longer than between two actions keeps
        it going when one comes late.

        Args:
            position: to be at [rad or m].
            seconds: from now on [s].

        Raises:
            ConfigError: the time is not above 0, or the position has another length.
            BodyFault: as :meth:`follow`.
        """
        self.follow(way(self.state.position, position, self._clock(), seconds))

    def stop(self) -> None:
        """Come to rest as fast as the limits allow. Returns at once; safe to call at any time and more than once."""
        given, self._given = self._given, None
        if given is not None:
            self._stops["stop"] += 1

    def wait_until_rest(self, timeout: float) -> bool:
        """Whether the motion came to rest within a time [s]; it no longer does when the servo has ended."""
        end = self._clock() + timeout
        while self._started().moving:
            if self._clock() > end or (self._running is not None and self._running.done()):
                return False
            time.sleep(1 / self.rate)
        return True

    def check(self) -> None:
        """Raise what went wrong since the start, if anything did.

        Raises:
            BodyFault: the arm deviated; anything that ``send``, ``measure`` or a path raised is raised as it was.
        """
        if self._error is not None:  # first: what came first
            raise self._error
        if self._fault:
            raise BodyFault(self._fault)
        if self._running is not None and self._running.done():
            self._running.result()
            raise BodyFault("the servo is not running")

    def close(self) -> None:
        """Come to rest, wait for the arm to be there too, then end the thread. Safe to call more than once."""
        self.stop()
        if self._pool is not None:
            if self._running is not None and not self._running.done() and self.wait_until_rest(10.0):
                self._settle()
            self._over.set()
            self._pool.shutdown(wait=True)
            self._pool = None

    def report(self) -> dict[str, Any]:
        """Ticks, missed deadlines, lateness [us], stops by their reason, priorities granted; JSON values."""
        found: dict[str, Any] = {"mode": self.mode, "stops": dict(self._stops), "granted": dict(self._granted)}
        return found | (self._pacer.report() if self._pacer else {})

    def run(self) -> None:
        """Tick until closed; what :meth:`start` runs in its thread, and a process may run as its main loop."""
        self._granted = prefer_this_thread(self._priority) if self._priority else {}
        self._pacer = Pacer(1 / self.rate, clock=self._clock)
        while not self._over.is_set():
            self.tick(self._pacer.wait())

    def tick(self, now: float) -> MotionState:
        """One servo period; ``now`` is on the clock [s]. Periods that were missed are not made up for."""
        motion, given = self._started(), self._given
        if given is self._ended:
            given = None
        if self._max_deviation < math.inf and self._error is None:
            self._watch(motion)
        target, reason = None, ""
        if given is not None and not self._fault:
            path, since = given
            if now - since > self._stale_after and now < path.end:
                reason = "path stale"
            else:
                target, reason = self._target(path, now)
        if reason:
            self._ended = given
            self._stops[reason] += 1
        state = motion.brake() if target is None else motion.step(*target)
        self.mode = "holding" if not motion.moving else "stopping" if target is None else "following"
        self._send(state.position)
        return state

    def _target(self, path: Path, now: float) -> tuple[Target | None, str]:
        """The path's target, or why there is none."""
        try:
            target = path.at(now)
            if target is not None and not all(np.isfinite(each).all() for each in target if each is not None):
                raise BodyFault(f"a path's targets are finite, found {target}")
        except Withdrawn:
            return None, "stop"
        except Exception as error:  # noqa: BLE001 - somebody's path; it is raised by check(), and the arm brakes
            self._fail(error)
            return None, ""
        return target, "path over" if target is None else ""

    def _settle(self) -> None:
        """Arms are behind what they were sent; what stands is let go without a jerk."""
        end, before = self._clock() + _SETTLE_S, None
        while not self._fault and self._clock() < end:
            try:
                here = self._measure()
            except Exception:  # noqa: BLE001 - it cannot be seen to stand: it is let go as it is
                return
            if before is not None and np.abs(here - before).max() < _SETTLED:
                return
            before = here
            time.sleep(_LOOK_S)

    def _watch(self, motion: Motion) -> None:
        try:
            away = np.abs(self._measure() - motion.state.position)
        except Exception as error:  # noqa: BLE001 - it is raised by check(); braking needs no measurement
            self._fail(error)
            return
        place = int(np.argmax(away))
        if not (self._fault or away[place] <= self._max_deviation):
            limit = f"the limit is {self._max_deviation:g}"
            self._fault = f"channel {place} is {away[place]:g} from where it was sent, {limit}"
            self._stops["deviation"] += 1

    def _fail(self, error: Exception) -> None:
        self._error, self._fault = error, self._fault or f"{type(error).__name__}: {error}"
        self._stops["error"] += 1

    def _started(self) -> Motion:
        if self._motion is None:
            raise BodyFault("the servo was not started")
        return self._motion
