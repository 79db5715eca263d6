"""Key presses from a list: demonstrations without hands, the same every time.

::

    # time [s]  key  held for [s]
    0.0         w    0.8
    0.9         g
    1.4         enter
    ---                             the next episode; times count from its beginning
    0.0         s    0.5
    0.6         backspace

Time is counted in readings, one a control step, so a script does the same on a slow machine; but a key waits as long as
the control loop waits for a policy. In real time (``real_time``) it does not, as no person's does. Before the first
episode and after an episode's last key nothing is pressed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vla.errors import ConfigError, DataError
from vla.robot_driver.teleop.keys import CLUTCH, KEYS, command_of
from vla.teleoperation import Command


@dataclass(frozen=True)
class Press:
    """One key.

    Attributes:
        first: reading at which it goes down, from 0.
        last: reading at which it is down for the last time.
        key: its name, see :mod:`vla.robot_driver.teleop.keys`.
    """

    first: int
    last: int
    key: str


@dataclass(frozen=True)
class Config:
    """A script.

    Attributes:
        keys: its file.
        rate: readings a second, the body's control rate [Hz].
        text: the script itself, instead of a file.
        then: in episodes beyond the script's: press ``quit``, or nothing.
        real_time: times are those that pass, not readings.
    """

    keys: Path | None = None
    rate: float = 20.0
    text: str = ""
    then: Literal["quit", "nothing"] = "quit"
    real_time: bool = False

    def __post_init__(self):
        if (self.keys is None) == (not self.text):
            raise ConfigError("scripted keys come from a file or from a text: give keys, or text")
        if not self.rate > 0:
            raise ConfigError(f"the rate of scripted keys must be above 0 Hz, found {self.rate}")

    def make(self) -> "ScriptedKeys":
        """The device.

        Raises:
            DataError: the script cannot be read, or a line is not ``TIME KEY [SECONDS]``.
        """
        where = str(self.keys or "script")
        try:
            text = self.keys.read_text() if self.keys else self.text
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(where, "file", expected="a text file of key presses", found=str(error)) from error
        presses = parse(text, self.rate, where)
        return ScriptedKeys(presses, self.then, rate=self.rate, clock=time.monotonic if self.real_time else None)


class ScriptedKeys:
    """A :class:`~vla.teleoperation.Teleoperator` that presses what is written down.

    Args:
        episodes: presses of each.
        then: what is pressed in episodes beyond these.
        rate: readings a second, for a clock.
        clock: [s]; None to count readings.
    """

    def __init__(
        self,
        episodes: tuple[tuple[Press, ...], ...],
        then: Literal["quit", "nothing"] = "quit",
        *,
        rate: float = 20.0,
        clock: Callable[[], float] | None = None,
    ):
        self.episodes, self.then, self._rate, self._clock = episodes, then, rate, clock
        self._episode, self._now, self._begun, self._engaged = -1, 0, 0.0, True

    def start(self) -> None:
        """From the script's beginning."""
        self._episode = -1

    def begin(self) -> None:
        """The script's next episode."""
        self._episode, self._now, self._engaged = self._episode + 1, 0, True
        self._begun = self._clock() if self._clock is not None else 0.0

    def read(self) -> Command:
        """What is down now, or was since the last call; without a clock each call is one control step later."""
        if self._episode < 0:
            return Command()
        if self._episode >= len(self.episodes):
            return Command(pressed=frozenset({"quit"} if self.then == "quit" else ()))
        presses, since = self.episodes[self._episode], self._now
        now = since if self._clock is None else int((self._clock() - self._begun) * self._rate)
        self._now = max(since, now + 1)
        held = {press.key for press in presses if press.first <= now and press.last >= min(since, now)}
        pressed = {press.key for press in presses if since <= press.first <= now}
        if CLUTCH in pressed:
            self._engaged = not self._engaged
        return command_of(held, pressed, engaged=self._engaged)

    def close(self) -> None:
        """Nothing to give back."""


def parse(text: str, rate: float, where: str = "script") -> tuple[tuple[Press, ...], ...]:
    """Presses of each episode, in the order of their lines.

    Raises:
        DataError: a line is not ``TIME KEY [SECONDS]``, the key has no meaning, or a time is negative.
    """
    episodes: list[list[Press]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words == ["---"]:
            episodes.append([])
        elif words:
            episodes[-1].append(_press(words, rate, where, number))
    return tuple(map(tuple, episodes))


def _press(words: list[str], rate: float, where: str, line: int) -> Press:
    expected, found = "TIME KEY [SECONDS] with times from 0, or ---", " ".join(words)
    try:
        time, key = float(words[0]), words[1]
        seconds = float(words[2]) if len(words) == 3 else 0.0
    except (ValueError, IndexError) as error:
        raise DataError(where, f"line {line}", expected=expected, found=found) from error
    if len(words) > 3 or not (0 <= time < 1e6 and 0 <= seconds < 1e6):
        raise DataError(where, f"line {line}", expected=expected, found=found)
    if key not in KEYS:
        raise DataError(where, f"line {line}", expected=f"one of {' '.join(sorted(KEYS))}", found=key)
    first = round(time * rate)
    return Press(first, first + max(1, round(seconds * rate)) - 1, key)
