"""The terminal's own keyboard: no display server, no library, also over SSH.

A terminal tells presses, not releases: a key that is held down repeats, so it counts as held for :data:`HOLD_S` after
each press. The meaning of the keys is in :mod:`vla.robot_driver.teleop.keys`.
"""

import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vla.errors import BodyFault, ConfigError
from vla.robot_driver.teleop.keys import AXES, CLUTCH, command_of
from vla.teleoperation import Command

HOLD_S = 0.12
"""Longer than the pause between two repeats of a held key (33 ms, 90 ms on slow links), shorter than one notices."""

_NAMES = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace", " ": "space", "\x1b": "esc", "=": "+"}


@dataclass(frozen=True)
class Config:
    """The keyboard of a terminal.

    Attributes:
        hold: time that a movement key counts as held after each press [s].
    """

    hold: float = HOLD_S

    def __post_init__(self):
        if not self.hold > 0:
            raise ConfigError(f"hold must be above 0 s, found {self.hold}")

    @property
    def estop(self) -> str:
        """See :class:`~vla.teleoperation.Braking`."""
        return "Esc"

    def make(self) -> "Keyboard":
        """The device; the terminal is left alone until it is started."""
        return Keyboard(self)


class Keyboard:
    """A :class:`~vla.teleoperation.Teleoperator`; puts the terminal back as it was when closed.

    Args:
        config: see :class:`Config`.
        stream: the terminal; standard input if None.
        clock: [s].
    """

    def __init__(self, config: Config, stream: Any = None, clock: Callable[[], float] = time.monotonic):
        self.config, self._stream, self._clock = config, stream, clock
        self._descriptor: int | None = None
        self._before: Any = None
        self._until: dict[str, float] = {}
        self._engaged = True

    def start(self) -> None:
        """Take single key presses from the terminal.

        Raises:
            BodyFault: standard input is no terminal.
        """
        import termios
        import tty

        stream = sys.stdin if self._stream is None else self._stream
        try:
            descriptor = stream.fileno()
            self._before = termios.tcgetattr(descriptor)
        except (OSError, ValueError, termios.error) as error:
            raise BodyFault("the keyboard needs a terminal, and standard input is none; use scripted keys") from error
        tty.setcbreak(descriptor)
        self._descriptor, self._until, self._engaged = descriptor, {}, True

    def begin(self) -> None:
        """Forget what was typed meanwhile; the clutch is closed.

        Raises:
            BodyFault: the terminal is gone.
        """
        self._text()
        self._until, self._engaged = {}, True

    def read(self) -> Command:
        """Keys since the last reading.

        Raises:
            BodyFault: the terminal is gone.
        """
        pressed, now = set(keys(self._text())), self._clock()
        self._until |= {key: now + self.config.hold for key in pressed if key in AXES}
        self._until = {key: until for key, until in self._until.items() if until > now}
        if CLUTCH in pressed:
            self._engaged = not self._engaged
        return command_of(set(self._until), pressed, engaged=self._engaged)

    def close(self) -> None:
        """Give the terminal back."""
        import termios

        if self._descriptor is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
            self._descriptor = None

    def _text(self) -> str:
        if self._descriptor is None:
            raise BodyFault("the keyboard was not started")
        text = b""
        while select.select([self._descriptor], [], [], 0.0)[0]:
            try:
                part = os.read(self._descriptor, 1024)
            except OSError as error:
                raise BodyFault(f"the terminal is gone: {error}") from error
            if not part:
                raise BodyFault("the terminal is gone: end of input")
            text += part
            if len(text) > 2**16:
                break
        return text.decode(errors="ignore")


def keys(text: str) -> list[str]:
    """Names of the keys in what a terminal sent; arrows and function keys, which begin like Esc, are left out."""
    found, place = [], 0
    while place < len(text):
        letter = text[place]
        place += 1
        if letter == "\x1b" and text[place : place + 1] in ("[", "O"):
            place += 1
            while place < len(text) and not text[place].isalpha() and text[place] != "~":
                place += 1
            place += 1
        else:
            found.append(_NAMES.get(letter, letter.lower()))
    return found
