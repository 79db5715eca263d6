"""What stands behind the emulated UR controller: six joints with limits, a gripper, and the registers that move them.

The control script that a client uploads is not interpreted. It is the one of ur-rtde, which talks through registers:
``input_int_register_0`` is the command, ``output_int_register_0`` is 1 when it is ready for one and 2 when it is done
with one, the double registers hold the numbers. What those commands do is done here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.robot_driver.ur_kinematics import flange_to_base, jacobian, nearest_joints, pose_matrix, pose_vector

PERIOD = 0.002
"""Of an e-Series controller [s]."""

HOME = np.array([0.0, -np.pi / 2, -np.pi / 2, -np.pi / 2, np.pi / 2, 0.0])
"""Elbow up, tool down [rad]."""

STOPPED, PLAYING = 1, 2  # runtime_state
READY, DONE = 1, 2  # output_int_register_0
MAX_SPEED = np.pi  # of every joint of a UR5e [rad/s]
MAX_ACCELERATION = 40.0  # [rad/s2]
_STREAMED = {11: "servo_joints", 24: "servo_tool", 9: "speed_joints"}
_STOPS = {15, 16, 33, 34}  # speed stop, servo stop, stopl, stopj
_QUIET = 1e-3  # [rad/s]


@dataclass
class EmulatedArm:
    """The arm, stepped by the controller's clock.

    Attributes:
        model: a key of ``ur_kinematics.LENGTHS``.
        q: joint positions [rad].
        qd: joint velocities [rad/s].
        time: of the controller [s].
        integers: integer registers by name.
        doubles: double registers by name.
        runtime: state of the program.
        protective: whether it stands in a protective stop.
        tool: pose of the tool centre point in the flange's frame, position [m] and rotation vector [rad].
        opening: of the gripper, 0 closed to 1 open.
        grip: what the gripper moves to.
    """

    model: str = "ur5e"
    q: Float64[np.ndarray, "6"] = field(default_factory=HOME.copy)
    qd: Float64[np.ndarray, "6"] = field(default_factory=lambda: np.zeros(6))
    time: float = 0.0
    integers: dict[str, int] = field(default_factory=dict)
    doubles: dict[str, float] = field(default_factory=dict)
    runtime: int = STOPPED
    protective: bool = False
    tool: Float64[np.ndarray, "6"] = field(default_factory=lambda: np.zeros(6))
    opening: float = 1.0
    grip: float = 1.0
    _offset: int = 0
    _goal: Callable[[], Float64[np.ndarray, "6"]] | None = None
    _brake: float = 10.0
    _busy: bool = False
    _waits: bool = False
    _watchdog: float = 0.0
    _fed: float = 0.0
    _servoed: Float64[np.ndarray, "24"] | None = None

    def upload(self, script: str) -> None:
        """A program arrives: ur-rtde's control script starts, ``protective_stop()`` stops, anything else is ignored."""
        if "def rtde_control" in script:
            self._offset = 24 if "reg_offset_int = 24" in script else 0
            self._goal, self._servoed, self._busy, self._watchdog = None, None, False, 0.0
            self.runtime = STOPPED if self.protective else PLAYING
        elif "protective_stop()" in script:
            self.protective = True
            self.stop_program()

    def stop_program(self) -> None:
        """The program ends and the arm brakes."""
        self.runtime, self._goal, self._busy, self._brake = STOPPED, None, False, 10.0

    def fed(self) -> None:
        """A client wrote to the registers."""
        self._fed = self.time

    def step(self) -> None:
        """One period: the program, then the joints and the gripper."""
        self.time += PERIOD
        if self.runtime == PLAYING:
            if self._watchdog and self.time - self._fed > self._watchdog:
                self.stop_program()
            else:
                self._program()
        wanted = self._goal() if self._goal else np.zeros(6)
        limit = MAX_ACCELERATION if self._goal else self._brake
        self.qd = self.qd + np.clip(wanted - self.qd, -limit * PERIOD, limit * PERIOD)
        self.q = self.q + self.qd * PERIOD
        self.opening += float(np.clip(self.grip - self.opening, -PERIOD / 0.5, PERIOD / 0.5))

    def outputs(self) -> dict[str, Any]:
        """What RTDE can be asked for and is not 0."""
        tool = pose_matrix(self.tool)
        speed = jacobian(self.model, self.q, tool) @ self.qd if np.abs(self.qd).max() > _QUIET / 10 else np.zeros(6)
        pose = self.tool_pose()
        return {
            "timestamp": self.time,
            "actual_q": self.q,
            "actual_qd": self.qd,
            "target_q": self.q,
            "target_qd": self.qd,
            "actual_TCP_pose": pose,
            "target_TCP_pose": pose,
            "actual_TCP_speed": speed,
            "joint_temperatures": np.full(6, 30.0),
            "robot_mode": 7,  # running
            "safety_mode": 3 if self.protective else 1,
            "speed_scaling": 1.0,
            "target_speed_fraction": 1.0,
            "runtime_state": self.runtime,
            "robot_status_bits": 1 | (2 if self.runtime == PLAYING else 0),
            "safety_status_bits": 4 | 1024 if self.protective else 1,
            **{name: value for name, value in self.integers.items() if name.startswith("output")},
            **{name: value for name, value in self.doubles.items() if name.startswith("output")},
        }

    def tool_pose(self) -> Float64[np.ndarray, "6"]:
        """Of the tool centre point in the base frame: position [m] and rotation vector [rad]."""
        return pose_vector(flange_to_base(self.model, self.q) @ pose_matrix(self.tool))

    def _program(self) -> None:
        """One turn of the control script's loop."""
        command = self.integers.get(f"input_int_register_{self._offset}", 0)
        if command in _STREAMED:
            getattr(self, f"_{_STREAMED[command]}")()
            self._status(READY)
        elif command == 0:
            self._busy = False
            self._status(READY)
        elif not self._busy:
            self._busy, self._waits = True, self._begin(command)
        if self._busy and self._waits and np.abs(self.qd).max() < _QUIET and self._arrived():
            self._waits = False
        if self._busy and not self._waits:
            self._status(DONE)

    def _begin(self, command: int) -> bool:
        """Start a command; whether it takes until the arm stands still."""
        numbers, self._servoed = self._numbers(), None
        if command == 255:
            self.stop_program()
        elif command in _STOPS:
            self._goal, self._brake = None, max(numbers[0], 0.1)
            return True
        elif command in (1, 2, 3, 4):  # movej, movej_ik, movel, movel_fk: all along joints here
            target = self._solved(numbers[:6]) if command in (2, 3) else numbers[:6]
            if target is None:
                self.stop_program()  # as the script does when inverse kinematics fails
            else:
                self._goal = self._move(target, *numbers[6:8])
                return not self.integers.get(f"input_int_register_{self._offset + 1}", 0)
        elif command == 29:
            self.tool = numbers[:6].copy()
        elif command == 35:
            self._watchdog, self._fed = 1.0 / numbers[0], self.time
        elif command == 40:
            self._answer(self.tool)
        elif command == 43:
            self._answer(self.tool_pose())
        elif command in (30, 46):
            found = self._solved(numbers[:6])
            self._answer(np.zeros(6) if found is None else found)
        elif command == 47:
            self.integers[f"output_int_register_{self._offset + 1}"] = int(np.abs(self.qd).max() < _QUIET)
        return False

    def _servo_joints(self) -> None:
        numbers = self._numbers()
        self._follow(numbers[:6], numbers[9])

    def _servo_tool(self) -> None:
        numbers = self._numbers()
        if self._servoed is None or not np.array_equal(numbers, self._servoed):  # each pose is solved once
            target = self._solved(numbers[:6])
            self._servoed = numbers
            if target is None:
                self.stop_program()
            else:
                self._follow(target, numbers[9])

    def _speed_joints(self) -> None:
        speed = np.clip(self._numbers()[:6], -MAX_SPEED, MAX_SPEED)
        self._goal = lambda: speed

    def _follow(self, target: Float64[np.ndarray, "6"], lookahead: float) -> None:
        self._goal = lambda: np.clip((target - self.q) / max(lookahead, 0.03), -MAX_SPEED, MAX_SPEED)

    def _move(self, target: Float64[np.ndarray, "6"], speed: float, acceleration: float) -> Callable[[], Any]:
        def wanted() -> Float64[np.ndarray, "6"]:
            rest = target - self.q
            size = np.sqrt(np.maximum(2 * 0.8 * acceleration * np.abs(rest), 0))
            return np.sign(rest) * np.minimum(np.minimum(size, 10 * np.abs(rest)), speed)

        return wanted

    def _arrived(self) -> bool:
        return self._goal is None or float(np.abs(self._goal()).max()) < _QUIET

    def _solved(self, pose: Float64[np.ndarray, "6"]) -> Float64[np.ndarray, "6"] | None:
        return nearest_joints(self.model, pose_matrix(pose), self.q, pose_matrix(self.tool))

    def _numbers(self) -> Float64[np.ndarray, "24"]:
        return np.array([self.doubles.get(f"input_double_register_{self._offset + i}", 0.0) for i in range(24)])

    def _answer(self, numbers: Float64[np.ndarray, "6"]) -> None:
        for place, number in enumerate(numbers):
            self.doubles[f"output_double_register_{self._offset + place}"] = float(number)

    def _status(self, value: int) -> None:
        self.integers[f"output_int_register_{self._offset}"] = value
