"""The bare Panda: its numbers are robosuite's model's, and what is driven is what happens."""

import numpy as np
import pytest

pytest.importorskip("robosuite")

from vla.embodiments import panda_arm as embodiment
from vla.errors import ConfigError
from vla.robot_driver.arm_world import JointWorld
from vla.sim import panda_model
from vla.sim.panda_arm import OPEN_M, MakePandaArm


@pytest.fixture(scope="module")
def world():
    return MakePandaArm()()


@pytest.fixture
def arm(world):
    world.reset({})
    return world


def settle(arm, steps=400):
    for _ in range(steps):
        arm.substep()


def test_it_is_a_world_whose_joints_are_the_models(arm):
    assert arm.state().shape == (len(arm.spec.state),)
    ranges = arm.model.jnt_range[:7]
    np.testing.assert_array_equal(ranges[:, 0], embodiment.JOINTS.low)
    np.testing.assert_array_equal(ranges[:, 1], embodiment.JOINTS.high)
    assert [arm.model.joint(place).name for place in range(9)] == [*panda_model.JOINTS, *panda_model.FINGERS]
    assert isinstance(arm, JointWorld)
    safe, real = embodiment.LIMITS, embodiment.JOINTS
    assert all(a > b for a, b in zip(safe.low, real.workspace_low, strict=True))
    assert all(a < b for a, b in zip(safe.high, real.workspace_high, strict=True))


def test_what_is_driven_is_what_happens(arm):
    rng = np.random.default_rng(0)
    for _ in range(200):
        wish = arm.wish()
        wanted = rng.uniform(-5.0, 5.0, 7)
        arm.drive(wanted, np.clip(wish.grip, -20.0, 20.0))
        np.testing.assert_allclose((arm.data.qvel[:7] - wish.velocity) / arm.substep_seconds, wanted, atol=0.2)


def test_reach_is_where_it_then_is(arm):
    joints = panda_model.FIRST + 0.2
    tool, lowest = arm.reach(joints)
    arm.reset({"joints": joints.tolist()})
    np.testing.assert_allclose(arm.state()[:3], tool, atol=1e-6)
    np.testing.assert_allclose(arm.state()[6:13], joints, atol=1e-6)
    # below the fingers' pads, above the table that they do not touch
    pads = [arm.data.geom(f"finger{number}_pad_collision").xpos[2] for number in (1, 2)]
    assert lowest < min(pads) and lowest > min(pads) - 0.1


def test_it_goes_where_it_is_told_and_stays_inside_its_box(arm):
    before = arm.state()
    arm.set_goal(np.array([0.03, -0.02, 0.01, 0.0, 0.0, 0.1, 0.0], np.float32))
    settle(arm)
    after = arm.state()
    np.testing.assert_allclose(after[:3] - before[:3], [0.03, -0.02, 0.01], atol=2e-3)
    assert abs(after[-1]) < 0.03  # closed
    for _ in range(40):
        arm.set_goal(np.array([0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 1.0], np.float32))
        settle(arm, 25)
    settle(arm)
    assert arm.state()[2] < embodiment.HIGH[2] and arm.state()[-1] > 0.97


def test_a_jammed_finger_stays_and_is_pushed_as_hard_as_allowed(arm):
    arm.reset({"jam": True})
    arm.set_goal(np.zeros(7, np.float32))
    settle(arm, 100)
    assert arm.state()[-1] == pytest.approx(1.0, abs=1e-3)
    wish = arm.wish()
    assert abs(wish.grip).max() == pytest.approx(1000.0 * OPEN_M, rel=0.01)
    arm.reset({})
    arm.set_goal(np.zeros(7, np.float32))
    settle(arm, 400)
    assert arm.state()[-1] < 0.03


def test_held_it_stays_against_gravity_and_its_camera_sees_a_tenth_of_a_millimetre(arm):
    before, picture = arm.state(), arm.render("side")
    settle(arm, 100)
    np.testing.assert_allclose(arm.state(), before, atol=1e-4)
    assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8 and picture.max() == 200
    arm.set_goal(np.array([0.001, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], np.float32))
    settle(arm, 100)
    assert not np.array_equal(arm.render("side"), picture)
    arm.close()


def test_scenes_are_checked(arm):
    for joints in ([0.0] * 6, [9.0] * 7, [float("nan")] * 7):
        with pytest.raises(ConfigError, match="7 positions"):
            arm.reset({"joints": joints})
