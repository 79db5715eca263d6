"""An arm with its servo, as the policy's side sees it: in this process, or in one of its own.

In a process of its own nothing that this process computes delays the servo, and if this process dies, however it does,
the arm comes to rest within its limits and is let go. In a thread, whatever this process has made (a fake of a vendor's
library, an open link) can be driven; the two take the same calls.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float64

from vla.robot_driver.arm_link import Measured
from vla.robot_driver.linked_arm import LinkedArm
from vla.robot_driver.motion import MotionLimits, MotionState
from vla.robot_driver.servo_loop import Servo
from vla.robot_driver.servo_process import ServoProcess
from vla.robot_driver.trajectory import Path

_HALT_S = 5.0  # a vendor's stop may wait for its controller


class Follower(Protocol):
    """What follows paths: see :class:`~vla.robot_driver.servo_loop.Servo`."""

    @property
    def state(self) -> MotionState: ...  # noqa: D102
    def follow(self, path: Path) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def check(self) -> None: ...  # noqa: D102
    def wait_until_rest(self, timeout: float) -> bool: ...  # noqa: D102
    def report(self) -> dict[str, Any]: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class DrivenArm(Protocol):
    """An arm that is held where it is, and waits for paths.

    Attributes:
        servo: what moves it.
        tool: the tool centre point that the controller has, in the flange's frame; None if it does not say.
        anchor: the tool's orientation when it was connected.
    """

    servo: Follower
    tool: Float64[np.ndarray, "4 4"] | None
    anchor: Float64[np.ndarray, "3 3"]

    def read(self) -> Measured:
        """What was measured last, its time on ``time.monotonic``.

        Raises:
            BodyFault: the arm is gone.
        """
        ...

    def grip(self, opening: float) -> None:
        """Open or close the gripper to this, 0 closed to 1 open.

        Raises:
            BodyFault: the arm or its gripper is gone.
        """
        ...

    def halt(self) -> None:
        """Brake by the controller's own means, for good.

        Raises:
            BodyFault: nothing reaches the controller any more.
        """
        ...

    def close(self) -> None:
        """Come to rest, hang up. Safe to call more than once."""
        ...


class ArmHere:
    """A :class:`DrivenArm` whose servo is a thread of this process.

    Args:
        connect: connects to the arm.
        limits: of the servo's numbers.
        settings: of the :class:`~vla.robot_driver.servo_loop.Servo`.

    Raises:
        BodyFault: the arm cannot be reached.
    """

    def __init__(self, connect: Callable[[], LinkedArm], limits: MotionLimits, **settings: Any):
        arm = self.arm = connect()
        self.tool, self.anchor = arm.tool, arm.anchor
        self.read, self.grip, self.halt = arm.read, arm.grip, arm.halt
        self.servo: Follower = Servo(arm.send, arm.measure, limits, **settings)
        try:
            self.servo.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See :class:`DrivenArm`."""
        with contextlib.ExitStack() as stack:  # both, whatever the first one raises
            stack.callback(self.arm.close)
            stack.callback(self.servo.close)


class ArmInProcess:
    """A :class:`DrivenArm` whose link and servo are in a process of their own.

    Args:
        connect: connects to the arm, in that process; a function of a module or a ``functools.partial`` of one.
        limits: of the servo's numbers.
        settings: of the :class:`~vla.robot_driver.servo_loop.Servo`.

    Raises:
        BodyFault: the arm cannot be reached.
        VlaError: what connecting raised, as it was.
    """

    def __init__(self, connect: Callable[[], LinkedArm], limits: MotionLimits, **settings: Any):
        process = self._process = ServoProcess(connect, limits, **settings)
        self.servo: Follower = process
        process.start()
        try:
            self.tool, self.anchor = process.call("frames")
        except BaseException:
            self.close()
            raise

    def read(self) -> Measured:
        """See :class:`DrivenArm`."""
        return self._process.call("read")

    def grip(self, opening: float) -> None:
        """See :class:`DrivenArm`."""
        self._process.call("grip", opening)

    def halt(self) -> None:
        """See :class:`DrivenArm`."""
        self._process.call("halt", within=_HALT_S)

    def close(self) -> None:
        """See :class:`DrivenArm`."""
        self._process.close()
