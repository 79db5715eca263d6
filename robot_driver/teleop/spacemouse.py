"""A 3Dconnexion SpaceMouse through pyspacemouse (HID, no driver of 3Dconnexion's): extra ``spacemouse``.

Not run on hardware. Pushed, it moves the hand in the same direction, forward is x and left is y; turned, it turns it.
The left button is the gripper's, the right one takes over and hands back; both at once are the emergency stop. Other
buttons are the keyboard's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.errors import BodyFault, ConfigError, DependencyMissing
from vla.teleoperation import Button, Command, Rate

_AXES = ("x", "y", "z", "roll", "pitch", "yaw")
BUTTONS: tuple[Button, ...] = ("gripper", "take_over")
"""What the first two buttons are for."""
_PENDING = 16  # reports that may wait between two readings; the mouse sends translation and rotation in turn


@dataclass(frozen=True)
class Config:
    """A SpaceMouse.

    Attributes:
        device: name of the model as pyspacemouse has it; the first one found if empty.
        dead_zone: deflection that counts as none.
    """

    device: str = ""
    dead_zone: float = 0.08

    def __post_init__(self):
        if not 0 <= self.dead_zone < 1:
            raise ConfigError(f"dead_zone from 0 to below 1, found {self.dead_zone}")

    @property
    def estop(self) -> str:
        """See :class:`~vla.teleoperation.Braking`."""
        return "both buttons of the SpaceMouse at once"

    def make(self) -> "SpaceMouse":
        """The device; nothing is opened before it is started."""
        return SpaceMouse(self)


def command_of(deflection: Sequence[float], down: Sequence[bool], before: Sequence[bool], dead_zone: float) -> Command:
    """The command that a state of the mouse stands for.

    Args:
        deflection: x forward, y left, z up, then around these, each in [-1, 1].
        down: buttons that are down now.
        before: those of the last reading.
        dead_zone: see :class:`Config`.
    """
    values = np.clip(np.array(deflection, np.float64), -1.0, 1.0)
    rate = np.sign(values) * np.clip((np.abs(values) - dead_zone) / (1 - dead_zone), 0.0, 1.0)
    now = [bool(each) for each in down]
    last = [*map(bool, before), *[False] * len(now)]
    pressed: frozenset[Button] = frozenset(name for name, a, b in zip(BUTTONS, now, last, strict=False) if a and not b)
    if pressed and len(now) > 1 and now[0] and now[1]:
        pressed = frozenset({"estop"})
    return Command(Rate(rate), pressed=pressed)


class SpaceMouse:
    """A :class:`~vla.teleoperation.Teleoperator`."""

    def __init__(self, config: Config):
        self.config = config
        self._mouse: Any = None
        self._before: list[bool] = []

    def start(self) -> None:
        """Open it.

        Raises:
            DependencyMissing: pyspacemouse or the system's hidapi is not installed.
            BodyFault: there is none, or its HID device may not be opened.
        """
        try:
            import pyspacemouse

            pyspacemouse.get_connected_devices()
        except ImportError as error:
            raise DependencyMissing("a SpaceMouse needs pyspacemouse: pip install 'vla-stack[spacemouse]'") from error
        except RuntimeError as error:
            raise DependencyMissing("a SpaceMouse needs hidapi: apt-get install libhidapi-libusb0") from error
        try:
            self._mouse = pyspacemouse.open(device=self.config.device or None, axis_convention="ros")
        except (RuntimeError, ValueError) as error:
            raise BodyFault(f"no SpaceMouse can be opened: {error}") from error
        self._before = []

    def begin(self) -> None:
        """Buttons that are down now were pressed before."""
        self._before = self._state()[1]

    def read(self) -> Command:
        """Deflection and buttons now.

        Raises:
            BodyFault: it is no longer plugged in.
        """
        deflection, down = self._state()
        before, self._before = self._before, down
        return command_of(deflection, down, before, self.config.dead_zone)

    def close(self) -> None:
        """Give it back."""
        if self._mouse is not None:
            self._mouse.close()
            self._mouse = None

    def _state(self) -> tuple[list[float], list[bool]]:
        if self._mouse is None:
            raise BodyFault("the SpaceMouse was not started")
        try:
            state = self._mouse.read()
            for _ in range(_PENDING):
                time = state.t
                state = self._mouse.read()
                if state.t == time:
                    break
        except Exception as error:  # its error types depend on the HID library behind it
            raise BodyFault(f"the SpaceMouse no longer answers: {error}") from error
        return [float(getattr(state, axis)) for axis in _AXES], [bool(each) for each in state.buttons]
