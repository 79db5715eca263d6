"""The UR driver over the real ur-rtde client and our emulated controller, and the emulator's protocol byte by byte."""

import contextlib
import dataclasses
import importlib.util
import multiprocessing
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.commands.robot_choice import RobotOptions, opened_robot
from vla.embodiment import Offset
from vla.embodiments.ur import RANGE
from vla.errors import BodyFault, ConfigError, DependencyMissing, PolicyFault, SpecMismatch, UnknownName
from vla.robot_driver import rtde_format, ur
from vla.robot_driver.arm_kinematics import MARGIN, arm_kinematics
from vla.robot_driver.ur_emulated_arm import HOME, EmulatedArm
from vla.robot_driver.ur_kinematics import flange_to_base, jacobian, nearest_joints, pose_matrix, pose_vector
from vla.rotation import to_matrix
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
@pytest.mark.parametrize(
    ("host", "apart"),
    # ur-rtde was seen to crash where its controller is gone: not in the process of all other tests
    [("127.0.1.1", True), pytest.param("127.0.1.11", False, marks=pytest.mark.slow)],
)
def test_the_arm_follows_what_it_is_told_and_measures_it(host, apart):
    settings = config(host, gripper="robotiq", process=apart)
    with emulator(host) as process, contextlib.closing(settings.make()) as arm:
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
        goal_turn = to_matrix(np.array([0, 0, 0.08]), "axis_angle") @ pose_matrix(before.state[:6])[:3, :3]
        until(lambda: np.abs(_measured(arm)[:3, :3] - goal_turn).max() < 5e-3)
        # a command out of range is cut, and what was cut is what is returned
        assert arm.command(np.array([9, 0, 0, 0, 0, 0, 0.2], np.float32))[0] == np.float32(0.025)
        arm.stop()
        assert arm.servo.wait_until_rest(5.0)
        rest = arm.observe().state[0]
        assert rest < goal[0] + 0.05
        with pytest.raises(PolicyFault, match="7 finite numbers"):
            arm.command(np.full(7, np.nan, np.float32))
        until(lambda: arm.report()["stops"]["stop"] >= 1)  # by the next tick
        report = arm.report()
        assert report["ticks"] > 0 and report["missed"] >= 0
        process.kill()
        with pytest.raises(BodyFault, match=host):
            until(lambda: arm.observe() is None)


@needs_client
def test_joints_are_streamed_and_a_protective_stop_ends_it_with_its_name():
    host = "127.0.1.2"
    with emulator(host), contextlib.closing(config(host, joints=True, process=False).make()) as arm:
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


class Watch:
    """Reads what the controller measures, 125 times a second, in a thread of its own."""

    def __init__(self, host):
        self.rows = []  # time [s], speed of the tool [m/s], state of the program
        self._socket = socket.create_connection((host, 30004), timeout=20)
        exchange(self._socket, "V", b"\x00\x02")
        exchange(self._socket, "O", struct.pack(">d", 125.0) + b"timestamp,actual_TCP_speed,runtime_state")
        exchange(self._socket, "S")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(OSError, AssertionError):
            while True:
                size, _ = struct.unpack(">HB", received(self._socket, 3))
                _, stamp, *speed, state = struct.unpack(">B7dI", received(self._socket, size - 3))
                self.rows.append((stamp, *speed[:3], state))


POLICY = """
import os, signal, sys, time
import numpy as np
from vla.robot_driver import ur
if __name__ == "__main__":
    arm = ur.Config(sys.argv[1], watchdog=5.0).make()
    begin = arm.observe().state[1]
    while abs(arm.observe().state[1] - begin) < 0.03:
        arm.command(np.array([0, 0.02, 0, 0, 0, 0], np.float32))
        time.sleep(0.1)
    arm.command(np.array([0, 0.02, 0, 0, 0, 0], np.float32))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_client
def test_when_the_policy_s_process_is_killed_the_arm_comes_to_rest_and_is_let_go(tmp_path):
    host, program = "127.0.1.12", tmp_path / "policy.py"
    program.write_text(POLICY)
    with emulator(host):
        watch = Watch(host)
        assert subprocess.run([sys.executable, str(program), host], timeout=120).returncode == -signal.SIGKILL
        until(lambda: {1, 2} <= {row[-1] for row in list(watch.rows)} and watch.rows[-1][-1] == 1)  # run, and ended
        rows = np.array(watch.rows)
    speed, program = np.linalg.norm(rows[:, 1:4], axis=1), rows[:, 4]
    assert speed.max() > 0.05, "it moved"
    ended = int(np.flatnonzero(program == 2)[-1]) + 1
    assert speed[ended - 3 : ended].max() < 0.01, "it stood before the program ended, whose own brake would be a jerk"
    window = 4  # the emulated joints follow with a lag of 0.1 s: a leap of what is sent would be more than this
    change = np.linalg.norm(rows[window:, 1:4] - rows[:-window, 1:4], axis=1) / (rows[window:, 0] - rows[:-window, 0])
    assert change.max() < 3.5, "m/s2"


@needs_client
def test_a_servo_process_that_is_killed_is_a_fault_at_once():
    host = "127.0.1.13"
    options = RobotOptions("ur", (f"host={host}", "watchdog=5.0"))
    with emulator(host), opened_robot(options) as robot:
        arm = robot.body.body  # pyright: ignore[reportAttributeAccessIssue] - within its limits
        arm.observe()
        until(lambda: robot.report()["arm"]["ticks"] > 10)
        (child,) = [child for child in multiprocessing.active_children() if child.name == "servo"]
        child.kill()
        before = time.monotonic()
        with pytest.raises(BodyFault, match="servo's process ended"):
            until(lambda: arm.observe() is None)
        with pytest.raises(BodyFault, match="servo's process ended"):
            arm.command(np.zeros(6, np.float32))
        with pytest.raises(BodyFault, match="servo's process ended"):
            arm.stop()  # nothing was stopped by us: its controller's watchdog does that
        arm.estop("a person")
        assert time.monotonic() - before < 10.0
        assert "servo's process ended" in robot.report()["arm"]["error"], "and no results are lost"


def _measured(arm):
    return pose_matrix(arm.observe().state[:6].astype(np.float64))


@needs_client
def test_kinematics_of_our_own_end_where_the_controller_s_do():
    pytest.importorskip("mink", reason="inverse kinematics is the control extra")
    ends, steps = [], [[0.01, -0.02, 0.015, 0.02, 0, -0.03], [-0.015, 0.0, -0.02, 0, 0.03, 0.02]] * 2
    for host, who in (("127.0.1.14", "controller"), ("127.0.1.15", "mink")):
        settings = config(host, tool=(0.01, 0, 0.15, 0, 0.1, 0), kinematics=who, process=who == "mink")
        with emulator(host), contextlib.closing(settings.make()) as arm:
            start = arm.observe().state[:6]
            meant = pose_matrix(start.astype(np.float64))
            for step in steps:
                sent = arm.command(np.array(step, np.float32))
                np.testing.assert_allclose(sent, step, atol=1e-6)
                meant[:3, 3] += sent[:3]
                meant[:3, :3] = to_matrix(sent[3:].astype(np.float64), "axis_angle") @ meant[:3, :3]
                time.sleep(0.1)
            counts = arm.counts_from()
            assert counts is not None
            np.testing.assert_allclose(counts.position, meant[:3, 3], atol=1e-4)
            np.testing.assert_allclose(counts.matrix, meant[:3, :3], atol=1e-3)
            until(lambda arm=arm, goal=meant: np.abs(_measured(arm) - goal)[:3].max() < 1e-3)  # turned as well
            until(lambda arm=arm, goal=meant: np.abs(_measured(arm) - goal)[:3, 3].max() < 5e-4)
            ends.append(_measured(arm))
            assert arm.report().get("kinematics", {"missed": 0})["missed"] == 0
    assert np.linalg.norm(ends[0][:3, 3] - ends[1][:3, 3]) < 1e-3
    assert np.abs(ends[0][:3, :3] - ends[1][:3, :3]).max() < 2e-3


@needs_client
def test_with_kinematics_of_our_own_the_tool_stops_beside_the_arm():
    pytest.importorskip("mink", reason="inverse kinematics is the control extra")
    host, tool = "127.0.1.16", (0, 0, 0.15, 0, 0, 0)
    settings = config(host, tool=tool, kinematics="mink", rate=20.0, speed=0.4, joint_speed=2.0)
    own = arm_kinematics("ur5e", pose_matrix(np.array(tool, np.float64)), RANGE, 1.0, 20.0)
    nearest, sent = [], np.ones(6)
    with emulator(host), contextlib.closing(settings.make()) as arm:
        for _ in range(60):
            state = arm.observe().state
            nearest.append(own.distance(state[6:12].astype(np.float64)))
            way = np.array([0, -0.05, 0.05]) - state[:3]  # to the middle of its own base
            sent = arm.command(np.array([*(way * 0.02 / np.abs(way).max()), 0, 0, 0], np.float32))
            time.sleep(0.05)
        report = arm.report()["kinematics"]
    assert min(nearest) > MARGIN - 2e-3 and nearest[-1] < MARGIN + 5e-3
    assert report["missed"] > 0 and report["position_error"] > 0.01
    assert np.abs(sent[:3]).max() < 5e-3, "what is told to have been sent is what was"


@needs_client
def test_the_tool_that_is_set_is_the_embodiments_and_keeps_another_policy_off():
    host = "127.0.1.3"
    with emulator(host), contextlib.closing(config(host, tool=(0, 0, 0.15, 0, 0, 0), process=False).make()) as arm:
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
