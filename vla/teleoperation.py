"""What an operator's hands say: the protocol of input devices, and what one reading of a device holds.

::

    device ─read()─▶ Command ─jog─▶ action in the body's own units ─▶ safety ─▶ Body.command
                     motion, gripper, buttons        (:mod:`vla.jogging`)

Devices are modules in ``robot_driver/teleop/`` with a frozen ``Config`` whose ``make()`` gives a :class:`Teleoperator`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float64

from vla.errors import ConfigError

Button = Literal[
    "gripper",  # open if closed, close if open
    "keep",  # the episode ends and is kept; whether it succeeded is not said
    "success",  # the episode ends, succeeded, and is kept
    "failure",  # the episode ends, failed, and is kept
    "discard",  # the episode ends and is thrown away
    "instruction",  # the next instruction of the list
    "take_over",  # from the policy; once more: hand back
    "stop",  # hold still until the next motion; takes over from a policy
    "estop",  # emergency stop: the body's own, and nothing runs any more
    "faster",  # speed scale up
    "slower",  # speed scale down
    "quit",  # the session ends; the open episode is thrown away
]
BUTTONS: tuple[Button, ...] = get_args(Button)


@dataclass(frozen=True)
class Rate:
    """A stick or keys held down: how fast to go, as a share of full speed.

    Attributes:
        values: along x, y, z, then around x, y, z, each in [-1, 1]; axes of the action's own frame. An arm that takes
            joints is moved joint by joint, in their order.
    """

    values: Float64[np.ndarray, "6"]

    def __post_init__(self):
        _check("a rate", self.values)
        if np.abs(self.values).max() > 1 + 1e-9:
            raise ConfigError(f"a rate is within [-1, 1], found {self.values}")


@dataclass(frozen=True)
class Shift:
    """A tracked hand or phone: how its pose has changed since the last reading.

    Attributes:
        values: translation [m], then rotation as axis-angle [rad]; axes of the action's own frame.
    """

    values: Float64[np.ndarray, "6"]

    def __post_init__(self):
        _check("a shift", self.values)


@dataclass(frozen=True)
class Joints:
    """A leader arm: where the follower's joints should be.

    Attributes:
        values: by the names of the body's action channels of kind ``joint``, in their physical units, all of them; and
            of its ``gripper`` channels, 0 closed ... 1 open, where there are several.
    """

    values: Mapping[str, float]

    def __post_init__(self):
        if not all(np.isfinite(value) for value in self.values.values()):
            raise ConfigError(f"joint targets must be finite, found {dict(self.values)}")


@dataclass(frozen=True)
class Command:
    """One reading of a device.

    Attributes:
        motion: what the arm should do; None where the device has nothing to say.
        gripper: how far the gripper should be open, 0 closed ... 1 open; None to leave it as it is.
        pressed: buttons that went down since the last reading; each press is told once.
        engaged: whether the clutch is closed; while it is open the arm stays, however the device is moved.
    """

    motion: Rate | Shift | Joints | None = None
    gripper: float | None = None
    pressed: frozenset[Button] = field(default_factory=frozenset)
    engaged: bool = True

    def __post_init__(self):
        if self.gripper is not None and not 0 <= self.gripper <= 1:
            raise ConfigError(f"a gripper is between 0 (closed) and 1 (open), found {self.gripper}")
        if unknown := sorted(set(self.pressed) - set(BUTTONS)):
            raise ConfigError(f"no such button: {', '.join(unknown)}; there are {', '.join(BUTTONS)}")

    @property
    def moves(self) -> bool:
        """Whether the operator wants the arm to move now: a rate or shift that is not 0, joints, or the gripper."""
        if not self.engaged:
            return False
        if isinstance(self.motion, Joints) or self.gripper is not None or "gripper" in self.pressed:
            return True
        return self.motion is not None and bool(np.any(self.motion.values))


@runtime_checkable
class Teleoperator(Protocol):
    """An input device. Opening nothing before :meth:`start`, it can be made and shown without being plugged in."""

    def start(self) -> None:
        """Open it.

        Raises:
            DependencyMissing: its library is not installed; the message names the extra.
            BodyFault: the device is not there.
        """
        ...

    def begin(self) -> None:
        """An episode begins: what was pressed or moved meanwhile does not count."""
        ...

    def read(self) -> Command:
        """What it says now; returns at once (well within a control period). Called once each control step.

        Raises:
            BodyFault: it no longer answers.
        """
        ...

    def close(self) -> None:
        """Give it back. Safe to call more than once, and without a start."""
        ...


@runtime_checkable
class Braking(Protocol):
    """The ``Config`` of a device on which an emergency stop can be pressed."""

    @property
    def estop(self) -> str:
        """How, for people; empty if it cannot, as it is set."""
        ...


def _check(what: str, values: Float64[np.ndarray, "6"]) -> None:
    if values.shape != (6,) or not np.isfinite(values).all():
        raise ConfigError(f"{what} is six finite numbers, found {values!r}")
