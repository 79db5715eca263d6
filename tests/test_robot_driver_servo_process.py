"""The servo in its own process: same behaviour, and at rest whatever becomes of the policy's process."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from servo_arms import LIMITS, RATE, Recorder, unreachable
from test_robot_driver_motion import assert_bounded

from vla.errors import BodyFault
from vla.robot_driver.servo_process import ServoProcess
from vla.robot_driver.trajectory import JointPath

pytest.importorskip("ruckig", reason="bounded motion is the control extra")


def sweep(seconds=5.0, to=2.0):
    now = time.monotonic()
    return JointPath(np.array([now, now + seconds]), np.array([[0.0] * 3, [to] * 3]))


def test_it_follows_answers_and_ends_at_rest(tmp_path):
    file = tmp_path / "sent.npy"
    servo = ServoProcess(partial(Recorder, str(file)), LIMITS, rate=RATE, stale_after=30.0)
    with pytest.raises(BodyFault, match="not started"):
        servo.follow(sweep())
    servo.start()
    with pytest.raises(BodyFault, match="already"):
        servo.start()
    servo.follow(sweep())
    while servo.state.position[0] < 0.1:
        servo.check()
        time.sleep(0.01)
    assert servo.report()["mode"] == "following" and servo.measure()[0] >= 0.1
    assert servo._pipe is not None
    servo._pipe.send((0, "report", ()))  # as after Ctrl-C while waiting: a question whose answer nobody took
    assert servo.state.position.shape == (3,)
    assert not servo.wait_until_rest(0.0)
    servo.stop()
    assert servo.wait_until_rest(10.0)
    servo.toward(np.zeros(3), 1.0)
    servo.close()
    servo.close()
    sent = np.load(file)
    assert_bounded(sent, LIMITS, 1 / RATE)
    assert np.array_equal(sent[-1], sent[-2])


def test_an_arm_that_is_not_there_is_said_at_the_start():
    servo = ServoProcess(unreachable, LIMITS)
    with pytest.raises(BodyFault, match=r"TimeoutError: no answer from 192\.0\.2\.1"):
        servo.start()


def test_an_arm_that_is_lost_is_said_to_the_policy_s_side(tmp_path):
    servo = ServoProcess(partial(Recorder, str(tmp_path / "sent.npy"), 50), LIMITS, rate=RATE)
    servo.start()
    with pytest.raises(BodyFault, match="ConnectionError: the cable is out"):
        for _ in range(1000):
            servo.check()
            time.sleep(0.01)
    servo.close()


def test_when_the_policy_s_process_is_killed_the_arm_comes_to_rest(tmp_path):
    file = tmp_path / "sent.npy"
    script = f"""
import os, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from functools import partial
import numpy as np
from servo_arms import LIMITS, RATE, Recorder
from vla.robot_driver.servo_process import ServoProcess
from vla.robot_driver.trajectory import JointPath
if __name__ == "__main__":
    servo = ServoProcess(partial(Recorder, {str(file)!r}), LIMITS, rate=RATE, stale_after=30.0)
    servo.start()
    now = time.monotonic()
    servo.follow(JointPath(np.array([now, now + 5]), np.array([[0.0] * 3, [2.0] * 3])))
    while servo.state.velocity[0] < 0.3:
        time.sleep(0.01)
    if os.fork() == 0:  # what else it started lives on, and has its end of the pipe too
        time.sleep(20)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    program = tmp_path / "policy.py"
    program.write_text(script)
    killed = subprocess.run([sys.executable, str(program)], timeout=60)
    assert killed.returncode == -9
    for _ in range(3000):
        if file.exists():
            break
        time.sleep(0.01)
    sent = np.load(file)
    assert_bounded(sent, LIMITS, 1 / RATE)
    assert sent[-1][0] > 0.01 and np.array_equal(sent[-1], sent[-2])


def started(file, **settings):
    servo = ServoProcess(partial(Recorder, str(file)), LIMITS, rate=RATE, **settings)
    servo.start()
    return servo


def test_a_stop_waits_for_no_call_of_the_arm(tmp_path):
    servo = started(tmp_path / "sent.npy", stale_after=30.0)
    servo.follow(sweep(to=2.0))  # 0.4 each second
    while servo.state.position[0] < 0.1:
        time.sleep(0.01)
    with pytest.raises(BodyFault, match="no answer within"):
        servo.call("slow", 3.0, within=0.01)
    before = time.monotonic()
    servo.stop()
    assert time.monotonic() - before < 1.0
    busy = threading.Thread(target=lambda: servo.call("slow", 0.0, within=30.0))  # waits for its turn
    busy.start()
    servo.stop()
    busy.join()
    assert not servo.state.velocity.any() and servo.state.position[0] < 0.1 + 0.4, "3 s on it would be at 1.3"
    assert servo.report()["stops"] == {"path over": 0, "path stale": 0, "stop": 1, "deviation": 0, "error": 0}
    servo.close()


def test_what_was_asked_for_before_a_stop_is_not_followed_after_it(tmp_path):
    servo = started(tmp_path / "sent.npy", stale_after=30.0)
    asked = servo._stops.value
    servo.stop()
    servo._ask("follow", sweep(), asked)  # it was on its way
    time.sleep(0.2)
    assert not servo.state.position.any()
    servo.toward(np.full(3, 0.1), 0.2)  # and what comes later is
    while servo.state.position[0] < 0.09:
        servo.check()
        time.sleep(0.01)
    servo.close()


def test_calls_of_the_arm_and_what_they_raise(tmp_path):
    file = tmp_path / "sent.npy"
    servo = started(file)
    assert servo.call("file") == file
    with pytest.raises(BodyFault, match="KeyError: 'a bug'"):
        servo.call("bug")
    with pytest.raises(BodyFault, match="KeyError: 'nothing'"):
        servo.call("nothing")
    servo.check()
    servo.close()


def test_a_servo_process_that_hangs_or_is_killed_is_a_fault_soon(tmp_path):
    servo = started(tmp_path / "sent.npy")
    pid = servo._process.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(BodyFault, match="no answer within 1 s"):
        servo.check()
    servo.stop()  # nothing to wait for
    os.kill(pid, signal.SIGCONT)
    servo.check()
    os.kill(pid, signal.SIGKILL)
    before = time.monotonic()
    with pytest.raises(BodyFault, match="ended with code -9"):
        while time.monotonic() < before + 10.0:
            servo.check()
    servo.stop()
    servo.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_servo_process_that_is_told_to_end_brings_the_arm_to_rest(tmp_path, number):
    file = tmp_path / "sent.npy"
    servo = started(file, stale_after=30.0)
    servo.follow(sweep())
    while servo.state.velocity[0] < 0.3:
        time.sleep(0.01)
    os.kill(servo._process.pid, number)
    with pytest.raises(BodyFault, match="ended with code 0"):
        while True:
            servo.check()
    sent = np.load(file)
    assert_bounded(sent, LIMITS, 1 / RATE)
    assert sent[-1][0] > 0.01 and np.array_equal(sent[-1], sent[-2])
    servo.close()
