"""A vendor's arm as a :class:`~vla.protocols.Body`: actions at the policy's rate in, bounded motion at the servo's out.

Tool actions are servoed as six numbers, position [m] and rotation vector from the orientation at the start [rad], which
Ruckig can bound; a rotation vector's speed is never below the tool's true one. The controller solves its own inverse
kinematics, with its factory calibration.

A change of the pose counts from the pose that the last command asked for, and after a stop from where the servo is:
changes add up as they were recorded, and nothing is left over from a motion that was stopped. A policy's chunks count
from the pose they were predicted from (:mod:`vla.anchoring`).
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from vla import rotation
from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.experience import Image, Observation
from vla.robot_driver.arm_camera import Camera
from vla.robot_driver.arm_link import ArmLink, ControllerClock, Measured
from vla.robot_driver.motion import MotionLimits
from vla.robot_driver.servo_loop import Servo
from vla.robot_driver.trajectory import Target
from vla.tool_pose import Pose

_TURN = 1.9 * np.pi  # [rad]; a rotation vector is smooth up to a whole turn from where it started
_STILL = 0.5  # [s]; controllers measure at 100 Hz and more


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
            low=(-5.0,) * 3 + (-_TURN,) * 3,
            high=(5.0,) * 3 + (_TURN,) * 3,
            velocity=(self.speed,) * 3 + (self.turn,) * 3,
            acceleration=(self.acceleration,) * 3 + (4 * self.acceleration,) * 3,
            jerk=(self.jerk,) * 3 + (4 * self.jerk,) * 3,
        )


class _Ramp(NamedTuple):
    """A path from one target to the next in one control period; it then stays there."""

    begin: float
    end: float
    start: Float64[np.ndarray, "n"]
    goal: Float64[np.ndarray, "n"]

    def at(self, time: float) -> Target:
        """See :class:`~vla.robot_driver.trajectory.Path`."""
        share = (time - self.begin) / (self.end - self.begin)
        still = np.zeros(len(self.goal))
        if share >= 1:
            return Target(self.goal, still, still)
        way = self.goal - self.start
        return Target(self.start + max(0.0, share) * way, way / (self.end - self.begin), still)


class StreamedArm:
    """An arm behind a link.

    Args:
        link: to its controller.
        spec: whose state channels are of the tool's pose, of joints, of the gripper, in any order; whose actions are
            changes of the tool's pose in the base frame, or joint positions.
        limits: of the motion, six numbers for the tool or one for each joint.
        rate: of the servo [Hz].
        cameras: by name, as in the spec.
        max_deviation: of what is measured from what was sent [m or rad]; beyond it the arm brakes.
        clock: of this process [s].

    Raises:
        ConfigError: the spec asks for what an arm has not.
        BodyFault: of the link.
    """

    def __init__(
        self,
        link: ArmLink,
        spec: EmbodimentSpec,
        limits: MotionLimits,
        *,
        rate: float,
        cameras: Mapping[str, Camera] | None = None,
        max_deviation: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.link, self._spec, self._clock = link, spec, clock
        self._cameras = dict(cameras or {})
        self._controller = ControllerClock()
        self._joints = spec.action.frame == "joint"
        self._check_spec()
        self._goal = np.zeros(0)
        self._anchor = np.eye(3)
        self._live = False  # whether the servo follows the goal, or stands there
        self._closed = self._halted = False
        self._sending = threading.Lock()  # what is halted is sent nothing more, not even what was on its way
        self.picture_times: dict[str, float] = {}
        """When the pictures of the last observation were taken, on this process's clock [s]."""
        self._last: tuple[float, float] = (-np.inf, 0.0)  # the controller's newest time and when it was new here
        self._anchor = self._read().tool[:3, :3]
        self.servo = Servo(self._send, self._place, limits, rate=rate, max_deviation=max_deviation, clock=clock)
        self.servo.start()

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
        measured = self._read()
        stamp = self._controller.local(measured.time, self._last[1])
        pictures: dict[str, Image] = {}
        for name, camera in self._cameras.items() if images else ():
            pictures[name], self.picture_times[name] = camera.newest()
        return Observation(pictures, self._state(measured), "", stamp)

    def command(self, action: Float32[np.ndarray, "a"]) -> Float32[np.ndarray, "a"]:
        """Move towards an action from now on; returns it as it was cut to the spec's ranges.

        Raises:
            PolicyFault: not finite or of the wrong shape; the arm brakes.
            BodyFault: the arm is gone, or the servo has stopped; or the tool has been turned almost once around.
        """
        channels = self._spec.action.channels
        action = np.asarray(action, np.float32)
        if action.shape != (len(channels),) or not np.isfinite(action).all():
            self.stop()
            raise PolicyFault(f"an action is {len(channels)} finite numbers, found {action}; the arm was stopped")
        self._check()
        low = np.array([channel.low / channel.scale for channel in channels])
        high = np.array([channel.high / channel.scale for channel in channels])
        sent = np.clip(action, low, high).astype(np.float32)
        values = sent.astype(np.float64) * [channel.scale for channel in channels]
        parts = {kind: values[self._places(kind)] for kind in ("position", "rotation", "joint", "gripper")}
        start = self._goal if self._live else self.servo.state.position
        goal = parts["joint"] if self._joints else self._moved(start, parts["position"], parts["rotation"])
        now = self._clock()
        self._goal, self._live = goal, True
        self.servo.follow(_Ramp(now, now + 1 / self._spec.action.rate, start, goal))
        if len(parts["gripper"]):
            self.link.grip(float(parts["gripper"][0]))
        return sent

    def counts_from(self) -> Pose | None:
        """What the last command asked for, after a stop where the servo is; None where joints are commanded."""
        if self._joints:
            return None
        numbers = self._goal if self._live else self.servo.state.position
        return Pose(numbers[:3], rotation.to_matrix(numbers[3:], "axis_angle") @ self._anchor)

    @property
    def exposures(self) -> dict[str, float | None]:
        """Exposure times of its cameras [s]; None where the device does not say."""
        return {name: camera.exposure for name, camera in self._cameras.items()}

    def stop(self) -> None:
        """Brake within the limits and hold; for good and by the controller's own means if the servo has a fault."""
        self.servo.stop()
        self._live = False
        try:
            self.servo.check()
        except Exception:  # noqa: BLE001 - whatever a vendor's library raised in the servo
            self._halted = True
            with self._sending:
                self.link.halt()

    def close(self) -> None:
        """Stop, hang up, close the cameras. Safe to call more than once."""
        if not self._closed:
            self._closed = True
            with contextlib.ExitStack() as stack:  # all of it, last line first, whatever one of them raises
                for camera in self._cameras.values():
                    stack.callback(camera.close)
                stack.callback(self.link.close)
                stack.callback(self.servo.close)

    def _check(self) -> None:
        if self._closed:
            raise BodyFault("the connection was closed")
        self.servo.check()

    def _read(self) -> Measured:
        measured, now = self.link.read(), self._clock()
        if measured.time != self._last[0]:
            self._last = measured.time, now
        elif now - self._last[1] > _STILL:
            raise BodyFault(f"the controller's measurements stand still at {measured.time:.3f} s")
        return measured

    def _send(self, position: Float64[np.ndarray, "n"]) -> None:
        with self._sending:
            if self._halted:
                raise BodyFault("the arm was halted by its controller: connect again")
            try:
                if self._joints:
                    self.link.send_joints(position)
                else:
                    pose = np.eye(4)
                    pose[:3, 3] = position[:3]
                    pose[:3, :3] = rotation.to_matrix(position[3:], "axis_angle") @ self._anchor
                    self.link.send_tool(pose)
            except Exception:
                self._halted = True  # now, not when the policy's loop next looks
                self.link.halt()
                raise

    def _place(self) -> Float64[np.ndarray, "n"]:
        """Where the arm is measured to be, in the servo's numbers."""
        measured = self._read()
        return measured.joints if self._joints else self._numbers(measured.tool)

    def _numbers(self, pose: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "6"]:
        turn = rotation.from_matrix(pose[:3, :3] @ self._anchor.T, "axis_angle")
        near = self._goal[3:] if len(self._goal) else np.zeros(3)
        return np.concatenate([pose[:3, 3], _nearest_turn(turn, near)])

    def _moved(
        self, start: Float64[np.ndarray, "6"], shift: Float64[np.ndarray, "3"], turn: Float64[np.ndarray, "r"]
    ) -> Float64[np.ndarray, "6"]:
        form = self._spec.action.rotation
        if form is None or not len(turn):
            return np.concatenate([start[:3] + shift, start[3:]])
        before = rotation.to_matrix(start[3:], "axis_angle")
        after = rotation.from_matrix(rotation.to_matrix(turn, form) @ before, "axis_angle")
        after = _nearest_turn(after, start[3:])
        if np.linalg.norm(after) > _TURN:  # a whole turn has the rotation vector of none: the tool would turn back
            self.stop()
            raise BodyFault("the tool was turned almost once around since the arm was connected: connect again")
        return np.concatenate([start[:3] + shift, after])

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

    def _places(self, kind: str) -> list[int]:
        return [place for place, channel in enumerate(self._spec.action.channels) if channel.kind == kind]

    def _check_spec(self) -> None:
        spec, action = self._spec, self._spec.action
        wrong = [c.name for c in spec.state if c.kind not in ("position", "rotation", "joint", "gripper")]
        if wrong:
            raise ConfigError(f"{spec.name}: an arm does not measure {', '.join(wrong)}")
        tool = action.mode == "delta" and action.frame == "base" and len(self._places("position")) == 3
        if not tool and not (self._joints and action.mode == "absolute"):
            known = "changes of the tool's pose in the base frame, or joint positions"
            raise ConfigError(f"{spec.name}: actions are {known}")
        if set(self._cameras) != set(spec.camera_names):
            raise ConfigError(f"{spec.name} has cameras {spec.camera_names}, given are {tuple(self._cameras)}")


def _nearest_turn(turn: Float64[np.ndarray, "3"], near: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"]:
    """Of the rotation vectors that mean the same, the one nearest to another: no leap where the angle passes pi."""
    angle = float(np.linalg.norm(turn))
    if angle < 1e-9:
        return turn
    other = turn * (1 - 2 * np.pi / angle)
    return turn if np.linalg.norm(turn - near) <= np.linalg.norm(other - near) else other
