"""The Franka and xArm drivers over fakes of their vendors' libraries, and the names those libraries must have."""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import sys
import time
from types import ModuleType

import numpy as np
import pytest
from fake_arms import FRANKA_Q, HOME, TOOL, franky_module, install, xarm_module

from vla.embodiments.franka import aimed_at
from vla.errors import BodyFault, ConfigError, DependencyMissing, PolicyFault, UnknownName
from vla.mounting import offset_matrix
from vla.robot_driver import franka, xarm
from vla.safety import SafeBody

# fakes of libraries are in this process alone
franka_here = functools.partial(franka.Config, process=False)
xarm_here = functools.partial(xarm.Config, process=False)


def until(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def franky(monkeypatch):
    module = franky_module()
    install(monkeypatch, franky=module)
    return module


@pytest.fixture
def sdk(monkeypatch):
    module = xarm_module()
    install(monkeypatch, xarm=ModuleType("xarm"), xarm_wrapper=module)
    return module


def test_a_franka_follows_and_its_tool_is_the_embodiments(franky):
    config = franka_here("10.0.0.1", speed=1.0)
    with contextlib.closing(config.make()) as arm:
        assert ("robot", "10.0.0.1", "enforce") in franky.arm.calls
        assert arm.spec.name == "franka_fr3" and arm.spec.tool is not None
        np.testing.assert_allclose(offset_matrix(arm.spec.tool), TOOL, atol=1e-5)
        body = SafeBody(arm, config.limits())
        seen = body.observe()
        np.testing.assert_allclose(seen.state[:3], HOME[:3, 3], atol=1e-6)
        np.testing.assert_allclose(seen.state[6:13], FRANKA_Q, atol=1e-6)
        assert seen.state[13] == 1.0
        sent = body.command(np.array([0.02, 0, -0.01, 0, 0, 0.1, 0.0], np.float32))
        until(lambda: np.abs(arm.observe().state[:3] - HOME[:3, 3] - [0.02, 0, -0.01]).max() < 1e-4)
        assert sent[0] == np.float32(0.02)
        until(lambda: abs(franky.arm.pose[0, 1] - np.sin(0.1)) < 1e-3)  # turned about the base's z
        until(lambda: ("grasp", 20.0) in franky.arm.calls)
        until(lambda: abs(arm.observe().state[13] - 0.03 / 0.08) < 1e-6)  # measured, not what was commanded
        body.observe()
        body.command(np.array([0, 0, 0, 0, 0, 0, 0.5], np.float32))
        until(lambda: ("move", 0.04) in franky.arm.calls)
        arm.stop()
    assert franky.arm.calls[-1] == ("stop",)


def test_a_franka_that_stops_by_itself_says_why(franky):
    with contextlib.closing(franka_here(gripper=False, real_time=False).make()) as arm:
        assert ("robot", "172.16.0.2", "ignore") in franky.arm.calls
        franky.arm.errors.cartesian_reflex = True
        with pytest.raises(BodyFault, match="cartesian_reflex; recover it in Desk"):
            until(lambda: arm.observe() is None)
    franky.arm.errors.cartesian_reflex = False
    with contextlib.closing(franka_here(gripper=False).make()) as arm:
        until(lambda: any(tracker.is_running for tracker in franky.arm.trackers))
        franky.arm.trackers[-1].is_running = False
        with pytest.raises(BodyFault, match="its controller has ended"):
            until(lambda: arm.observe() is None)
    with contextlib.closing(franka_here(gripper=False).make()) as arm:
        franky.arm.gone = True
        with pytest.raises(BodyFault, match="UDP receive: Timeout"):
            until(lambda: arm.observe() is None)
    franky.arm.gone, franky.arm.mode = False, franky.RobotMode.UserStopped
    with pytest.raises(BodyFault, match="its mode is UserStopped"):
        franka_here().make()
    franky.arm.mode, franky.arm.max_width = franky.RobotMode.Idle, 0.0
    with pytest.raises(BodyFault, match="home it in Desk"):
        franka_here().make()


def test_a_frankas_joints(franky):
    with contextlib.closing(franka_here(joints=True, gripper=False).make()) as arm:
        goal = FRANKA_Q + 0.05
        arm.command(goal.astype(np.float32))
        until(lambda: np.abs(arm.observe().state[6:13] - goal).max() < 1e-4)
        assert ("tracker", ["stiffness"]) in franky.arm.calls
        beyond = np.full(7, 9.0, np.float32)
        np.testing.assert_allclose(arm.command(beyond), [high for _, high in aimed_at()], rtol=1e-6)


def test_an_xarm_follows_in_servo_mode(sdk):
    config = xarm_here("10.0.0.2", gripper=True, speed=1.0, tool=(0, 0, 0.2, 0, 0, np.pi / 2))
    with contextlib.closing(config.make()) as arm:
        assert sdk.arm.mode == 1 and sdk.arm.state == 2 and ("enable", True) in sdk.arm.calls
        assert arm.spec.tool is not None and arm.spec.tool.position == (0.0, 0.0, 0.2)
        np.testing.assert_allclose(arm.spec.tool.rotation, [0, 0, np.pi / 2], atol=1e-3)
        np.testing.assert_allclose(sdk.offset, [0, 0, 200, 0, 0, np.pi / 2], atol=1e-9)
        before = arm.observe()
        np.testing.assert_allclose(before.state[:3], [0.4, 0.1, 0.3], atol=1e-6)
        assert len(arm.spec.state) == 6 + 7 + 1 and before.time <= time.monotonic()
        arm.command(np.array([0.02, -0.02, 0, 0, 0.05, 0, 0.25], np.float32))
        until(lambda: np.abs(arm.observe().state[:3] - [0.42, 0.08, 0.3]).max() < 1e-4)
        np.testing.assert_allclose(sdk.arm.place[:2], [420.0, 80.0], atol=0.2)
        until(lambda: abs(arm.observe().state[-1] - 0.25) < 1e-3)
        servo, hand = sdk.opened
        assert servo is sdk.arm and ("gripper", 212.5) in hand.calls, "the servo's connection is its own"
        assert not [call for call in servo.calls if call[0] == "gripper"]
        with pytest.raises(PolicyFault):
            arm.command(np.zeros(3, np.float32))
    assert sdk.arm.calls[-1] == ("state", 4) and not any(api.connected for api in sdk.opened)


def test_an_xarms_tool_is_the_one_that_its_controller_has(sdk):
    with contextlib.closing(xarm_here().make()) as arm:
        assert arm.spec.tool is not None
        np.testing.assert_allclose(arm.spec.tool.position, [0, 0, 0.172], atol=1e-6)
        assert [api.connected for api in sdk.opened] == [False, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"error_code": 31}, "error 31; clear it in UFACTORY Studio"),
        ({"state": 3}, "its state is 3"),
        ({"state": 4}, "its state is 4"),
        ({"connected": False}, "the connection ended"),
        ({"code": 1}, "set_servo_cartesian_aa was answered with code 1"),
    ],
)
def test_an_xarm_that_stops_by_itself_says_why(sdk, change, said):
    with contextlib.closing(xarm_here().make()) as arm:
        for name, value in change.items():
            setattr(sdk.arm, name, value)
        with pytest.raises(BodyFault, match=said):
            until(lambda: arm.observe() is None)


def test_an_xarm_that_is_not_there_or_says_nothing(sdk, monkeypatch):
    sdk.faults["unreachable"] = True
    with pytest.raises(BodyFault, match=r"192\.168\.1\.200 cannot be reached: connect socket failed"):
        xarm_here().make()
    sdk.faults.clear()
    with contextlib.closing(xarm_here(model="xarm6", joints=True).make()) as arm:
        assert arm.spec.action.size == 6
        sdk.faults["silent"] = True
        with pytest.raises(BodyFault, match="measurements stand still"):
            until(lambda: arm.observe() is None)
    monkeypatch.setattr(xarm, "_FIRST", 0.1)
    with pytest.raises(BodyFault, match="its tool centre point is not known"):
        xarm_here().make()
    with pytest.raises(BodyFault, match="sends no reports"):
        xarm_here(tool=(0.0, 0.0, 0.1, 0.0, 0.0, 0.0)).make()
    assert not any(api.connected for api in sdk.opened), "nothing stays open"


@pytest.mark.parametrize("driver", [franka, xarm])
def test_a_missing_library_names_its_extra(driver, monkeypatch):
    name = driver.__name__.rpartition(".")[2]
    for module in ("franky", "xarm", "xarm.wrapper"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyMissing, match=rf"vla-stack\[{name}\]"):
        driver.Config(process=False).make()


@pytest.mark.parametrize("driver", [franka, xarm])
def test_settings_out_of_range_are_refused(driver):
    with pytest.raises(UnknownName):
        driver.Config(model="none")
    for name, value in {"servo_rate": 5.0, "joint_speed": 9.0, "speed": -1.0, "priority": 100}.items():
        with pytest.raises(ConfigError, match=name):
            dataclasses.replace(driver.Config(), **{name: value})
    assert driver.Config(table=0.05).limits().low[2] == 0.05
    tool, joints = driver.Config().limits(), driver.Config(joints=True).limits()
    for name in ("max_age", "heartbeat", "clock_jump", "frozen_pictures", "black"):
        assert getattr(tool, name) == getattr(joints, name), "a hung policy or a dead camera stops either"


@pytest.mark.parametrize("name", ["ur", "franka", "xarm"])
def test_every_driver_without_hardware_says_so(name):
    module = importlib.import_module(f"vla.robot_driver.{name}")
    assert "not run on hardware" in (inspect.getdoc(module) or "").lower()


def test_what_the_drivers_call_is_what_the_libraries_have():
    franky = pytest.importorskip("franky", reason="the extra franka (franky-control) is not installed")
    for owner, names in {
        franky: ("Exception", "RobotMode", "RealtimeConfig", "Affine"),
        franky.Robot: ("state",),
        franky.RobotState: ("current_errors", "robot_mode", "time", "O_T_EE", "F_T_EE", "q"),
        franky.Duration: ("to_sec",),
        franky.Gripper: ("max_width", "state", "grasp_async", "move_async"),
        franky.GripperState: ("width", "max_width"),
        franky.RobotMode: ("UserStopped", "Reflex", "Guiding"),
        franky.CartesianImpedanceTracker: ("set_target", "is_running", "stop"),
        franky.JointImpedanceTracker: ("set_target", "is_running", "stop"),
    }.items():
        assert not [one for one in names if not hasattr(owner, one)], owner
    options = inspect.signature(franky.CartesianImpedanceTracker.__init__).parameters
    assert {"robot", "translational_stiffness", "rotational_stiffness"} <= options.keys()
    assert "stiffness" in inspect.signature(franky.JointImpedanceTracker.__init__).parameters
    np.testing.assert_allclose(franky.Affine(HOME).matrix, HOME)
    assert issubclass(franky.ControlException, franky.Exception)
    assert "cartesian_reflex" in dir(franky.Errors())


def test_what_the_xarm_driver_calls_is_what_its_library_has():
    pytest.importorskip("xarm.wrapper", reason="the extra xarm (xarm-python-sdk) is not installed")
    from xarm.wrapper import XArmAPI

    for name, options in {
        "set_servo_cartesian_aa": {"is_radian"},
        "set_servo_angle_j": {"is_radian"},
        "set_tcp_offset": {"is_radian"},
        "motion_enable": {"enable"},
        "set_mode": set(),
        "set_state": set(),
        "set_gripper_enable": set(),
        "get_gripper_position": set(),
        "set_gripper_position": {"wait"},
        "register_report_location_callback": {"callback"},
        "disconnect": set(),
    }.items():
        assert options <= inspect.signature(getattr(XArmAPI, name)).parameters.keys(), name
    for name in ("connected", "error_code", "state", "tcp_offset"):
        assert isinstance(inspect.getattr_static(XArmAPI, name), property), name
