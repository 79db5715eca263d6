"""Any gamepad that SDL knows (Xbox, PlayStation, Switch, ...), through pygame: extra ``gamepad``. Not run on hardware.

::

    left stick   forward, back, left, right       A  gripper       Start  take over     d-pad up, down  faster, slower
    right stick  turn around z and y              X  keep          Back   instruction   d-pad left      stop
    triggers     down (left), up (right)          Y  success       Guide  emergency     d-pad right     quit
    shoulders    turn around x                    B  discard              stop          right stick in  failure

Letters as on an Xbox pad; other pads have the same buttons at the same places.
"""

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.errors import BodyFault, ConfigError, DependencyMissing
from vla.teleoperation import Button, Command, Rate

AXES = ("LEFTX", "LEFTY", "RIGHTX", "RIGHTY", "TRIGGERLEFT", "TRIGGERRIGHT")
"""SDL's names; sticks are -1 ... 1, right and down positive; triggers 0 ... 1."""

BUTTONS: dict[str, Button] = {
    "A": "gripper",
    "X": "keep",
    "Y": "success",
    "B": "discard",
    "RIGHTSTICK": "failure",
    "START": "take_over",
    "BACK": "instruction",
    "GUIDE": "estop",
    "DPAD_UP": "faster",
    "DPAD_DOWN": "slower",
    "DPAD_LEFT": "stop",
    "DPAD_RIGHT": "quit",
}
"""SDL's names."""

LEFT, RIGHT = "LEFTSHOULDER", "RIGHTSHOULDER"
_FULL = 32767.0  # SDL's numbers are 16 bits


@dataclass(frozen=True)
class Config:
    """A gamepad.

    Attributes:
        number: which one, if there are several.
        dead_zone: deflection that counts as none: worn sticks do not come back to 0.
    """

    number: int = 0
    dead_zone: float = 0.12

    def __post_init__(self):
        if self.number < 0 or not 0 <= self.dead_zone < 1:
            raise ConfigError(f"number from 0, dead_zone from 0 to below 1, found {self.number} and {self.dead_zone}")

    @property
    def estop(self) -> str:
        """See :class:`~vla.teleoperation.Braking`."""
        return "the button Guide, in the middle of the gamepad"

    def make(self) -> "Gamepad":
        """The device; nothing is opened before it is started."""
        return Gamepad(self)


def command_of(axes: Mapping[str, float], down: Set[str], before: Set[str], dead_zone: float) -> Command:
    """The command that a state of the pad stands for.

    Args:
        axes: by SDL's name.
        down: buttons that are down now.
        before: buttons that were down at the last reading.
        dead_zone: see :class:`Config`.
    """
    sticks = {name: _beyond(axes.get(name, 0.0), dead_zone) for name in AXES}
    rate = np.array(
        [
            -sticks["LEFTY"],
            -sticks["LEFTX"],
            sticks["TRIGGERRIGHT"] - sticks["TRIGGERLEFT"],
            float(RIGHT in down) - float(LEFT in down),
            -sticks["RIGHTY"],
            -sticks["RIGHTX"],
        ]
    )
    pressed: frozenset[Button] = frozenset(BUTTONS[name] for name in down - before if name in BUTTONS)
    return Command(Rate(np.clip(rate, -1.0, 1.0)), pressed=pressed)


def _beyond(value: float, dead_zone: float) -> float:
    """0 in the dead zone, from there on rising to 1 without a leap."""
    return float(np.sign(value) * np.clip((abs(value) - dead_zone) / (1 - dead_zone), 0.0, 1.0))


class Gamepad:
    """A :class:`~vla.teleoperation.Teleoperator`."""

    def __init__(self, config: Config):
        self.config = config
        self._sdl: Any = None
        self._pads: Any = None
        self._pad: Any = None
        self._before: frozenset[str] = frozenset()

    def start(self) -> None:
        """Open it.

        Raises:
            DependencyMissing: pygame is not installed.
            BodyFault: there is no such gamepad.
        """
        os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")  # there is no window that could be in front
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
            from pygame._sdl2 import controller
        except ImportError as error:
            raise DependencyMissing("a gamepad needs pygame: pip install 'vla-stack[gamepad]'") from error
        controller.init()
        count = controller.get_count()
        if self.config.number >= count:
            raise BodyFault(f"there is no gamepad {self.config.number}; {count} are plugged in")
        self._sdl, self._pads, self._before = pygame, controller, frozenset()
        self._pad = controller.Controller(self.config.number)

    def begin(self) -> None:
        """Buttons that are down now were pressed before."""
        self._before = self._down()

    def read(self) -> Command:
        """Sticks and buttons now.

        Raises:
            BodyFault: it is no longer plugged in.
        """
        down, before = self._down(), self._before
        self._before = down
        axes = {name: self._pad.get_axis(getattr(self._sdl, f"CONTROLLER_AXIS_{name}")) / _FULL for name in AXES}
        return command_of(axes, down, before, self.config.dead_zone)

    def close(self) -> None:
        """Give it back."""
        if self._pad is not None:
            self._pad.quit()
            self._pad = None

    def _down(self) -> frozenset[str]:
        if self._pad is None:
            raise BodyFault("the gamepad was not started")
        self._pads.update()
        if not self._pad.attached():
            raise BodyFault("the gamepad is no longer plugged in")
        numbers = {name: getattr(self._sdl, f"CONTROLLER_BUTTON_{name}") for name in (*BUTTONS, LEFT, RIGHT)}
        return frozenset(name for name, number in numbers.items() if self._pad.get_button(number))
