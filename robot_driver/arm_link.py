"""What a vendor's controller has to offer to be driven: the thin part that differs from arm to arm.

::

    Body.command ─▶ StreamedArm ─▶ Servo (Ruckig) ─▶ LinkedArm ─▶ ArmLink.send_tool / send_joints ─▶ the vendor's SDK
    Body.observe ◀─ StreamedArm ◀─────────────────── LinkedArm ◀─ ArmLink.read ◀─ measured, with the controller's time
                 policy's process ┆ process of the servo

A link's methods are called from two threads, the servo's and the one that the policy's process asks through; none may
block for longer than a period.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class Measured:
    """What an arm's controller measured at one instant.

    Attributes:
        time: on the controller's clock [s].
        joints: positions [rad].
        tool: pose of the tool centre point in the arm's base frame.
        opening: of the gripper, 0 closed to 1 open; None if there is no gripper that says so.
    """

    time: float
    joints: Float64[np.ndarray, "j"]
    tool: Float64[np.ndarray, "4 4"]
    opening: float | None = None


class ArmLink(Protocol):
    """A connection to one arm.

    Every method raises :class:`~vla.errors.BodyFault` when the arm is gone, has stopped by itself (protective stop,
    emergency stop), or does not accept what it is told; the message says what the controller says.
    """

    @property
    def tool(self) -> Float64[np.ndarray, "4 4"] | None:
        """The tool centre point that the controller has, in the flange's frame; None if it does not say."""
        ...

    def read(self) -> Measured:
        """The newest measurement; never a commanded value."""
        ...

    def send_tool(self, pose: Float64[np.ndarray, "4 4"]) -> None:
        """Be there one servo period from now."""
        ...

    def send_joints(self, positions: Float64[np.ndarray, "j"]) -> None:
        """Be there one servo period from now [rad]."""
        ...

    def grip(self, opening: float) -> None:
        """Open or close the gripper to this, 0 closed to 1 open; nothing where there is none."""
        ...

    def halt(self) -> None:
        """Brake by the controller's own means. Never raises, safe to call more than once."""
        ...

    def close(self) -> None:
        """Halt and hang up. Never raises, safe to call more than once."""
        ...


class ControllerClock:
    """Puts a controller's time stamps on this process's clock.

    What arrives was measured at least the shortest transport ago, so the least difference seen between the two clocks
    is the offset. It is let go of slowly, because no two clocks run equally fast.

    Args:
        drift: how much faster the controller's clock may be [s/s].
    """

    def __init__(self, drift: float = 1e-4):
        self._drift = drift
        self._offset = self._at = np.inf

    def local(self, stamp: float, now: float) -> float:
        """The time on this process's clock of a stamp that is seen at ``now`` [s]; never after ``now``."""
        if now - stamp < self._offset + self._drift * max(0.0, now - self._at):
            self._offset, self._at = now - stamp, now
        else:
            self._offset += self._drift * (now - self._at)
            self._at = now
        return stamp + self._offset
