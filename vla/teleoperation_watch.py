"""Reads a device in a thread of its own, so that an emergency stop waits for no policy and no camera."""

import threading
from collections.abc import Callable

import numpy as np

from vla.errors import BodyFault, ConfigError
from vla.teleoperation import Button, Command, Shift, Teleoperator

RATE_HZ = 100.0
CLOSE_S = 2.0
"""A device that still does not answer so long after it was told to close is left behind: the robot must be let go."""
LASTING: tuple[Button, ...] = ("estop", "quit")
"""What is meant whether an episode runs or not."""


class Watched:
    """A device that is read all the time; what was pressed in between is told at the next reading.

    Of the motion the last one counts; shifts add up. The emergency stop is told at once.

    Args:
        device: used by the thread alone, from :meth:`start` to :meth:`close`.
        estop: called from that thread, once for each press.
        rate: readings a second.

    Raises:
        ConfigError: the rate is not above 0.
    """

    def __init__(self, device: Teleoperator, estop: Callable[[], None], rate: float = RATE_HZ):
        if not rate > 0:
            raise ConfigError(f"a device is read more than 0 times a second, found {rate}")
        self.device, self._estop, self._period = device, estop, 1.0 / rate
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._told = Command()
        self._error: Exception | None = None

    def start(self) -> None:
        """See :class:`~vla.teleoperation.Teleoperator`."""
        self.device.start()
        self._over.clear()
        self._told, self._error = Command(), None
        self._thread = threading.Thread(target=self._watch, name="operator", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """See :class:`~vla.teleoperation.Teleoperator`; to stop or to quit counts whenever it was pressed.

        Raises:
            BodyFault: the device no longer answers.
        """
        with self._lock:
            pressed = _joined(self._told, self.device.read()).pressed
            if "estop" in pressed - self._told.pressed:
                self._estop()
            self.device.begin()
            self._told = Command(pressed=frozenset(button for button in LASTING if button in pressed))

    def read(self) -> Command:
        """What the thread has read since the last call.

        Raises:
            BodyFault: the device no longer answers.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._thread is None:
                raise BodyFault("the device was not started")
            told = self._told
            rest = None if isinstance(told.motion, Shift) else told.motion
            self._told = Command(rest, None, frozenset(), told.engaged)
            return told

    def close(self) -> None:
        """See :class:`~vla.teleoperation.Teleoperator`."""
        self._over.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(CLOSE_S)
        self.device.close()

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                with self._lock:
                    command = self.device.read()
                    self._told = _joined(self._told, command)
                if "estop" in command.pressed:
                    self._estop()
            except Exception as error:  # noqa: BLE001  raised again by read
                self._error = error
                return
            self._over.wait(self._period)


def _joined(before: Command, now: Command) -> Command:
    """Two readings as one."""
    motion = now.motion
    if isinstance(motion, Shift) and isinstance(before.motion, Shift) and now.engaged and before.engaged:
        motion = Shift(_added(before.motion.values, motion.values))
    gripper = before.gripper if now.gripper is None else now.gripper
    return Command(motion, gripper, before.pressed | now.pressed, now.engaged)


def _added(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The change that two small ones make, one after the other."""
    from vla import rotation

    turns = (rotation.to_matrix(each[3:], "axis_angle") for each in (second, first))
    matrix = next(turns) @ next(turns)
    return np.concatenate([first[:3] + second[:3], rotation.from_matrix(matrix, "axis_angle")])
