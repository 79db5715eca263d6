"""Limits of vendors' arms, compared with numbers that others published of them."""

import numpy as np
import pytest

from vla.embodiments import franka, ur, xarm
from vla.embodiments.panda_arm import JOINTS

FR3 = (  # franka_description: lower, upper [rad]
    (-2.7437, 2.7437),
    (-1.7837, 1.7837),
    (-2.9007, 2.9007),
    (-3.0421, -0.1518),
    (-2.8065, 2.8065),
    (0.5445, 4.5169),
    (-3.0159, 3.0159),
)
TURN = 6.2832
XARM = {  # xarm_ros2 [rad]
    "xarm5": ((-TURN, TURN), (-2.059, 2.0944), (-3.927, 0.19198), (-1.69297, 3.1416), (-TURN, TURN)),
    "xarm6": ((-TURN, TURN), (-2.059, 2.0944), (-3.927, 0.19198), (-TURN, TURN), (-1.69297, 3.1416), (-TURN, TURN)),
    "xarm7": (
        (-TURN, TURN),
        (-2.059, 2.0944),
        (-TURN, TURN),
        (-0.19198, 3.927),
        (-TURN, TURN),
        (-1.69297, 3.1416),
        (-TURN, TURN),
    ),
    "lite6": (
        (-TURN, TURN),
        (-2.61799, 2.61799),
        (-0.061087, 5.235988),
        (-TURN, TURN),
        (-2.1642, 2.1642),
        (-TURN, TURN),
    ),
}


def test_ranges_are_those_that_the_makers_publish():
    np.testing.assert_allclose(franka.RANGES["fr3"], FR3)
    for model, ranges in XARM.items():
        np.testing.assert_allclose(xarm.RANGES[model], ranges, atol=6e-4)  # theirs are rounded
    assert np.degrees(ur.RANGE).round(6).tolist() == [[-360, 360]] * 2 + [[-180, 180]] + [[-360, 360]] * 3
    # libfranka's rate_limiting.h for the Panda
    assert JOINTS.velocity == (2.175,) * 4 + (2.61,) * 3
    assert JOINTS.acceleration == (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)


def test_no_arm_is_told_to_be_faster_than_its_slowest_joint():
    assert min(JOINTS.velocity) == franka.MAX_SPEED < 2.62
    assert xarm.MAX_SPEED == pytest.approx(3.14, abs=2e-3)
    assert {model: round(np.degrees(speed)) for model, speed in ur.MAX_SPEED.items()} == {
        "ur3e": 180,
        "ur5e": 180,
        "ur10e": 120,
        "ur16e": 120,
    }


def test_an_fr3s_joint_that_brakes_at_its_goal_is_never_faster_than_it_may_be_there():
    speed, braking = franka.JOINT_SPEED, 4 * franka.JOINT_SPEED
    way = np.linspace(0.0, 0.5, 5001)  # before the goal [rad]
    moving = np.minimum(speed, np.sqrt(2 * braking * way))
    for (low, high), (first, last, deceleration, offset), published in zip(
        franka.aimed_at(), franka.ENDS, FR3, strict=True
    ):
        for gap in (first - low, high - last):
            allowed = np.sqrt(2 * deceleration * (way - gap)) - offset
            assert (moving <= allowed + 1e-9).all()
            assert (allowed - moving).min() < 1e-4, "no more is given away than has to be"
        assert published[0] < low and high < published[1]
        assert np.sqrt(2 * deceleration * (last - published[1])) - offset < 0.01, "no speed is left there"
    joints = franka.franka("fr3", joints=True)
    assert [channel.high for channel in joints.action.channels[:7]] == [high for _, high in franka.aimed_at()]
    assert [channel.high for channel in joints.state[6:13]] == [high for _, high in FR3], "measured is what there is"
    assert franka.franka("panda", joints=True).action.channels[1].high == 1.7628
