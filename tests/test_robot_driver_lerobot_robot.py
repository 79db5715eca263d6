"""lerobot's SO-101 follower and Feetech's library, talking to emulated servos over a pseudo-terminal."""

import re
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from emulated_arms import MIDDLE, calibrate, patient_buses, wait_for

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec
from vla.embodiments.so101 import JOINTS, TOP_SPEED
from vla.errors import BodyFault, ConfigError, PolicyFault, SpecMismatch, UnknownName
from vla.protocols import Body
from vla.robot_driver.feetech_emulator import spawn
from vla.robot_driver.lerobot_make import cameras_of
from vla.robot_driver.lerobot_meaning import Meaning, Number
from vla.robot_driver.lerobot_robot import Config, LerobotRobot
from vla.safety import SafeBody

pytest.importorskip("scservo_sdk", reason="the extra so101 is not installed")

TICK = 2 * np.pi / 4095


@pytest.fixture(scope="module", autouse=True)
def patience():
    with patient_buses():
        yield


@pytest.fixture(scope="module")
def follower(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    with spawn() as arm:
        calibrate(arm, "robots", "so101_follower", "follower", folder)
        yield arm, Config(arm.port, name="follower", calibration=folder)


@pytest.fixture
def arm(follower):
    arm, _ = follower
    arm.mend()
    for motor in MIDDLE:
        arm.treat(motor)
    arm.hand(MIDDLE)
    return arm


@pytest.fixture
def robot(arm, follower):
    robot = follower[1].make()
    for name in (*JOINTS, "gripper"):
        robot.robot.bus.write("Goal_Velocity", name, 0, num_retry=5)
    yield robot
    robot.close()


def truth(arm, at):
    """The shafts' true angles at a time, from the emulator's own record [rad]."""
    trace = arm.trace()
    ticks = np.array([np.interp(at, trace[:, 0], trace[:, place]) for place in range(1, 6)])
    return (ticks - np.array([MIDDLE[number] for number in range(1, 6)])) * TICK


def slowly(robot):
    """No joint goes faster than 300 ticks a second (0.46 rad/s), so that a pause of this process matters little."""
    for name in JOINTS:
        robot.robot.bus.write("Goal_Velocity", name, 300, num_retry=5)
    return robot


def rests(arm):
    """Wait until nothing moves."""

    def still() -> bool:
        before = arm.positions()
        time.sleep(0.05)
        return all(abs(now - before[motor]) < 0.5 for motor, now in arm.positions().items())

    wait_for(still)


def target(**joints):
    values = dict.fromkeys(JOINTS, 0.0) | {"gripper": 0.5} | joints
    return np.array(list(values.values()), np.float32)


def test_it_is_a_body_that_measures_where_the_arm_is_while_it_moves(robot, arm):
    assert isinstance(robot, Body)
    goal = target(shoulder_pan=0.6, elbow_flex=-0.4, gripper=1.0)
    np.testing.assert_allclose(slowly(robot).command(goal), goal, atol=1e-5)
    seen = [robot.observe()]
    while np.abs(seen[-1].state - goal).max() > 0.01:
        time.sleep(0.02)
        seen.append(robot.observe())
    # the measured angle is the true one at the measured time, to what the joint moves within a reading
    moving = [observation for observation in seen if 0.1 < observation.state[0] < 0.5]
    off = [np.abs(observation.state[:5] - truth(arm, observation.time)).max() for observation in moving]
    assert np.median(off) < 0.01


def test_what_is_returned_is_what_was_sent_within_the_limits(robot, arm):
    sent = robot.command(target(shoulder_lift=9.0, wrist_flex=-9.0, gripper=2.0))
    assert sent[1] == pytest.approx(JOINTS["shoulder_lift"][1], abs=2 * TICK)
    assert sent[3] == pytest.approx(JOINTS["wrist_flex"][0], abs=2 * TICK)
    assert sent[5] == pytest.approx(1.0)
    wait_for(lambda: np.allclose(robot.observe().state, sent, atol=0.01))


def test_an_arm_told_to_stay_where_it_is_measured_does_not_creep(robot, arm):
    robot.observe()
    before = arm.positions()
    for _ in range(20):
        robot.command(robot.observe().state)
    after = arm.positions()
    assert all(abs(after[motor] - before[motor]) <= 1.0 for motor in MIDDLE)


@pytest.mark.parametrize("action", [np.full(6, np.nan, np.float32), np.zeros(5, np.float32)])
def test_an_action_that_is_none_is_not_sent(robot, action):
    goal = robot.robot.bus.sync_read("Goal_Position", normalize=False, num_retry=5)
    with pytest.raises(PolicyFault):
        robot.command(action)
    assert robot.robot.bus.sync_read("Goal_Position", normalize=False, num_retry=5) == goal


@pytest.mark.parametrize("kind", ["checksum", "drop", "noise"])
def test_a_damaged_answer_is_asked_for_again(robot, arm, kind):
    arm.fault(kind, motor=4, count=2)
    np.testing.assert_allclose(robot.observe().state[:5], truth(arm, time.monotonic()), atol=0.01)


@pytest.mark.parametrize("kind", ["checksum", "drop"])
def test_a_motor_that_never_answers_is_named_and_the_others_go_on_holding(robot, arm, kind):
    arm.fault(kind, motor=3, count=None)
    with pytest.raises(BodyFault, match=r"elbow_flex \(id 3\) does not answer$"):
        robot.observe()
    assert all(arm.powered().values())
    arm.mend()
    robot.observe()  # plugged in again


def test_a_late_answer_is_not_taken_for_the_answer_to_the_next_question(robot, arm):
    robot.observe()
    arm.fault("slow", motor=1, count=1, seconds=0.5)
    robot.observe()  # asked again, and answered
    robot.command(target(shoulder_pan=1.5))
    time.sleep(0.5)
    rests(arm)  # meanwhile the late answer has come
    assert robot.observe().state[0] == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize(
    ("trouble", "said"), [({"volts": 12.5}, "its voltage is out of range"), ({"celsius": 90.0}, "it is too hot")]
)
def test_a_servo_in_trouble_stops_the_arm_and_is_named(arm, follower, trouble, said):
    robot = LerobotRobot(*_parts(follower), health=1e-9)
    try:
        slowly(robot).command(target(shoulder_pan=1.5))
        time.sleep(0.1)
        arm.treat(4, **trouble)
        with pytest.raises(BodyFault, match=f"motor wrist_flex: {said}; it was told to hold"):
            robot.observe()
        rests(arm)
        assert arm.positions()[1] < MIDDLE[1] + 1.0 / TICK  # it was on its way to 1.5 rad
    finally:
        robot.close()


def test_a_gripper_that_holds_something_is_no_fault_but_a_jammed_joint_is(arm, follower):
    robot = LerobotRobot(*_parts(follower), health=1e-9)
    try:
        for name in ("gripper", "elbow_flex"):
            robot.robot.bus.write("Protection_Time", name, 5, num_retry=5)  # 50 ms
        arm.treat(6, jammed=True)
        robot.command(target(gripper=0.0))
        wait_for(lambda: robot.observe() and "gripper" in robot.complaints)
        arm.treat(3, jammed=True)
        robot.command(target(elbow_flex=1.0, gripper=0.0))
        with pytest.raises(BodyFault, match="motor elbow_flex: it is overloaded"):
            wait_for(lambda: robot.observe() is None)
    finally:
        robot.close()
    assert not any(arm.powered().values())  # an overloaded servo does not keep the others from being let go


def _parts(follower):
    robot = follower[1].make()
    robot._lost = "its parts are used elsewhere"
    return robot.robot, robot.meaning


def test_stop_holds_and_told_again_it_holds_the_same_place(robot, arm):
    slowly(robot).command(target(shoulder_pan=1.5))
    time.sleep(0.15)
    robot.stop()
    goal = robot.robot.bus.read("Goal_Position", "shoulder_pan", normalize=False, num_retry=5)
    for _ in range(3):
        time.sleep(0.05)
        robot.stop()
    assert robot.robot.bus.read("Goal_Position", "shoulder_pan", normalize=False, num_retry=5) == goal
    rests(arm)
    assert 0.01 < robot.observe().state[0] < 1.0


def test_stop_does_not_drop_what_the_gripper_holds_but_a_hot_one_pushes_no_more(arm, follower):
    robot = LerobotRobot(*_parts(follower), health=1e-9)

    def goal(name):  # of all at once: one by one, lerobot refuses to read a servo that complains
        return robot.robot.bus.sync_read("Goal_Position", normalize=False, num_retry=5)[name]

    try:
        slowly(robot).command(target(gripper=0.8))
        wait_for(lambda: robot.observe().state[5] > 0.78)
        arm.treat(6, jammed=True)  # there is something between its fingers
        slowly(robot).command(target(shoulder_pan=1.5, gripper=0.2))
        told = goal("gripper")
        time.sleep(0.15)
        robot.stop()
        rests(arm)
        assert goal("gripper") == told, "it pushes on"
        assert 0.01 < robot.observe().state[0] < 1.0, "the arm itself has stopped"
        assert robot.observe().state[5] > 0.75, "measured, not what it was told"
        arm.treat(6)
        slowly(robot).command(target(gripper=0.8))
        wait_for(lambda: robot.observe().state[5] > 0.78)
        arm.treat(6, jammed=True, celsius=90.0)
        robot.command(target(gripper=0.2))
        with pytest.raises(BodyFault, match="motor gripper: it is too hot"):
            robot.observe()
        assert goal("gripper") > told + 500, "where it is"
    finally:
        arm.treat(6)
        robot.close()


def test_its_limits_shorten_a_leap_and_refuse_what_is_no_action(robot, arm, follower):
    body = SafeBody(robot, replace(follower[1].limits(), max_age=30.0))
    most = TOP_SPEED / body.spec.action.rate
    seen = body.observe()
    sent = body.command(target(shoulder_pan=1.5, wrist_flex=-9.0))
    assert sent[0] - seen.state[0] == pytest.approx(most, abs=1e-4)
    assert {event.rule for event in body.events} == {"joint_velocity"}
    for _ in range(200):
        sent, before = body.command(target(wrist_flex=-9.0)), sent
        if abs(sent[3] - before[3]) < 1e-6 and abs(sent[3] + JOINTS["wrist_flex"][1]) < 0.01:
            break
        time.sleep(0.01)
        body.observe()
    assert sent[3] == pytest.approx(JOINTS["wrist_flex"][0], abs=2 * TICK)
    assert {event.rule for event in body.events} == {"joint_velocity", "joint_position"}
    with pytest.raises(PolicyFault, match="shoulder_pan_goal is nan"):
        body.command(target(shoulder_pan=np.nan))
    rests(arm)  # it was stopped


def test_two_threads_wait_for_each_other(robot):
    errors = []

    def stopping() -> None:
        try:
            for _ in range(30):
                robot.stop()
                robot.command(target())
        except BodyFault as fault:
            errors.append(fault)

    thread = threading.Thread(target=stopping)
    thread.start()
    while thread.is_alive():
        robot.observe()
    thread.join()
    assert not errors


def test_closed_it_lets_go_and_is_gone(robot, arm):
    robot.observe()
    assert all(arm.powered().values())
    robot.close()
    robot.close()
    robot.stop()
    assert not any(arm.powered().values())
    with pytest.raises(BodyFault, match="gone: it was closed"):
        robot.observe()


def test_it_may_be_asked_to_stay_up(arm, follower):
    config = follower[1]
    robot = Config(config.port, name=config.name, calibration=config.calibration, release=False).make()
    robot.close()
    assert all(arm.powered().values())


def test_a_motor_that_is_missing_when_connecting_is_named(arm, follower):
    arm.fault("drop", motor=2, count=None)
    with pytest.raises(BodyFault, match=r"motor shoulder_lift \(id 2\) does not answer$"):
        follower[1].make()
    arm.mend()
    arm.treat(5, volts=3.0)
    with pytest.raises(BodyFault, match=r"motor wrist_roll \(id 5\): its voltage is out of range$"):
        follower[1].make()


def test_connecting_bears_a_damaged_answer(arm, follower):
    arm.fault("checksum", count=1)
    follower[1].make().close()


def test_an_arm_without_calibration_is_told_how(arm, follower, tmp_path):
    with pytest.raises(BodyFault, match=r"there is no .*other.json; run lerobot-calibrate --robot.type=so101_follower"):
        Config(arm.port, name="other", calibration=tmp_path).make()
    text = (follower[1].calibration / "follower.json").read_text()
    (tmp_path / "other.json").write_text(re.sub(r'"range_min": \d+', '"range_min": 1000', text))
    with pytest.raises(BodyFault, match="its motors differ from"):
        Config(arm.port, name="other", calibration=tmp_path).make()
    assert not any(arm.powered().values())


def test_a_servo_that_is_late_is_waited_for_if_one_is_patient(arm, follower):
    arm.fault("slow", motor=2, count=1, seconds=0.3)
    patient = replace(follower[1], patience=2.0).make()
    try:
        before = time.monotonic()
        arm.fault("slow", motor=2, count=1, seconds=0.3)
        patient.observe()
        assert time.monotonic() - before >= 0.3  # waited, not asked again
    finally:
        patient.close()
    with pytest.raises(ConfigError, match="patience must be above 0"):
        replace(follower[1], patience=0.0)


def test_no_such_port(tmp_path):
    with pytest.raises(BodyFault, match=f"there is no port {tmp_path}/tty"):
        Config(f"{tmp_path}/tty", calibration=tmp_path).make()


def test_a_pulled_cable_is_one_error_and_closing_is_quiet(tmp_path):
    with spawn(calibration=tmp_path / "pulled.json") as arm:
        robot = Config(arm.port, name="pulled", calibration=tmp_path).make()
        robot.observe()
        arm.unplug()
        with pytest.raises(BodyFault, match="so_follower pulled: the port is gone"):
            for _ in range(50):
                robot.observe()
                time.sleep(0.01)
        with pytest.raises(BodyFault, match="is gone"):
            robot.command(target())
        robot.stop()
        robot.close()


def test_two_arms_are_a_robot_whose_motors_are_named_with_their_side(tmp_path):
    names = [tmp_path / f"pair_{side}.json" for side in ("left", "right")]
    with spawn(calibration=names[0]) as left, spawn(calibration=names[1]) as right:
        config = Config(f"{left.port},{right.port}", kind="bi_so_follower", name="pair", calibration=tmp_path)
        robot = config.make()
        action = np.concatenate([target(shoulder_pan=0.4), target(elbow_flex=-0.4)])
        robot.command(action)
        wait_for(lambda: np.allclose(robot.observe().state, action, atol=0.01))
        robot.stop()
        right.fault("drop", motor=6, count=None)
        with pytest.raises(BodyFault, match=r"pair: motor right_gripper \(id 6\) does not answer$"):
            robot.observe()
        right.mend()
        robot.close()
        assert not any((left.powered() | right.powered()).values())


def test_a_robot_that_nobody_described_is_told_what_it_says(tmp_path):
    with pytest.raises(UnknownName, match="so101_follower"):
        Config("/dev/null", kind="so101_folower", calibration=tmp_path).make()
    with pytest.raises(ConfigError, match=r"say it in a file:\n  measured: "):
        Config("/dev/null", kind="hope_jr_arm", calibration=tmp_path).make()


def test_a_camera_of_lerobots_is_one_of_the_embodiments(tmp_path, monkeypatch):
    """All but the device itself: there is no camera here."""
    opencv = pytest.importorskip("lerobot.cameras.opencv", reason="lerobot's cameras are not installed")
    picture = np.full((48, 64, 3), 7, np.uint8)
    opened = []
    camera = opencv.OpenCVCamera
    monkeypatch.setattr(camera, "connect", lambda self, *_: opened.append(self))
    monkeypatch.setattr(camera, "disconnect", lambda self: opened.remove(self))
    monkeypatch.setattr(camera, "is_connected", property(lambda self: self in opened))
    monkeypatch.setattr(camera, "read_latest", lambda self: picture)
    with spawn(calibration=tmp_path / "seeing.json") as arm:
        cameras = ("front=3:64x48@30:primary",)
        robot = Config(arm.port, name="seeing", calibration=tmp_path, cameras=cameras).make()
        assert robot.spec.cameras == (CameraSpec("front", 48, 64, role="primary"),)
        assert [each.config.index_or_path for each in opened] == [3]
        seen = robot.observe()
        np.testing.assert_array_equal(seen.images["front"], picture)
        picture = np.full((48, 64), 7, np.uint8)
        with pytest.raises(BodyFault, match="camera front: expected uint8 of shape"):
            robot.observe()
        arm.unplug()
        robot.close()
        assert not opened  # whatever became of the port


def test_cameras_are_written_in_one_way():
    specs, fields = cameras_of(["front=0:640x480@30:primary", "hand=/dev/v4l/by-id/x:320x240@15"])
    assert specs == (CameraSpec("front", 480, 640, role="primary"), CameraSpec("hand", 240, 320))
    assert fields["front"]["index_or_path"] == 0 and fields["hand"]["index_or_path"] == "/dev/v4l/by-id/x"
    for wrong in ("front", "front=0:640x480", "front=0:640x480@30:frontal"):
        with pytest.raises(ConfigError, match="a camera is given as NAME=DEVICE"):
            cameras_of([wrong])


class Cart:
    """A robot without a bus: a speed to command, a position to measure, a camera."""

    robot_type, id, is_connected = "cart", "one", True

    def __init__(self):
        self.sent: list[dict[str, Any]] = []
        self.values: dict[str, Any] = {"x.pos": 1.0, "front": np.zeros((4, 6, 3), np.uint8)}
        self.error: Exception | None = None
        self.observation_features = {"x.pos": float, "front": (4, 6, 3)}
        self.action_features = {"x.vel": float}

    def get_observation(self):
        if self.error:
            raise self.error
        return dict(self.values)

    def send_action(self, action):
        self.sent.append(action)
        return action

    def disconnect(self):
        self.is_connected = False


CART = EmbodimentSpec(
    "cart",
    (Channel("x", "m", "position"),),
    None,
    ActionSpec((Channel("vx", "m/s", "other", -1.0, 1.0),), "absolute", "base", None, None, 10.0),
    (CameraSpec("front", 4, 6),),
)


def test_a_robot_that_is_driven_by_speed_stops_with_none():
    cart = Cart()
    body = LerobotRobot(cart, Meaning(CART, (Number("x.pos"),), (Number("x.vel"),)))
    picture = body.observe().images["front"]
    cart.values["front"][:] = 9
    assert picture.max() == 0  # a camera's thread that goes on writing does not change it
    assert not body.observe(images=False).images
    assert body.command(np.array([3.0], np.float32)).tolist() == [1.0]
    body.stop()
    assert cart.sent == [{"x.vel": 1.0}, {"x.vel": 0.0}]
    body.close()
    assert not cart.is_connected


def test_a_measurement_that_leaps_is_measured_once_more():
    cart, times = Cart(), iter(np.arange(100) * 0.01)
    spec = replace(CART, state=(Channel("x", "m", "position", max_rate=2.0),))
    body = LerobotRobot(cart, Meaning(spec, (Number("x.pos"),), (Number("x.vel"),)), clock=lambda: float(next(times)))
    assert body.observe().state[0] == 1.0
    read, found = cart.get_observation, iter([9.0, 1.01, 9.0, 9.0])
    cart.get_observation = lambda: read() | {"x.pos": next(found)}
    assert body.observe().state[0] == pytest.approx(1.01)
    assert body.observe().state[0] == 9.0  # said twice, it is believed
    assert next(found, None) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"front": np.zeros((4, 6), np.uint8)}, "camera front: expected uint8"),
        ({"x.pos": float("nan")}, "must be finite"),
    ],
)
def test_what_a_robot_measures_is_looked_at(change, said):
    cart = Cart()
    body = LerobotRobot(cart, Meaning(CART, (Number("x.pos"),), (Number("x.vel"),)))
    cart.values |= change
    with pytest.raises(BodyFault, match=said):
        body.observe()


def test_a_camera_that_stands_still_stops_it():
    cart = Cart()
    body = LerobotRobot(cart, Meaning(CART, (Number("x.pos"),), (Number("x.vel"),)))
    cart.error = TimeoutError("latest frame is too old: 700 ms")
    body.command(np.array([0.5], np.float32))
    with pytest.raises(BodyFault, match="a camera stands still: latest frame is too old"):
        body.observe()
    assert cart.sent == [{"x.vel": 0.5}, {"x.vel": 0.0}]


def test_speeds_are_ended_beside_positions_that_cannot_be_measured_now():
    cart = Cart()
    cart.action_features = {"x.vel": float, "x.pos": float}
    channels = (*CART.action.channels, Channel("x_goal", "m", "position"))
    spec = replace(CART, action=replace(CART.action, channels=channels))
    body = LerobotRobot(cart, Meaning(spec, (Number("x.pos"),), (Number("x.vel"), Number("x.pos"))))
    body.observe()
    body.command(np.array([0.5, 2.0], np.float32))
    cart.error = TimeoutError("latest frame is too old: 700 ms")
    body.stop()
    assert cart.sent[-1] == {"x.vel": 0.0, "x.pos": 1.0}


def test_stopping_raises_nothing_whatever_the_robot_does(caplog):
    cart = Cart()
    body = LerobotRobot(cart, Meaning(CART, (Number("x.pos"),), (Number("x.vel"),)))

    def send_action(action):
        raise KeyError("a bug of its own")

    cart.send_action = send_action
    body.stop()
    assert "could not be told to hold" in caplog.text


def test_a_robot_that_could_not_be_held_or_has_other_features_is_refused():
    cart = Cart()
    cart.action_features = {"x.force": float}
    with pytest.raises(ConfigError, match=r"how to hold still is not known: x\.force"):
        LerobotRobot(cart, Meaning(CART, (Number("x.pos"),), (Number("x.force"),)))
    with pytest.raises(SpecMismatch, match=r"x\.vel cannot be commanded"):
        LerobotRobot(cart, Meaning(CART, (Number("x.pos"),), (Number("x.vel"),)))
