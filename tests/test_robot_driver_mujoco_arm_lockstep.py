"""The arm on a clock of its own: each rule of its controller acts in the next physics step."""

import numpy as np
import pytest

from vla.embodiments.panda_arm import JOINTS
from vla.errors import BodyFault, PolicyFault
from vla.robot_driver.mujoco_arm import Config, MujocoArm
from vla.robot_driver.mujoco_arm_lockstep import LockStep, LockStepLink, steady
from vla.robot_driver.mujoco_arm_servo import ServoLimits
from vla.robot_driver.point_world import PointWorld

STEP = 0.002
RIGHT = np.array([0.05, 0.0, 0.0, 1.0], np.float32)


class Rig:
    """An arm that moves, its client and its network."""

    def __init__(self, world=None, limits=None, right=RIGHT):
        self.world = world or PointWorld()
        self.lockstep = LockStep(self.world, limits or ServoLimits())
        self.network, self.links, self.right = steady, [], right
        self.arm = MujocoArm(Config(), links=self.link)
        self.servo = self.lockstep.servo

    def link(self, role):
        def network(*args):
            return self.network(*args)

        self.links.append(LockStepLink(self.lockstep, role, network=network))
        return self.links[-1]

    def drive(self, periods=6):
        for _ in range(periods):
            self.arm.observe()
            self.arm.command(self.right)
            self.lockstep.wait(0.05)
        self.arm.observe()
        self.arm.command(self.right)
        assert self.servo.mode == "tracking"
        return self

    def braked_within_a_step(self, rule):
        """Whether the arm brakes, for that reason, at most one physics step from now."""
        self.lockstep.wait(STEP)
        return self.servo.mode != "tracking" and rule in self.servo.rules


def test_time_passes_only_when_somebody_waits_and_is_the_same_each_time():
    runs = []
    for _ in range(2):
        rig = Rig().drive()
        rig.lockstep.wait(0.7)
        runs.append((rig.lockstep.now, rig.servo.time, rig.world.position.tolist()))
    assert runs[0] == runs[1] and runs[0][1] == pytest.approx(runs[0][0], abs=STEP + 1e-9)


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (np.full(4, np.nan, np.float32), "finite"),
        (np.array([np.inf, 0, 0, 0], np.float32), "finite"),
        (np.zeros(3, np.float32), "shape"),
    ],
)
def test_bad_actions_stop_it_at_once(bad, rule):
    rig = Rig().drive()
    with pytest.raises(PolicyFault):
        rig.arm.command(bad)
    assert rig.servo.mode == "braking" and rule in rig.servo.rules


def test_an_old_answer_stops_it_at_once():
    rig = Rig().drive()
    rig.arm._time -= 2.0
    with pytest.raises(PolicyFault, match="old"):
        rig.arm.command(RIGHT)
    assert rig.braked_within_a_step("stale")


def test_an_overtaken_answer_stops_it_at_once():
    rig = Rig().drive()
    rig.arm._time -= 0.5
    with pytest.raises(PolicyFault, match="after one that answers"):
        rig.arm.command(RIGHT)
    assert rig.braked_within_a_step("order")


def test_large_steps_are_clipped_and_counted():
    rig = Rig().drive()
    np.testing.assert_allclose(rig.arm.command(RIGHT * 1e30), RIGHT)
    assert rig.servo.rules["step"] == 1 and rig.servo.mode == "tracking"


def test_silence_stops_it():
    rig = Rig().drive()
    rig.lockstep.wait(ServoLimits().command_timeout - 2 * STEP)
    assert rig.servo.mode == "tracking"
    rig.lockstep.wait(2 * STEP)
    assert rig.braked_within_a_step("heartbeat")


def test_the_e_stop_holds_until_it_is_released():
    rig = Rig().drive()
    rig.arm.estop("test")
    assert rig.braked_within_a_step("estop")
    for forbidden in (lambda: rig.arm.command(RIGHT), lambda: rig.arm.task({}).reset()):
        with pytest.raises(BodyFault, match="e-stop is pressed"):
            forbidden()
    assert rig.servo.telemetry()["estop"] == "test"
    rig.arm.release()
    rig.drive()


def test_an_e_stop_that_is_not_confirmed_hangs_up():
    rig = Rig().drive()
    rig.links[1].cut = True
    rig.arm.estop("test")
    assert rig.links[0].lost
    rig.lockstep.wait(0.001)
    assert rig.braked_within_a_step("client")


@pytest.mark.parametrize("jump", [-2.0, 2.0])
def test_a_clock_jump_stops_it_at_once(jump):
    rig = Rig().drive()
    before = rig.servo.time
    rig.lockstep.arm_clock_off = jump
    assert rig.braked_within_a_step("clock")
    assert rig.servo.time >= before  # it never goes back
    if jump < 0:
        with pytest.raises(BodyFault, match="clock went back"):
            rig.arm.command(RIGHT)
        rig.arm.task({}).reset()
        rig.drive()


def test_a_client_that_is_gone_stops_it_as_soon_as_that_is_heard():
    rig = Rig().drive()
    rig.links[0].close()
    rig.lockstep.wait(0.001)
    assert rig.braked_within_a_step("client")
    rig.arm.stop()  # never raises
    Rig.link(rig, "control")  # and another one may take over


def test_a_packet_that_comes_twice_is_not_obeyed_twice():
    rig = Rig().drive()
    rig.network = lambda direction, now: (0.0005, 0.03) if direction == "out" else (0.0005,)
    rig.arm.command(RIGHT)
    rig.network = steady
    rig.lockstep.wait(0.031)
    assert rig.servo.mode != "tracking" and "order" in rig.servo.rules
    with pytest.raises(BodyFault, match="count up"):
        rig.arm.command(RIGHT)


def test_a_lost_packet_is_a_lost_arm_and_late_ones_move_nothing():
    rig = Rig().drive()
    rig.network = lambda direction, now: (1.5,)
    begin = rig.lockstep.now
    with pytest.raises(BodyFault, match="no answer within 1 s"):
        rig.arm.command(RIGHT)
    assert rig.lockstep.now - begin == pytest.approx(1.0)
    where = rig.world.position.copy()
    rig.lockstep.wait(3.0)
    np.testing.assert_allclose(rig.world.position, where, atol=1e-3)
    assert rig.arm._link.lost


def test_an_arm_whose_process_stands_answers_when_it_runs_again():
    rig = Rig().drive()
    rig.lockstep.arm_stands_until = rig.lockstep.now + 0.6
    begin = rig.lockstep.now
    rig.arm.observe()
    assert rig.lockstep.now - begin == pytest.approx(0.6, abs=0.01)
    assert rig.braked_within_a_step("clock")


def test_joint_limits_hold_at_every_step_and_without_them_they_do_not():
    pytest.importorskip("robosuite")
    from vla.sim.panda_arm import MakePandaArm

    world = MakePandaArm()()
    far = np.array([0.05, 0.05, -0.05, 0.5, 0.0, 0.0, 0.0], np.float32)
    worst = {}
    for limited in (True, False):
        world.reset({})
        rig = Rig(world, ServoLimits(joints=limited, max_speed=9.0), far)
        rig.drive(1)
        peak = 0.0
        for period in range(20):
            rig.arm.observe()
            rig.arm.command(far if period % 8 < 4 else -far)
            for _ in range(25):
                before = world.data.qvel[:7].copy()
                rig.lockstep.wait(STEP)
                rise = np.abs(world.data.qvel[:7] - before) / STEP
                peak = max(peak, float((rise / JOINTS.acceleration).max()))
        worst[limited] = peak
        if limited:
            assert {"joint_acceleration", "gripper"} <= set(rig.servo.rules)
            rig.arm.stop()
            assert rig.servo.mode == "braking"
            rig.lockstep.wait(JOINTS.stopping + 0.02)
            assert rig.servo.telemetry()["stopped"] and np.abs(world.data.qvel[:7]).max() < 1e-3
    assert worst[True] <= 1.0 < worst[False]


def test_a_load_that_the_model_does_not_know_does_not_drag_it_away():
    pytest.importorskip("robosuite")
    from vla.sim.panda_arm import MakePandaArm

    world = MakePandaArm()()
    aside = np.array([0.0, 0.05, 0.0, 0.0, 0.0, 0.0, 1.0], np.float32)
    rig = Rig(world, right=aside)
    world.data.xfrc_applied[world.model.body("right_hand").id, 2] = -3.0  # 0.3 kg
    rig.drive(4)
    rig.arm.stop()
    rig.lockstep.wait(0.5)
    assert rig.servo.telemetry()["stopped"] and not rig.servo.telemetry()["fault"]
    where = world.state()[:3]
    rig.lockstep.wait(2.0)
    np.testing.assert_allclose(world.state()[:3], where, atol=1e-4)


def test_a_push_that_breaks_a_limit_stops_it_until_the_reset():
    pytest.importorskip("robosuite")
    from vla.sim.panda_arm import MakePandaArm

    world = MakePandaArm()()
    slow = np.array([0.005, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], np.float32)
    rig = Rig(world, right=slow).drive(2)
    world.data.qvel[3] += 0.5  # hit by something
    assert rig.braked_within_a_step("joint_acceleration")
    with pytest.raises(BodyFault, match="joint 4 was measured at"):
        rig.arm.command(slow)
    rig.arm.task({}).reset()
    rig.drive(1)
