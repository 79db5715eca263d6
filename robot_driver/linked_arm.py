"""The side of an arm at its link: measured, sent to, halted; in the servo's process where that is one of its own.

::

    policy's side                  this side
    StreamedArm ─▶ Servo ─▶ LinkedArm.send ─▶ ArmLink.send_tool / send_joints
         └─ read, grip, halt ─▶ LinkedArm ◀─▶ ArmLink

A link that fails while it is sent to is halted at once, here, not when the policy's loop next looks; what is halted is
sent nothing more.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.errors import BodyFault
from vla.robot_driver.arm_link import ArmLink, ControllerClock, Measured
from vla.robot_driver.tool_numbers import ToolNumbers
from vla.tool_pose import Pose

_STILL = 0.5  # [s]; controllers measure at 100 Hz and more


class LinkedArm:
    """An arm behind a link, in the servo's numbers; a :class:`~vla.robot_driver.servo_process.ServoArm`.

    Args:
        link: to its controller; closed again if this fails.
        joints: whether the servo's numbers are the joints [rad], or the tool's six (:mod:`tool_numbers`).

    Raises:
        BodyFault: of the link.
    """

    def __init__(self, link: ArmLink, *, joints: bool):
        self.link, self._joints = link, joints
        self._clock = ControllerClock()
        self._newest: tuple[float, float] = (-np.inf, 0.0)  # the controller's newest time and when it was new here
        self._halted = False
        self._sending = threading.Lock()  # what is halted is sent nothing more, not even what was on its way
        self._near = np.zeros(6)  # what was sent last
        try:
            self.anchor: Float64[np.ndarray, "3 3"] = self._fresh().tool[:3, :3].copy()
            """The tool's orientation when it was connected."""
            self.tool: Float64[np.ndarray, "4 4"] | None = link.tool
            """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        except BaseException:
            link.close()
            raise
        self._numbers = ToolNumbers(self.anchor)

    @property
    def calls(self) -> Mapping[str, Callable[..., Any]]:
        """See :class:`~vla.robot_driver.servo_process.ServoArm`."""
        return {"read": self.read, "grip": self.grip, "halt": self.halt, "frames": lambda: (self.tool, self.anchor)}

    def read(self) -> Measured:
        """What the controller measured last, its time put on the machine's monotonic clock.

        Raises:
            BodyFault: of the link, or what it measures stands still.
        """
        measured = self._fresh()
        return replace(measured, time=self._clock.local(measured.time, self._newest[1]))

    def measure(self) -> Float64[np.ndarray, "n"]:
        """Where the arm is measured to be, in the servo's numbers."""
        measured = self._fresh()
        if self._joints:
            return measured.joints
        return self._numbers.numbers(Pose(measured.tool[:3, 3], measured.tool[:3, :3]), self._near)

    def send(self, position: Float64[np.ndarray, "n"]) -> None:
        """Be there one servo period from now.

        Raises:
            BodyFault: it was halted; anything that the link raises is raised as it was, after halting.
        """
        with self._sending:
            if self._halted:
                raise BodyFault("the arm was halted by its controller: connect again")
            try:
                if self._joints:
                    self.link.send_joints(position)
                else:
                    pose, found = np.eye(4), self._numbers.pose(position)
                    pose[:3, 3], pose[:3, :3] = found.position, found.matrix
                    self.link.send_tool(pose)
                    self._near = position
            except Exception:
                self._halted = True
                self.link.halt()
                raise

    def grip(self, opening: float) -> None:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        self.link.grip(opening)

    def halt(self) -> None:
        """Brake by the controller's own means, for good. Safe to call more than once."""
        self._halted = True
        with self._sending:
            self.link.halt()

    def close(self) -> None:
        """Halt and hang up. Safe to call more than once."""
        self.link.close()

    def _fresh(self) -> Measured:
        measured, now = self.link.read(), time.monotonic()
        if measured.time != self._newest[0]:
            self._newest = measured.time, now
        elif now - self._newest[1] > _STILL:
            raise BodyFault(f"the controller's measurements stand still at {measured.time:.3f} s")
        return measured


def linked(connect: Callable[[], ArmLink], *, joints: bool) -> LinkedArm:
    """Connect, and take the arm behind the link; see :class:`LinkedArm`."""
    return LinkedArm(connect(), joints=joints)
