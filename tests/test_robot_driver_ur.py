"""The UR driver over the real ur-rtde client and our emulated controller, and the emulator's protocol byte by byte."""

import contextlib
import dataclasses
import importlib.util
import socket
import struct
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.embodiment import Offset
from vla.errors import BodyFault, ConfigError, DependencyMissing, PolicyFault, SpecMismatch, UnknownName
from vla.robot_driver import rtde_format, ur
from vla.robot_driver.ur_emulated_arm import HOME, EmulatedArm
from vla.robot_driver.ur_kinematics import flange_to_base, jacobian, nearest_joints, pose_matrix, pose_vector
from vla.transforms import connect

needs_client = pytest.mark.skipif(
    not importlib.util.find_spec("rtde_control"), reason="the extra ur (ur-rtde) is not installed"
)


@contextlib.contextmanager
def emulator(host):
    """An emulated controller in a process of its own; ports are fixed, so each test has an address."""
    command = [sys.executable, "-m", "vla.robot_driver.ur_emulator", "--host", host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "emulated" in process.stdout.readline()
            yield process
        finally:
            process.kill()


def config(host, **options):
    """For a machine with much to do: a longer watchdog, slower motion."""
    return ur.Config(host, watchdog=5.0, **options)


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@needs_client
def test_the_arm_follows_what_it_is_told_and_measures_it():
    with emulator("127.0.1.1") as process, contextlib.closing(config("127.0.1.1", gripper="robotiq").make()) as arm:
        assert arm.spec.name == "ur5e" and arm.spec.tool is not None
        before = arm.observe()
        assert before.time <= time.monotonic()
        np.testing.assert_allclose(before.state[6:12], HOME, atol=1e-6)
        assert before.state[-1] == 1.0
        for _ in range(4):
            sent = arm.command(np.array([0.01, -0.005, 0, 0, 0, 0.02, 0.2], np.float32))
            time.sleep(0.1)
        np.testing.assert_allclose(sent, [0.01, -0.005, 0, 0, 0, 0.02, 0.2], atol=1e-7)
        goal = before.state[:3] + np.array([0.04, -0.02, 0])
        until(lambda: np.abs(arm.observe().state[:3] - goal).max() < 5e-4)
        until(lambda: abs(arm.observe().state[-1] - 0.2) < 0.01)
        turn = pose_matrix(arm.observe().state[:6])[:3, :3] @ pose_matrix(before.state[:6])[:3, :3].T
        angle = np.arctan2(turn[1, 0], turn[0, 0])
        assert abs(angle - 0.08) < 5e-3
        # a command out of range is cut, and what was cut is what is returned
        assert arm.command(np.array([9, 0, 0, 0, 0, 0, 0.2], np.float32))[0] == np.float32(0.025)
        arm.stop()
        assert arm.servo.wait_until_rest(5.0)
        rest = arm.observe().state[0]
        assert rest < goal[0] + 0.05
        with pytest.raises(PolicyFault, match="7 finite numbers"):
            arm.command(np.full(7, np.nan, np.float32))
        process.kill()
        with pytest.raises(BodyFault, match=r"127\.0\.1\.1"):
            until(lambda: arm.observe() is None)


@needs_client
def test_joints_are_streamed_and_a_protective_stop_ends_it_with_its_name():
    host = "127.0.1.2"
    with emulator(host), contextlib.closing(config(host, joints=True).make()) as arm:
        goal = HOME + np.array([0.1, 0.05, 0, 0, 0, -0.1])
        arm.command(goal.astype(np.float32))
        until(lambda: np.abs(arm.observe().state[6:12] - goal).max() < 1e-3)
        with socket.create_connection((host, 30002)) as script:
            script.sendall(b"protective_stop()\n")
            with pytest.raises(BodyFault, match="protective stop"):
                until(lambda: arm.observe() is None)
        arm.close()
        with pytest.raises(BodyFault, match="closed"):
            arm.observe()
    with (
        pytest.raises(BodyFault, match="protective stop"),
        emulator(host),
        socket.create_connection((host, 30002)) as s,
    ):
        s.sendall(b"protective_stop()\n")
        time.sleep(0.5)
        config(host).make()


@needs_client
def test_the_tool_that_is_set_is_the_embodiments_and_keeps_another_policy_off():
    host = "127.0.1.3"
    with emulator(host), contextlib.closing(config(host, tool=(0, 0, 0.15, 0, 0, 0)).make()) as arm:
        assert arm.spec.tool is not None and arm.spec.tool.position == (0.0, 0.0, 0.15)
        height = 0.4879 - 0.15  # the flange's at HOME, the tool points down
        assert abs(arm.observe().state[2] - height) < 1e-3
        policy = ur.ur("ur5e")
        assert connect(arm.spec, policy)
        with pytest.raises(SpecMismatch, match=r"50\.0 mm"):
            other = Offset((0.0, 0.0, 0.2))
            connect(arm.spec, dataclasses.replace(policy, tool=other))


def test_nobody_there_is_one_clear_error():
    if needs_client.args[0]:
        with pytest.raises(DependencyMissing, match=r"vla-stack\[ur\]"):
            ur.Config("127.0.1.9").make()
    else:
        with pytest.raises(BodyFault, match=r"127\.0\.1\.9 cannot be reached on port 30004"):
            ur.Config("127.0.1.9").make()


def test_a_client_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rtde_control", None)
    with pytest.raises(DependencyMissing, match=r"vla-stack\[ur\]"):
        ur.Config(process=False).make()


@pytest.mark.parametrize(
    ("bit", "said"),
    [(2, "protective"), (4, "safeguard"), (5, "emergency"), (6, "emergency"), (8, "safety"), (9, "safety")],
)
def test_every_stop_that_a_controller_makes_by_itself_ends_the_motion(bit, said):
    # a safeguard stop (a door, a light curtain) may end by itself: the arm must not go on then where it was told to go
    link = object.__new__(ur.UrLink)
    link._where, link._receive = "the UR", SimpleNamespace(getSafetyStatusBits=lambda: 1 << bit)
    with pytest.raises(BodyFault, match=f"in an? {said} stop"):
        link._stopped()


def test_settings_out_of_range_are_refused():
    with pytest.raises(UnknownName, match="ur5e"):
        ur.Config(model="ur5")
    for name, value in {
        "lookahead": 1.0,
        "gain": 1.0,
        "watchdog": 0.001,
        "servo_rate": 5.0,
        "joint_speed": 9.0,
    }.items():
        with pytest.raises(ConfigError, match=name):
            dataclasses.replace(ur.Config(), **{name: value})
    assert ur.Config(model="ur5e", joint_speed=3.0)
    with pytest.raises(ConfigError, match=r"joint_speed is above 0 and at most 2\.094"):  # its base is slower
        ur.Config(model="ur10e", joint_speed=3.0)
    with pytest.raises(ConfigError, match="six finite numbers"):
        dataclasses.replace(ur.Config(), tool=(0.0, 0.1))
    assert ur.Config(table=0.1).limits().low[2] == 0.1


@given(arrays(np.float64, 6, elements=st.floats(-2.5, 2.5)))
@settings(max_examples=30)
def test_kinematics_agree_with_differences_and_with_themselves(q):
    tool = pose_matrix(np.array([0.02, 0.0, 0.15, 0.1, 0.2, -0.3]))
    matrix = jacobian("ur5e", q, tool)
    for joint in range(6):
        step = np.eye(6)[joint] * 1e-6
        back, ahead = flange_to_base("ur5e", q - step) @ tool, flange_to_base("ur5e", q + step) @ tool
        np.testing.assert_allclose((ahead[:3, 3] - back[:3, 3]) / 2e-6, matrix[:3, joint], atol=1e-6)
        # skew: the angular velocity
        turn = (ahead - back)[:3, :3] / 2e-6 @ (flange_to_base("ur5e", q) @ tool)[:3, :3].T
        np.testing.assert_allclose([turn[2, 1], turn[0, 2], turn[1, 0]], matrix[3:, joint], atol=1e-6)
    if abs(np.linalg.det(matrix)) > 1e-3:
        goal = flange_to_base("ur5e", q) @ tool
        found = nearest_joints("ur5e", goal, q + 0.05, tool)
        assert found is not None
        np.testing.assert_allclose(flange_to_base("ur5e", found) @ tool, goal, atol=1e-6)


def test_forward_kinematics_at_the_positions_that_the_maker_publishes():
    # all joints at 0: the arm lies along -x; lengths of the data sheet add up
    np.testing.assert_allclose(flange_to_base("ur5e", np.zeros(6))[:3, 3], [-0.8172, -0.2329, 0.0628], atol=1e-4)
    np.testing.assert_allclose(pose_vector(flange_to_base("ur5e", HOME))[:3], [0.4919, -0.1333, 0.4879], atol=1e-4)


def test_a_silent_client_lets_the_watchdog_end_the_program():
    arm = EmulatedArm()
    arm.upload("def rtde_control():\n  x\nend\n")
    arm.doubles["input_double_register_0"] = 10.0  # Hz
    arm.integers["input_int_register_0"] = 35
    arm.step()
    arm.integers["input_int_register_0"] = 9  # speedj
    arm.doubles["input_double_register_0"] = 0.5
    moved = []
    for _ in range(200):
        arm.step()
        moved.append(float(np.abs(arm.qd).max()))
    assert max(moved) == pytest.approx(0.5) and moved[-1] == 0.0
    assert arm.outputs()["runtime_state"] == 1


def exchange(connection, kind, payload=b""):
    connection.sendall(rtde_format.encode(kind, payload))
    size, answered = struct.unpack(">HB", received(connection, 3))
    assert chr(answered) == kind
    return received(connection, size - 3)


def received(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        assert more, "hung up"
        data += more
    return data


def test_the_protocol_byte_by_byte_and_what_is_none_of_it():
    host = "127.0.1.4"
    with emulator(host):
        with socket.create_connection((host, 30004), timeout=20) as rtde:
            assert exchange(rtde, "V", b"\x00\x02") == b"\x01"
            assert exchange(rtde, "V", b"\x00\x01") == b"\x00"
            assert struct.unpack(">4I", exchange(rtde, "v"))[0] == 5
            asked = struct.pack(">d", 125.0) + b"timestamp,actual_q,no_such_thing,runtime_state"
            assert exchange(rtde, "O", asked) == b"\x01DOUBLE,VECTOR6D,NOT_FOUND,UINT32"
            asked = struct.pack(">d", 125.0) + b"timestamp,actual_q,runtime_state"
            exchange(rtde, "O", asked)
            assert exchange(rtde, "I", b"input_int_register_3,input_double_register_4") == b"\x01INT32,DOUBLE"
            rtde.sendall(rtde_format.encode("U", b"\x01" + struct.pack(">id", 7, 0.5)))
            assert exchange(rtde, "S") == b"\x01"
            stamps = []
            for _ in range(3):
                size, kind = struct.unpack(">HB", received(rtde, 3))
                recipe, stamp, *joints, runtime = struct.unpack(">B7dI", received(rtde, size - 3))
                assert (chr(kind), recipe, runtime) == ("U", 1, 1)
                np.testing.assert_allclose(joints, HOME)
                stamps.append(stamp)
            np.testing.assert_allclose(np.diff(stamps), 0.008, atol=1e-9)
        with socket.create_connection((host, 29999), timeout=20) as dashboard, dashboard.makefile("rw") as lines:
            assert "Dashboard Server" in lines.readline()
            for question, answer in {"PolyscopeVersion": "5.12", "nonsense": "could not understand"}.items():
                lines.write(question + "\n")
                lines.flush()
                assert answer in lines.readline()
        packages = [("O", b"abc"), ("U", b"\x09"), ("U", b"\x00"), ("U", b""), ("V", b"")]
        for junk in (b"\xff\xff\xff", b"\x00\x01V", *(rtde_format.encode(*package) for package in packages)):
            with socket.create_connection((host, 30004), timeout=20) as rtde:
                rtde.sendall(junk)
                assert rtde.recv(10) == b"", "it hangs up"
        socket.create_connection((host, 30004), timeout=20).close()  # and serves on
