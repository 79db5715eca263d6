"""A vendor's arm as a :class:`~vla.protocols.Body`: actions at the policy's rate in, bounded motion at the servo's out.

Tool actions are servoed as six numbers (:mod:`~vla.robot_driver.tool_numbers`), and the controller solves its own
inverse kinematics, with its factory calibration; or as joints, which inverse kinematics of our own finds
(:mod:`~vla.robot_driver.action_goals`). The servo and the link are in a process of their own, or the servo is a thread
of this one (:mod:`~vla.robot_driver.driven_arm`).

A change of the pose counts from the pose that the last command asked for, and after a stop from where the servo is:
changes add up as they were recorded, and nothing is left over from a motion that was stopped. A policy's chunks count
from the pose they were predicted from (:mod:`vla.anchoring`).
"""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla import rotation
from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.experience import Image, Observation
from vla.robot_driver.action_goals import Goals, JointGoals, SolvedGoals, ToolGoals
from vla.robot_driver.arm_camera import Camera
from vla.robot_driver.arm_link import Measured
from vla.robot_driver.driven_arm import DrivenArm
from vla.robot_driver.inverse_kinematics import InverseKinematics
from vla.robot_driver.motion import MotionLimits
from vla.robot_driver.tool_numbers import TURN, ToolNumbers
from vla.robot_driver.trajectory import Ramp
from vla.tool_pose import Pose


@dataclass(frozen=True)
class ToolLimits:
    """How fast a tool may be moved along and around each axis.

    Attributes:
        speed: [m/s]. The default is the speed at which ISO 10218 lets a person be beside the arm: askew, all three axes
            together make up to 1.7 times as much, so 0.14 keeps to it in every direction.
        turn: [rad/s].
        acceleration: [m/s2] and, four times it, [rad/s2].
        jerk: [m/s3] and, four times it, [rad/s3].

    Raises:
        ConfigError: one is not above 0, or faster than any arm beside people.
    """

    speed: float = 0.25
    turn: float = 1.0
    acceleration: float = 1.5
    jerk: float = 20.0

    def __post_init__(self):
        for name, most in (("speed", 2.0), ("turn", 6.3), ("acceleration", 20.0), ("jerk", 2000.0)):
            if not 0 < getattr(self, name) <= most:
                raise ConfigError(f"{name} is above 0 and at most {most:g}, found {getattr(self, name)}")

    @property
    def motion(self) -> MotionLimits:
        """For a position and a rotation vector."""
        return MotionLimits(
            low=(-5.0,) * 3 + (-TURN,) * 3,
            high=(5.0,) * 3 + (TURN,) * 3,
            velocity=(self.speed,) * 3 + (self.turn,) * 3,
            acceleration=(self.acceleration,) * 3 + (4 * self.acceleration,) * 3,
            jerk=(self.jerk,) * 3 + (4 * self.jerk,) * 3,
        )


class StreamedArm:
    """An arm behind a link and a servo.

    Args:
        arm: connected and held; its numbers are the tool's six, or the joints where those are commanded or solved for.
        spec: whose state channels are of the tool's pose, of joints, of the gripper, in any order; whose actions are
            changes of the tool's pose in the base frame, or joint positions.
        cameras: by name, as in the spec.
        kinematics: that solves changes of the tool's pose for joints; the controller's own if None.

    Raises:
        ConfigError: the spec asks for what an arm has not.
    """

    def __init__(
        self,
        arm: DrivenArm,
        spec: EmbodimentSpec,
        *,
        cameras: Mapping[str, Camera] | None = None,
        kinematics: InverseKinematics | None = None,
    ):
        self.servo, self._arm, self._spec = arm.servo, arm, spec
        self._cameras = dict(cameras or {})
        self._check_spec()
        self._goals = _goals(arm, spec, kinematics)
        self._goal = np.zeros(0)
        self._live = False  # whether the servo follows the goal, or stands there
        self._closed = False
        self._pressed = ""
        self.picture_times: dict[str, float] = {}
        """When the pictures of the last observation were taken, on this process's clock [s]."""

    @property
    def spec(self) -> EmbodimentSpec:
        """What it senses and accepts."""
        return self._spec

    def observe(self, *, images: bool = True) -> Observation:
        """What the controller measured last, with its time put on this process's clock.

        Raises:
            BodyFault: the arm or a camera is gone, or the servo has stopped.
        """
        self._check()
        measured = self._arm.read()
        self._goals.saw(measured)
        pictures: dict[str, Image] = {}
        for name, camera in self._cameras.items() if images else ():
            pictures[name], self.picture_times[name] = camera.newest()
        return Observation(pictures, self._state(measured), "", measured.time)

    def command(self, action: Float32[np.ndarray, "a"]) -> Float32[np.ndarray, "a"]:
        """Move towards an action from now on; returns it as it was cut to the spec's ranges, and to what was reached.

        Raises:
            PolicyFault: not finite or of the wrong shape; the arm brakes.
            BodyFault: the arm is gone, the servo has stopped, or the e-stop is pressed; or there is no way to where
                the action leads: the arm brakes.
        """
        channels = self._spec.action.channels
        action = np.asarray(action, np.float32)
        if action.shape != (len(channels),) or not np.isfinite(action).all():
            self.stop()
            raise PolicyFault(f"an action is {len(channels)} finite numbers, found {action}; the arm was stopped")
        self._check()
        self._refuse_if_pressed()
        low = np.array([channel.low / channel.scale for channel in channels])
        high = np.array([channel.high / channel.scale for channel in channels])
        cut = np.clip(action, low, high).astype(np.float32)
        start = self._goal if self._live else self.servo.state.position
        try:
            goal, sent = self._goals.after(start, cut)
        except BodyFault:
            self.stop()
            raise
        now = time.monotonic()
        self._goal, self._live = goal, True
        self.servo.follow(Ramp(now, now + 1 / self._spec.action.rate, start, goal))
        self._refuse_if_pressed()  # meanwhile, and what was given just now may have come after that stop
        for place, channel in enumerate(channels):
            if channel.kind == "gripper":
                self._arm.grip(float(sent[place]) * channel.scale)
        return sent

    def counts_from(self) -> Pose | None:
        """What the last command asked for, after a stop where the servo is; None where joints are commanded."""
        if isinstance(self._goals, JointGoals):
            return None
        return self._goals.pose(self._goal if self._live else self.servo.state.position)

    @property
    def exposures(self) -> dict[str, float | None]:
        """Exposure times of its cameras [s]; None where the device does not say."""
        return {name: camera.exposure for name, camera in self._cameras.items()}

    def report(self) -> dict[str, Any]:
        """Of the servo (ticks, missed deadlines, stops) and of our own kinematics, if they are used; JSON values.

        Raises:
            BodyFault: the servo's process is gone.
        """
        return self.servo.report() | self._goals.report()

    def stop(self) -> None:
        """Brake within the limits and hold; for good and by the controller's own means if the servo has a fault.

        Raises:
            BodyFault: the servo's process is gone or does not answer: its controller stops by its own watchdog.
        """
        self.servo.stop()
        self._live = False
        try:
            self.servo.check()
        except Exception:  # noqa: BLE001 - whatever a vendor's library raised in the servo
            self._arm.halt()

    def estop(self, reason: str) -> None:
        """Brake within the limits and refuse to move until :meth:`release`; from any thread, waits for no call."""
        self._pressed = self._pressed or reason
        self.servo.stop()
        self._live = False

    def release(self) -> None:
        """It may move again."""
        self._pressed = ""

    def close(self) -> None:
        """Stop, hang up, close the cameras. Safe to call more than once."""
        if not self._closed:
            self._closed = True
            with contextlib.ExitStack() as stack:  # all of it, last line first, whatever one of them raises
                for camera in self._cameras.values():
                    stack.callback(camera.close)
                stack.callback(self._arm.close)

    def _check(self) -> None:
        if self._closed:
            raise BodyFault("the connection was closed")
        self.servo.check()

    def _refuse_if_pressed(self) -> None:
        if self._pressed:
            self.servo.stop()
            self._live = False
            raise BodyFault(f"the e-stop is pressed ({self._pressed}); release it to go on")

    def _state(self, measured: Measured) -> Float32[np.ndarray, "s"]:
        form = self._spec.state_rotation
        parts = {
            "position": measured.tool[:3, 3],
            "rotation": rotation.from_matrix(measured.tool[:3, :3], form) if form else np.zeros(0),
            "joint": measured.joints,
            "gripper": np.array([np.nan if measured.opening is None else measured.opening]),
        }
        taken = dict.fromkeys(parts, 0)
        state = np.zeros(len(self._spec.state), np.float32)
        for place, channel in enumerate(self._spec.state):
            state[place] = parts[channel.kind][taken[channel.kind]] / channel.scale
            taken[channel.kind] += 1
        if not np.isfinite(state).all():
            channel = self._spec.state[int(np.flatnonzero(~np.isfinite(state))[0])]
            raise BodyFault(f"state channel {channel.name} is not finite: a measured value is missing")
        return state

    def _check_spec(self) -> None:
        spec, action = self._spec, self._spec.action
        wrong = [c.name for c in spec.state if c.kind not in ("position", "rotation", "joint", "gripper")]
        if wrong:
            raise ConfigError(f"{spec.name}: an arm does not measure {', '.join(wrong)}")
        shifts = [channel for channel in action.channels if channel.kind == "position"]
        tool = action.mode == "delta" and action.frame == "base" and len(shifts) == 3
        if not tool and not (action.frame == "joint" and action.mode == "absolute"):
            known = "changes of the tool's pose in the base frame, or joint positions"
            raise ConfigError(f"{spec.name}: actions are {known}")
        if set(self._cameras) != set(spec.camera_names):
            raise ConfigError(f"{spec.name} has cameras {spec.camera_names}, given are {tuple(self._cameras)}")


def _goals(arm: DrivenArm, spec: EmbodimentSpec, kinematics: InverseKinematics | None) -> Goals:
    if kinematics is not None:
        return SolvedGoals(spec.action, kinematics)
    if spec.action.frame == "joint":
        return JointGoals(spec.action)
    return ToolGoals(spec.action, ToolNumbers(arm.anchor))
