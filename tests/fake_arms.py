"""Fakes of vendors' libraries: the few calls that the drivers make, over an arm that goes where it is told at once."""

import sys
import threading
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from vla.rotation import convert, from_matrix, to_matrix

HOME = np.array([[1.0, 0, 0, 0.4], [0, -1, 0, 0.1], [0, 0, -1, 0.3], [0, 0, 0, 1]])
TOOL = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.1034], [0, 0, 0, 1]])
FRANKA_Q = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])


class FrankyError(RuntimeError):
    """As ``franky.Exception``."""


class Errors:
    """As ``franky.Errors``: named flags."""

    def __init__(self):
        self.cartesian_reflex = False
        self.joint_velocity_violation = False


def franky_module() -> Any:
    """As ``franky``; ``module.arm`` is what it moves."""
    module: Any = ModuleType("franky")
    modes = SimpleNamespace(Idle=SimpleNamespace(name="Idle"), Move=SimpleNamespace(name="Move"))
    for name in ("UserStopped", "Reflex", "Guiding"):
        setattr(modes, name, SimpleNamespace(name=name))
    arm = SimpleNamespace(pose=HOME.copy(), q=FRANKA_Q.copy(), errors=Errors(), mode=modes.Idle, width=0.08, calls=[])
    arm.max_width, arm.gone, arm.trackers = 0.08, False, []

    class Affine:
        def __init__(self, matrix):
            self.matrix = np.array(matrix)

    class Robot:
        def __init__(self, host, *, realtime_config):
            arm.calls.append(("robot", host, realtime_config))

        @property
        def state(self):
            if arm.gone:
                raise FrankyError("UDP receive: Timeout")
            return SimpleNamespace(
                current_errors=arm.errors,
                robot_mode=arm.mode,
                time=SimpleNamespace(to_sec=time.monotonic),
                O_T_EE=Affine(arm.pose),
                F_T_EE=Affine(TOOL),
                q=arm.q.copy(),
            )

    class Gripper:
        def __init__(self, host):
            pass

        @property
        def max_width(self):
            return arm.max_width

        @property
        def state(self):
            return SimpleNamespace(width=arm.width, max_width=arm.max_width)

        def grasp_async(self, width, speed, force, epsilon_inner, epsilon_outer):
            arm.calls.append(("grasp", force))
            arm.width = 0.03  # there is something in between

        def move_async(self, width, speed):
            arm.calls.append(("move", width))
            arm.width = width

    class Tracker:
        def __init__(self, robot, **options):
            self.is_running = True
            arm.trackers.append(self)
            arm.calls.append(("tracker", sorted(options)))

        def stop(self):
            self.is_running = False
            arm.calls.append(("stop",))

    class CartesianImpedanceTracker(Tracker):
        def set_target(self, pose):
            arm.pose = pose.matrix.copy()

    class JointImpedanceTracker(Tracker):
        def set_target(self, q):
            arm.q = np.array(q)

    module.Exception, module.RobotMode, module.Affine = FrankyError, modes, Affine
    module.RealtimeConfig = SimpleNamespace(Enforce="enforce", Ignore="ignore")
    module.Robot, module.Gripper = Robot, Gripper
    module.CartesianImpedanceTracker, module.JointImpedanceTracker = CartesianImpedanceTracker, JointImpedanceTracker
    module.arm = arm
    return module


def xarm_module() -> Any:
    """As ``xarm.wrapper``; the newest ``XArmAPI`` is ``module.arm``."""
    module: Any = ModuleType("xarm.wrapper")
    module.faults, module.offset = {}, [0.0, 0.0, 172.0, 0.0, 0.0, 0.0]  # the offset is the controller's

    module.opened = []

    class XArmAPI:
        def __init__(self, port, *, is_radian, report_type):
            if "unreachable" in module.faults:
                raise Exception("connect socket failed")  # as the library does
            self.connected, self.error_code, self.state, self.mode = True, 0, 4, 0
            self.tcp_offset, self._report_type = [0.0] * 6, report_type  # until a report says it; "real" ones do not
            self.place = [400.0, 100.0, 300.0, np.pi, 0.0, 0.0]
            self.angles = [0.0, -0.5, 0.0, 0.8, 0.0, 1.2, 0.0]
            self.opened, self.calls, self.code = 850.0, [], 0
            self._callback: Any = None
            self._over = threading.Event()
            self._thread = threading.Thread(target=self._report, daemon=True)
            self._thread.start()
            if report_type == "real":
                module.arm = self
            module.opened.append(self)

        def register_report_location_callback(self, callback):
            self._callback = callback
            return True

        def _report(self):
            while not self._over.wait(0.01):
                if self._report_type != "real":
                    self.tcp_offset = list(module.offset)
                if self._callback is not None and "silent" not in module.faults:
                    self._callback({"cartesian": list(self.place), "joints": list(self.angles)})

        def set_tcp_offset(self, offset, *, is_radian):
            module.offset = list(offset)
            return 0

        def motion_enable(self, *, enable):
            self.calls.append(("enable", enable))
            return 0

        def set_mode(self, mode):
            self.mode = mode
            return 0

        def set_state(self, state):
            self.state = 2 if state == 0 else state
            self.calls.append(("state", state))
            return 0

        def set_servo_cartesian_aa(self, place, *, is_radian):
            if self.mode != 1 or self.state == 4:
                return 9
            turn = convert(np.array(place[3:]), "axis_angle", "euler_xyz").tolist()
            self.place = [*place[:3], *turn]
            return self.code

        def set_servo_angle_j(self, angles, *, is_radian):
            self.angles = [*angles, *self.angles[len(angles) :]]
            return self.code

        def set_gripper_enable(self, enable):
            return 0

        def get_gripper_position(self):
            return 0, self.opened

        def set_gripper_position(self, place, *, wait):
            self.opened = place
            self.calls.append(("gripper", place))
            return 0

        def disconnect(self):
            self._over.set()
            self.connected = False

    module.XArmAPI = XArmAPI
    return module


def install(monkeypatch, **modules) -> None:
    """Let these be imported by name; ``_`` in a keyword is a dot."""
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name.replace("_", "."), module)


__all__ = ["FRANKA_Q", "HOME", "TOOL", "franky_module", "from_matrix", "install", "to_matrix", "xarm_module"]
