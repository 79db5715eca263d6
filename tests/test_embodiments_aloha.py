"""Two arms of six joints and a gripper each fit the spec, the safety rules and the servo's bounded motion."""

import numpy as np
import pytest
from test_robot_driver_motion import assert_bounded

from vla.embodiment import EmbodimentSpec
from vla.embodiments import libero_panda
from vla.embodiments.aloha import ACTION, EASE_S, RATE_HZ, RISE_S, STATE, aloha
from vla.errors import ConfigError, PolicyFault, SpecMismatch
from vla.experience import ActionChunk, Observation
from vla.robot_driver.motion import MotionLimits
from vla.robot_driver.servo_loop import Servo
from vla.robot_driver.trajectory import Anchor, joint_path
from vla.safety import SafeBody, SafetyLimits
from vla.transforms import connect

pytest.importorskip("ruckig", reason="bounded motion is the control extra")
SPEC = aloha(height=48, width=64)
SERVO_HZ = 250.0
NAMES = [channel.name for channel in ACTION.channels]


class TwoArms:
    """Both arms on one servo, in lock-step: a command is one period of control."""

    spec = SPEC

    def __init__(self):
        self.now, self.sent = 0.0, [np.array([0.1] * 14)] * 4
        limits = MotionLimits.of(ACTION.channels, rise=RISE_S, ease=EASE_S)
        self.servo = Servo(self.sent.append, lambda: self.sent[-1], limits, rate=SERVO_HZ, clock=lambda: self.now)
        self.servo.restart()

    def observe(self, *, images=True):
        return Observation({}, self.sent[-1].astype(np.float32), "", self.now)

    def command(self, action):
        chunk = ActionChunk(action[None], self.now, 1.2 / RATE_HZ)
        start = Anchor(self.now, self.servo.state.position)
        self.servo.follow(joint_path(chunk, ACTION, start, channels=NAMES, rests=False))
        for _ in range(round(SERVO_HZ / RATE_HZ)):
            self.now += 1 / SERVO_HZ
            self.servo.tick(self.now)
        return action

    def stop(self):
        self.servo.stop()
        for _ in range(200):
            self.now += 1 / SERVO_HZ
            self.servo.tick(self.now)

    def close(self):
        self.stop()


def test_the_spec_is_that_of_two_arms_and_survives_a_file():
    assert ACTION.size == len(STATE) == 14 and SPEC.action.rate == 50
    assert [channel.kind for channel in STATE] == (["joint"] * 6 + ["gripper"]) * 2
    assert SPEC.state_names[6:8] == ("left_gripper", "right_waist")
    assert EmbodimentSpec.from_json(SPEC.to_json()) == SPEC
    assert [camera.role for camera in SPEC.cameras] == ["primary", "secondary", "wrist", "wrist"]


def test_a_policy_of_two_arms_is_not_run_on_others():
    assert connect(SPEC, SPEC) is not None
    with pytest.raises(SpecMismatch):
        connect(SPEC, libero_panda.libero_panda())


def test_both_arms_move_within_their_limits_through_the_safety_rules():
    arms, events = TwoArms(), []
    body, draw = SafeBody(arms, SafetyLimits(), on_event=events.append), np.random.default_rng(0)
    channels = ACTION.channels
    low, high = (np.array([getattr(channel, side) for channel in channels]) for side in ("low", "high"))
    for step in range(100):
        body.observe()
        wild = draw.uniform(low, high)  # far away: as fast as the rules let it
        body.command((wild if step % 10 < 8 else 2 * high).astype(np.float32))
    body.stop()
    assert_bounded(arms.sent, arms.servo.limits, 1 / SERVO_HZ)
    moved = np.ptp(np.array(arms.sent), axis=0)
    assert (moved > 0.01).all()  # all 14 of them
    assert not arms.servo._started().moving and {event.rule for event in events} >= {"joint_velocity"}
    with pytest.raises(PolicyFault):
        body.observe()
        body.command(np.full(14, np.nan, np.float32))


def test_limits_come_with_the_channels():
    limits = MotionLimits.of(ACTION.channels, rise=RISE_S, ease=EASE_S)
    assert limits.low[1] == -1.85005 and limits.velocity[0] == pytest.approx(np.pi)
    assert limits.acceleration[0] == pytest.approx(np.pi / RISE_S)
    assert limits.jerk[6] == pytest.approx(limits.acceleration[6] / EASE_S)
    with pytest.raises(ConfigError, match="x"):
        MotionLimits.of(libero_panda.STATE, rise=1.0, ease=1.0)
    with pytest.raises(ConfigError, match="times"):
        MotionLimits.of(ACTION.channels, rise=0.0, ease=1.0)
