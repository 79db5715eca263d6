"""What each key means, for the terminal's keyboard and for scripts alike.

::

    w s  forward, back (x)      i k  around y       g  gripper         Enter      keep      space  stop
    a d  left, right (y)        j l  around z       t  take over       y          success   Esc    emergency stop
    r f  up, down (z)           u o  around x       c  clutch          x          failure   q      quit
                                                    n  instruction     Backspace  discard   + -    faster, slower
"""

from collections.abc import Set

import numpy as np

from vla.teleoperation import Button, Command, Rate

AXES: dict[str, tuple[int, float]] = {
    "w": (0, 1.0),
    "s": (0, -1.0),
    "a": (1, 1.0),
    "d": (1, -1.0),
    "r": (2, 1.0),
    "f": (2, -1.0),
    "u": (3, 1.0),
    "o": (3, -1.0),
    "i": (4, 1.0),
    "k": (4, -1.0),
    "j": (5, 1.0),
    "l": (5, -1.0),
}
"""Held down: axis and direction of a :class:`~vla.teleoperation.Rate`."""

BUTTONS: dict[str, Button] = {
    "g": "gripper",
    "enter": "keep",
    "y": "success",
    "x": "failure",
    "backspace": "discard",
    "n": "instruction",
    "t": "take_over",
    "space": "stop",
    "esc": "estop",
    "+": "faster",
    "-": "slower",
    "q": "quit",
}
"""Pressed: what is told once."""

CLUTCH = "c"
"""Opens the clutch, or closes it again."""

KEYS = frozenset({*AXES, *BUTTONS, CLUTCH})


def command_of(held: Set[str], pressed: Set[str], *, engaged: bool) -> Command:
    """The command that keys stand for; keys without a meaning are left out.

    Args:
        held: keys that are down.
        pressed: keys that went down since the last reading.
        engaged: whether the clutch is closed.
    """
    rate = np.zeros(6)
    for key in held | pressed:
        if key in AXES:
            axis, direction = AXES[key]
            rate[axis] += direction
    buttons: frozenset[Button] = frozenset(BUTTONS[key] for key in pressed if key in BUTTONS)
    return Command(Rate(np.clip(rate, -1.0, 1.0)), pressed=buttons, engaged=engaged)
