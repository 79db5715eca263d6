"""Two processes and a real clock: the arm lives by itself, and stands whenever nobody sound commands it."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from vla import wire
from vla.embodiments import libero_panda
from vla.errors import BodyFault, ConfigError, PolicyFault
from vla.experience import ActionChunk
from vla.protocols import Body, Task
from vla.recorder import Recorder
from vla.robot_driver.mujoco_arm import ArmMonitor, Config, MujocoArm
from vla.robot_driver.mujoco_arm_process import spawn
from vla.robot_driver.mujoco_arm_servo import MODES
from vla.robot_driver.point_world import SPEC, Factory
from vla.runtime import Pace, run_episode
from vla.safety import SafeBody, SafetyLimits

LIMITS = SafetyLimits(max_translation=0.04, low=(-0.5, -0.5, -0.5), high=(0.5, 0.5, 0.5))
RIGHT = np.array([0.05, 0.0, 0.0, 1.0], np.float32)

CLIENT = """
import sys, time
import numpy as np
from vla.robot_driver.mujoco_arm import Config
arm = Config(port=int(sys.argv[1])).make()
print("connected", flush=True)
for _ in range(10_000):
    arm.observe(images=False)
    arm.command(np.array([0.05, 0.0, 0.0, 1.0], np.float32))
    time.sleep(0.04)
"""


def config(handle, **options):
    return Config(host=handle.address[0], port=handle.address[1], **options)


@contextlib.contextmanager
def running(factory):
    with spawn(factory) as handle:
        arm = config(handle).make()
        try:
            yield handle, arm
        finally:
            arm.close()


@pytest.fixture(scope="module")
def server():
    with spawn(Factory(render_s=0.02)) as handle:
        yield handle


@pytest.fixture
def arm(server):
    # the last test's connection may still be on its way out
    for attempt in range(50):
        try:
            arm = config(server).make()
            break
        except BodyFault:
            if attempt == 49:
                raise
            time.sleep(0.02)
    arm.task({}).reset()
    yield arm
    arm.close()


@pytest.fixture
def monitor(server):
    monitor = ArmMonitor(config(server))
    yield monitor
    monitor.close()


def drive(arm, seconds, action=RIGHT):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        arm.observe(images=False)
        arm.command(action)
        time.sleep(0.04)


def stopped_after(monitor, moment):
    """Seconds from a moment until the arm was, and stayed, below 0.01 m/s; on the clock that processes share."""
    time.sleep(0.6)
    trace = monitor.trace()
    assert trace["monotonic"][-1] > moment + 0.3
    moving = trace["monotonic"][trace["speed"] >= 0.01]
    assert len(moving) and moving[-1] > moment - 0.05, "the arm was not moving"
    return moving[-1] - moment


def test_it_is_a_body_of_another_process(server, arm):
    assert isinstance(arm.task(), Task) and isinstance(arm, Body)
    assert arm.spec == SPEC and server.pid != os.getpid() and server.alive


def test_time_runs_with_the_wall_clock_without_commands(arm):
    first, begin = arm.observe(images=False), time.monotonic()
    time.sleep(0.3)
    second, end = arm.observe(images=False), time.monotonic()
    assert second.time - first.time == pytest.approx(end - begin, abs=0.05)
    np.testing.assert_allclose(first.state, second.state, atol=1e-6)


def test_it_keeps_moving_between_commands_and_stamps_what_it_measures(arm):
    arm.observe(images=False)
    arm.command(RIGHT)
    seen = [arm.observe(images=place == 2) for place in range(4) if time.sleep(0.02) is None]
    assert all(a.time < b.time and a.state[0] < b.state[0] for a, b in itertools.pairwise(seen))
    picture = seen[2].images["front"]
    assert picture.shape == (16, 16, 3) and seen[1].images == {}
    assert int(picture[0, 0, 0]) == int(seen[2].state[0] * 1000)  # of the same instant as the state


def test_silence_stops_it(arm, monitor):
    drive(arm, 0.4)
    spoken = time.monotonic() - 0.04
    assert stopped_after(monitor, spoken) < 0.15 + 0.2
    assert any("no command for" in event["reason"] for event in monitor.events())


def test_stop_stops_it_within_a_fifth_of_a_second(arm, monitor):
    drive(arm, 0.4)
    moment = time.monotonic()
    arm.stop()
    assert stopped_after(monitor, moment) < 0.2
    arm.stop()  # again, at rest
    assert monitor.telemetry()["stopped"]


def test_a_killed_client_leaves_it_stopped_within_a_fifth_of_a_second(server, monitor):
    client = subprocess.Popen([sys.executable, "-c", CLIENT, str(server.address[1])], stdout=subprocess.PIPE)
    try:
        assert client.stdout is not None and client.stdout.readline() == b"connected\n"
        time.sleep(0.5)
        assert monitor.telemetry()["mode"] == "tracking"
        moment = time.monotonic()
        client.send_signal(signal.SIGKILL)
        assert stopped_after(monitor, moment) < 0.2
        assert monitor.events()[-1]["what"] == "holding"
    finally:
        client.kill()
        client.wait()
        client.stdout.close() if client.stdout else None


def test_nan_stops_it_within_a_fifth_of_a_second(arm, monitor):
    body = SafeBody(arm, LIMITS)
    drive(body, 0.4)
    moment = time.monotonic()
    with pytest.raises(PolicyFault, match="nan"):
        body.command(np.full(4, np.nan, np.float32))
    assert stopped_after(monitor, moment) < 0.2


def test_nan_is_stopped_by_the_arm_itself_too(arm, monitor):
    drive(arm, 0.4)
    moment = time.monotonic()
    with pytest.raises(PolicyFault, match="finite"):
        arm.command(np.full(4, np.nan, np.float32))
    assert stopped_after(monitor, moment) < 0.2


class Rightwards:
    """A policy that goes right and takes its time to think; ``bad_at`` makes it answer NaN."""

    spec = SPEC

    def __init__(self, thinks=0.04, bad_at=None):
        self.thinks, self.bad_at, self.calls = thinks, bad_at, 0

    def reset(self, instruction, *, seed):
        self.instruction = instruction

    def act(self, observation):
        time.sleep(self.thinks)
        self.calls += 1
        assert set(observation.images) == {"front", "wrist"}
        actions = np.tile(RIGHT, (4, 1))
        if self.calls == self.bad_at:
            object.__setattr__(chunk := ActionChunk(actions, observation.time, 0.05), "actions", actions * np.nan)
            return chunk
        return ActionChunk(actions, observation.time, 0.05)


def test_the_run_loop_drives_records_and_is_never_cut_off_by_the_watchdog(arm, monitor):
    got, events = [], len(monitor.events())
    body = SafeBody(arm, LIMITS)
    outcome = run_episode(
        body,
        arm.task({}),
        Rightwards(),
        seed=0,
        observers=[Recorder(lambda episode, _: got.append(episode), source="point")],
        pace=Pace(SPEC.action.rate),
    )
    assert outcome.status == "success", outcome
    (episode,) = got
    assert episode.instruction == "bring x to 0.2 m" and len(episode) == outcome.steps
    np.testing.assert_allclose(episode.action[:, 0], 0.04, atol=1e-6)  # clamped: what was really sent
    gaps = np.diff(episode.time)
    assert gaps.min() > 0.03 and np.median(gaps) == pytest.approx(0.05, abs=0.01)
    assert len(episode.images["front"]) == len(episode)
    assert not [event for event in monitor.events()[events:] if "no command" in event["reason"]]
    time.sleep(0.4)
    assert monitor.telemetry()["stopped"]


def test_a_policy_gone_bad_ends_as_an_error_with_the_arm_at_rest(arm, monitor):
    body = SafeBody(arm, LIMITS)
    outcome = run_episode(body, arm.task({}), Rightwards(bad_at=3), seed=0, pace=Pace(20.0))
    moment = time.monotonic()
    assert outcome.status == "error" and "PolicyFault" in outcome.error and outcome.steps == 8
    assert stopped_after(monitor, moment) < 0.2


def test_workspace_holds(arm):
    body = SafeBody(arm, SafetyLimits(high=(0.1, 0.5, 0.5)))
    drive(body, 0.8)
    assert body.observe(images=False).state[0] <= 0.101
    assert any(event.rule == "workspace" for event in body.events)


def test_a_second_client_is_refused_and_told_why(server, arm, monitor):
    with pytest.raises(BodyFault, match="another client controls the arm"):
        config(server).make()
    arm.observe()
    with pytest.raises(BodyFault, match="a monitor may not ask for command"):
        monitor._link.ask("command", action=RIGHT, after=0.0)


def test_reset_and_unknown_scenes(arm):
    task = arm.task({"at": [0.3, 0.0, 0.0], "takes": 0.3})
    with pytest.raises(BodyFault, match="once the scene is set"):
        _ = task.instruction
    before = arm.observe().time
    task.reset()
    after = arm.observe(images=False)
    assert after.time - before > 0.3 and after.state[0] == pytest.approx(0.3)
    assert task.instruction == "bring x to 0.2 m" == after.instruction
    assert task.max_steps == 40 and task.succeeded()
    with pytest.raises(BodyFault, match="closest: start"):
        arm.task({"name": "strat"}).reset()
    assert arm.observe().time > 0  # and is still there


@pytest.mark.parametrize(
    ("junk", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "was announced"),
        (wire.frame(b"\xc1\xc1"), "not a message"),
        (wire.frame(wire.pack({"op": "observe"})), "before hello"),
        (wire.frame(wire.pack({"op": "fly"})), "unknown request 'fly'"),
        (wire.frame(wire.pack({"op": "hello", "role": "control", "version": 99})), "speaks version 2"),
        (wire.frame(wire.pack({"op": "hello", "role": "boss", "version": 2})), "neither control nor monitor"),
        (2 * wire.frame(wire.pack({"op": "hello", "role": "monitor", "version": 2})), None),
    ],
)
def test_nonsense_is_answered_and_hung_up_on_while_the_arm_lives_on(server, arm, junk, says):
    with socket.create_connection(server.address) as stranger:
        stranger.sendall(junk)
        answers = []
        with pytest.raises(wire.WireClosed):
            while True:
                answers.append(wire.receive(stranger, timeout=2.0))
    assert answers[-1]["error"] == "refused" and (says or "one request at a time") in answers[-1]["message"]
    arm.observe()


def test_a_dead_arm_is_a_fault():
    with running(Factory(dies_at=0.02)) as (handle, arm):
        with pytest.raises(BodyFault, match="gone"):
            drive(arm, 2.0)
        with pytest.raises(BodyFault, match="gone"):
            arm.observe()
        arm.stop()  # never raises
        deadline = time.monotonic() + 5.0
        while handle.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not handle.alive


def test_a_frozen_arm_is_a_fault(server):
    with spawn(Factory()) as handle:
        arm = config(handle, timeout=0.3).make()
        os.kill(handle.pid, signal.SIGSTOP)
        try:
            with pytest.raises(BodyFault, match=r"within 0\.3 s"):
                arm.observe()
        finally:
            os.kill(handle.pid, signal.SIGCONT)
            arm.close()


def test_starting_and_ending(tmp_path):
    with pytest.raises(BodyFault, match="no such arm"):
        spawn(Factory(fails=True))
    log = tmp_path / "arm.jsonl"
    with spawn(Factory(), log=log) as handle:
        arm = config(handle).make()
        drive(arm, 0.2)
    handle.close()
    assert not handle.alive
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["what"] for event in events] == ["tracking", "braking", "holding"]
    with pytest.raises(BodyFault):
        arm.observe()
    with pytest.raises(BodyFault, match="cannot be reached"):
        config(handle).make()


def test_an_orphaned_arm_stops_and_ends(tmp_path):
    log = tmp_path / "arm.jsonl"
    script = f"""
import pathlib, time
import numpy as np
from vla.robot_driver.mujoco_arm import Config
from vla.robot_driver.mujoco_arm_process import spawn
from vla.robot_driver.point_world import Factory
if __name__ == "__main__":
    handle = spawn(Factory(), log=pathlib.Path({str(log)!r}))
    arm = Config(port=handle.address[1]).make()
    print(handle.pid, flush=True)
    while True:
        arm.observe(images=False)
        arm.command(np.array([0.05, 0, 0, 1], np.float32))
        time.sleep(0.04)
"""
    (tmp_path / "run.py").write_text(script)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.4)
    moment = time.monotonic()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = moment + 5.0
    while os.path.exists(f"/proc/{pid}/stat") and time.monotonic() < deadline:
        if open(f"/proc/{pid}/stat").read().split()[2] == "Z":
            break
        time.sleep(0.02)
    else:
        assert not os.path.exists(f"/proc/{pid}"), "the arm's process lives on"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[-1]["what"] == "holding" and events[-1]["monotonic"] - moment < 0.25


def test_the_driver_knows_nothing_of_the_simulation():
    script = "import sys, vla.robot_driver.mujoco_arm; print([m for m in sys.modules if 'mujoco' in m or 'torch' in m])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "torch" not in out and "'mujoco'" not in out and "vla.sim" not in out


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="port"):
        Config(port=0)
    with pytest.raises(ConfigError, match="timeouts"):
        Config(timeout=0.0)
    assert libero_panda.limits("libero_object").low[2] < 0.0 < libero_panda.LIMITS.low[2]
    assert MODES == ("tracking", "braking", "holding") and MujocoArm.__doc__
