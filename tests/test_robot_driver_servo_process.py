"""The servo in its own process: same behaviour, and at rest whatever becomes of the policy's process."""

import subprocess
import sys
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
