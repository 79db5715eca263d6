"""A streamed arm over a link of our own: clocks, turns beyond half a circle, stops, and cameras that see or do not."""

import contextlib
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.arm_channels import arm as arm_spec
from vla.embodiment import CameraSpec
from vla.errors import BodyFault, ConfigError
from vla.robot_driver.arm_camera import open_cameras, parse_cameras
from vla.robot_driver.arm_link import ControllerClock, Measured
from vla.robot_driver.gripper_thread import GripperThread
from vla.robot_driver.streamed_arm import ToolLimits
from vla.robot_driver.vendor_arm import open_arm
from vla.rotation import from_matrix, to_matrix
from vla.safety import SafeBody
from vla.safety_limits import SafetyLimits

RANGES = ((-3.0, 3.0),) * 6


class Link:
    """An arm that is where it was told to be, one period later; ``blocked`` keeps it where it is."""

    def __init__(self):
        self.pose, self.joints, self.opening = np.eye(4), np.zeros(6), 0.5
        self.blocked, self.halts, self.closed, self.fault = False, 0, 0, ""
        self.stamp = time.monotonic
        self.tool = None
        self.lock = threading.Lock()
        self.turns = []

    def read(self):
        if self.fault:
            raise BodyFault(self.fault)
        with self.lock:
            return Measured(self.stamp() + 1000.0, self.joints.copy(), self.pose.copy(), self.opening)

    def send_tool(self, pose):
        with self.lock:
            if not self.blocked:
                self.pose = pose.copy()
                self.turns.append(pose[:3, :3].copy())

    def send_joints(self, positions):
        self.joints = positions.copy()

    def grip(self, opening):
        self.opening = opening

    def halt(self):
        self.halts += 1

    def close(self):
        self.closed += 1


def spec(cameras=(), **options):
    return arm_spec(
        "test", RANGES, joints=False, gripper=True, rate=20.0, speed=1.0, turn=4.0, cameras=cameras, **options
    )


def streamed(link, limits, **settings):
    """The servo in a thread here, where the link is."""
    return open_arm(lambda: link, spec(), limits, cameras=(), process=False, **settings)


def opened(link):
    return contextlib.closing(streamed(link, ToolLimits(1.0, 4.0).motion, rate=200.0))


def until(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def has_ended(servo):
    return servo._running is not None and servo._running.done()


def test_measured_times_are_on_this_machines_clock():
    with opened(Link()) as arm:
        before = time.monotonic()
        seen = arm.observe()
        assert before - 0.5 <= seen.time <= time.monotonic()
        assert seen.state[-1] == 0.5


@given(st.lists(st.floats(0.0, 0.1), min_size=3, max_size=30), st.floats(-1e4, 1e4))
def test_a_stamp_is_never_put_later_than_it_was_seen_nor_before_the_one_before_it(transports, offset):
    clock, stamps = ControllerClock(), []
    for number, transport in enumerate(transports):
        measured = 0.2 * number
        local = clock.local(measured + offset, measured + transport)
        assert local <= measured + transport + 1e-6
        stamps.append(local)
    # the best transport so far is what is taken off: the truth is missed by less than that
    assert abs(stamps[-1] - 0.2 * (len(transports) - 1)) <= max(transports) + 1e-2
    assert all(later > earlier for earlier, later in pairwise(stamps))


def test_a_tool_may_be_turned_beyond_half_a_circle_without_a_leap():
    link = Link()
    with opened(link) as arm:
        for _ in range(22):  # 4.4 rad about z
            arm.command(np.array([0, 0, 0, 0, 0, 0.2, 1.0], np.float32))
            time.sleep(0.05)
        goal = to_matrix(np.array([0, 0, 4.4]), "axis_angle")
        until(lambda: np.abs(link.pose[:3, :3] - goal).max() < 1e-3)
        turns = np.array(link.turns)
    steps = np.linalg.norm(from_matrix(turns[1:] @ np.swapaxes(turns[:-1], 1, 2), "axis_angle"), axis=1)
    assert steps.max() < 4.0 / 200 * 1.2, "never faster than the limit, at any place of the circle"


def test_after_a_stop_nothing_is_left_over():
    link = Link()
    with opened(link) as arm:
        arm.command(np.array([0.05, 0, 0, 0, 0, 0, 1.0], np.float32))
        arm.stop()
        assert arm.servo.wait_until_rest(5.0)
        here = link.pose[0, 3]
        assert here < 0.05
        arm.command(np.array([0, 0.01, 0, 0, 0, 0, 1.0], np.float32))
        until(lambda: abs(link.pose[1, 3] - 0.01) < 1e-4)
        assert abs(link.pose[0, 3] - here) < 1e-4


def test_an_e_stop_of_its_own_waits_for_no_lock_and_holds_until_it_is_released():
    link = Link()
    with opened(link) as arm:
        body = SafeBody(arm, SafetyLimits())
        before = body.observe().state[0]
        body.command(np.array([0.05, 0, 0, 0, 0, 0, 1.0], np.float32))
        with body._lock:  # somebody is in the middle of a call
            presser = threading.Thread(target=lambda: body.estop("the mushroom"))
            presser.start()
            until(lambda: arm.servo.report()["stops"]["stop"] == 1)
        presser.join()
        assert arm.servo.wait_until_rest(5.0)
        with pytest.raises(BodyFault, match="the mushroom"):
            arm.command(np.array([0.05, 0, 0, 0, 0, 0, 1.0], np.float32))
        rest = arm.observe().state[0]
        assert rest < before + 0.05
        body.reset()
        arm.command(np.array([0, 0.01, 0, 0, 0, 0, 1.0], np.float32))
        until(lambda: abs(link.pose[1, 3] - 0.01) < 1e-4)
        assert abs(link.pose[0, 3] - rest) < 1e-4


def test_an_action_that_an_e_stop_overtakes_is_not_followed():
    link = Link()
    with opened(link) as arm:
        follow = arm.servo.follow

        def overtaken(path):
            arm.estop("in between")
            follow(path)

        arm.servo.follow = overtaken
        with pytest.raises(BodyFault, match="in between"):
            arm.command(np.array([0.05, 0, 0, 0, 0, 0, 1.0], np.float32))
        assert arm.servo.wait_until_rest(5.0)
        assert link.pose[0, 3] < 0.05 and link.opening == 0.5, "neither moved there nor gripped"


def test_an_arm_that_is_held_is_not_pushed_on():
    link = Link()
    limits = ToolLimits(1.0, 4.0).motion
    with contextlib.closing(streamed(link, limits, rate=200.0, max_deviation=0.02)) as arm:
        link.blocked = True
        arm.command(np.array([0.05, 0, 0, 0, 0, 0, 1.0], np.float32))
        with pytest.raises(BodyFault, match="from where it was sent"):
            until(lambda: arm.observe() is None)
        arm.stop()
        assert link.halts == 1
        sent = len(link.turns)
        link.blocked = False
        with pytest.raises(BodyFault, match="from where it was sent"):  # still the reason, not its consequence
            arm.command(np.zeros(7, np.float32))
        until(lambda: has_ended(arm.servo))
        assert len(link.turns) == sent, "what its controller has halted is not sent anything more"


def test_stopping_halts_the_arm_whatever_its_library_raised():
    link = Link()
    with opened(link) as arm:

        def broken(pose):
            raise KeyError("a bug of the vendor's")

        link.send_tool = broken
        until(lambda: has_ended(arm.servo))
        assert link.halts == 1, "at once, though the policy's loop is elsewhere"
        arm.stop()
        assert link.halts == 2


def test_closing_lets_everything_go_although_one_part_fails():
    link = Link()
    arm = streamed(link, ToolLimits().motion, rate=100.0)
    close = arm.servo.close

    def interrupted():
        close()
        raise KeyboardInterrupt

    arm.servo.close = interrupted
    with pytest.raises(KeyboardInterrupt):
        arm.close()
    assert link.closed == 1


def test_a_tool_is_not_unwound_after_a_whole_turn():
    link = Link()
    with opened(link) as arm:
        with pytest.raises(BodyFault, match="once around"):
            for _ in range(33):
                arm.command(np.array([0, 0, 0, 0, 0, 0.2, 1.0], np.float32))
        assert arm.servo.wait_until_rest(10.0)
        arm.command(np.array([0, 0, 0, 0, 0, -0.2, 1.0], np.float32))  # back is possible


def test_a_gripper_whose_library_fails_is_lost_and_not_an_old_opening():
    answers = iter([0.5])

    def read():
        return next(answers)  # then StopIteration: nothing that a gripper ought to raise

    gripper = GripperThread("gripper", read, lambda opening: None)
    with pytest.raises(BodyFault, match="StopIteration"):
        until(lambda: gripper.opening is None)
    with pytest.raises(BodyFault, match="StopIteration"):
        gripper.grip(1.0)
    gripper.close()


def test_measurements_that_stand_still_and_a_link_that_is_gone():
    link = Link()
    with opened(link) as arm:
        link.stamp = lambda: 5.0
        with pytest.raises(BodyFault, match="stand still"):
            until(lambda: arm.observe() is None)
    assert link.closed == 1
    link = Link()
    with opened(link) as arm:
        link.fault = "the cable was pulled"
        with pytest.raises(BodyFault, match="cable"):
            until(lambda: arm.observe() is None)
        with pytest.raises(BodyFault, match="cable"):
            until(lambda: arm.command(np.zeros(7, np.float32)) is None)  # the servo sees it a period later


def test_a_spec_that_an_arm_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="has cameras"):
        open_arm(Link, spec((CameraSpec("wrist", 8, 8),)), ToolLimits().motion, rate=100.0, cameras=(), process=False)
    for name in ("speed", "turn", "acceleration", "jerk"):
        with pytest.raises(ConfigError, match=name):
            ToolLimits(**{name: 0.0})


def film(path, frames=20):
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for number in range(frames):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[..., 2] = 200  # OpenCV's order: red
        picture[:, :8] = 10 * number
        writer.write(picture)
    writer.release()
    return path


def test_a_camera_gives_red_green_blue_with_the_time_it_was_taken(tmp_path):
    config = parse_cameras(f"front={film(tmp_path / 'a.avi')}:32x24@30:primary")
    assert config[0].spec == CameraSpec("front", 24, 32, role="primary") and config[0].rate == 30
    before = time.monotonic()
    seen = spec((config[0].spec,))
    arm = open_arm(Link, seen, ToolLimits().motion, rate=100.0, cameras=config, process=False)
    with contextlib.closing(arm):
        picture = arm.observe().images["front"]
        assert picture.shape == (24, 32, 3) and picture[12, 24, 0] > 150 and picture[12, 24, 2] < 60
        assert before <= arm.picture_times["front"] <= time.monotonic()
        assert arm.exposures == {"front": None}, "a film does not say"
        with pytest.raises(BodyFault, match="no picture for"):  # the film is over: what is old is not shown
            until(lambda: arm.observe() is None)
        assert arm.observe(images=False).images == {}


def test_cameras_that_are_not_there_leave_nothing_open(tmp_path):
    first = f"front={film(tmp_path / 'a.avi')}:32x24@30"
    missing = f"wrist={tmp_path / 'none.avi'}:32x24@30:wrist"
    with pytest.raises(BodyFault, match=r"camera wrist.*cannot be opened"):
        open_cameras(parse_cameras([first, missing]))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera")]

    def connect():
        raise BodyFault("no arm")

    with pytest.raises(BodyFault, match="no arm"):
        open_arm(connect, spec(), ToolLimits().motion, rate=100.0, cameras=parse_cameras(first), process=False)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera")]
    for text in ("front", "front=0", "front=0:32x24", "front=0:32x24@30:nowhere"):
        with pytest.raises(ConfigError, match="NAME=DEVICE:WIDTHxHEIGHT@FPS"):
            parse_cameras(text)
