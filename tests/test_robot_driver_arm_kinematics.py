"""Models of vendors' arms are the vendors' own kinematics; goals that are solved with them neither drift nor leap."""

import contextlib
import dataclasses
import time

import numpy as np
import pytest
from fake_arms import FRANKA_Q, TOOL, franky_module, install
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.arm_links import PANDA, chain_points
from vla.embodiments.franka import RANGES, franka
from vla.embodiments.ur import RANGE, ur
from vla.errors import BodyFault, ConfigError
from vla.robot_driver import franka as franka_driver
from vla.robot_driver import ur as ur_driver
from vla.robot_driver.action_goals import SolvedGoals
from vla.robot_driver.arm_kinematics import MARGIN, arm_kinematics
from vla.robot_driver.arm_link import Measured
from vla.robot_driver.ur_emulated_arm import HOME
from vla.robot_driver.ur_kinematics import flange_to_base, pose_matrix
from vla.rotation import to_matrix
from vla.tool_pose import change_to, poses_after

pytest.importorskip("mink", reason="inverse kinematics is the control extra")
ASKEW = pose_matrix(np.array([0.02, -0.01, 0.15, 0.1, 0.2, -0.3]))
RATE = 10.0


@given(arrays(np.float64, 6, elements=st.floats(-3.0, 3.0)))
@settings(max_examples=20, deadline=None)
def test_a_ur5e_is_what_its_maker_publishes_in_the_controller_s_base_frame(q):
    found = arm_kinematics("ur5e", ASKEW, RANGE, 1.0, RATE).pose(q)
    expected = flange_to_base("ur5e", q) @ ASKEW
    np.testing.assert_allclose(found.position, expected[:3, 3], atol=1e-6)
    np.testing.assert_allclose(found.matrix, expected[:3, :3], atol=1e-6)


@given(arrays(np.float64, 7, elements=st.floats(-2.8, 2.8)))
@settings(max_examples=20, deadline=None)
def test_a_panda_is_what_its_maker_publishes(q):
    flange = arm_kinematics("panda", np.eye(4), RANGES["panda"], 1.0, RATE).pose(q)
    np.testing.assert_allclose(flange.position, chain_points(PANDA, q)[-1], atol=1e-6)
    ahead = pose_matrix(np.array([0, 0, 0.1, 0, 0, 0.0]))
    tip = arm_kinematics("fr3", ahead, RANGES["fr3"], 1.0, RATE).pose(q)
    longer = (*PANDA[:-1], (0.0, 0.0, PANDA[-1][2] + 0.1))
    np.testing.assert_allclose(tip.position, chain_points(longer, q)[-1], atol=1e-6)
    # at rest of all joints the hand points down, its x axis ahead
    rest = arm_kinematics("panda", np.eye(4), RANGES["panda"], 1.0, RATE).pose(np.zeros(7))
    np.testing.assert_allclose(rest.matrix, np.diag([1.0, -1.0, -1.0]), atol=1e-6)


@pytest.mark.parametrize("model", ["ur5e", "fr3"])
def test_no_command_leads_faster_than_the_joints_nor_nearer_than_the_margin(model):
    spec, ranges, q = (ur("ur5e"), RANGE, HOME) if model == "ur5e" else (franka(gripper=False), RANGES["fr3"], FRANKA_Q)
    kinematics = arm_kinematics(model, TOOL, ranges, 0.5, RATE)
    goals = SolvedGoals(spec.action, kinematics)
    draw = np.random.default_rng(0)
    low, high = np.array(ranges).T
    for number in range(60):
        goal = kinematics.pose(q)
        way = np.array([0, 0, 0.1]) - goal.position if number % 20 < 15 else draw.normal(size=3)
        step = np.concatenate([0.02 * way / np.linalg.norm(way), draw.uniform(-0.05, 0.05, 3)]).astype(np.float32)
        after, sent = goals.after(q, step)
        assert (np.abs(after - q) <= 0.5 / RATE * (1 + 1e-6)).all()
        assert (after >= low - 1e-6).all() and (after <= high + 1e-6).all()
        assert kinematics.distance(after) >= MARGIN - 1e-6
        told = poses_after(sent[None], spec.action, goal)[0]  # what is told to have been sent leads to where it goes
        found = kinematics.pose(after)
        np.testing.assert_allclose(told.position, found.position, atol=2e-4)
        np.testing.assert_allclose(told.matrix, found.matrix, atol=2e-3)
        q = after
    report = goals.report()["kinematics"]
    assert report["goals"] == 60 and 0 < report["missed"] < 60


def test_what_an_arm_is_calibrated_differently_does_not_add_up():
    """A policy asks, again and again, to stay where the controller measures the tool."""
    spec, kinematics = ur("ur5e"), arm_kinematics("ur5e", ASKEW, RANGE, 1.0, RATE)
    goals, q = SolvedGoals(spec.action, kinematics), HOME.copy()
    off = pose_matrix(np.array([0.003, -0.002, 0.001, 0.004, 0.0, -0.005]))  # and the model's pose is elsewhere

    def measured(joints):
        return Measured(0.0, joints, off @ flange_to_base("ur5e", joints) @ ASKEW)

    start = measured(q)
    for _ in range(50):
        now = measured(q)
        goals.saw(now)
        counts = goals.pose(q)
        np.testing.assert_allclose(counts.position, now.tool[:3, 3], atol=1e-9)
        np.testing.assert_allclose(counts.matrix, now.tool[:3, :3], atol=1e-9)
        q, _ = goals.after(q, change_to(np.zeros(6, np.float32), spec.action, counts, counts))
    np.testing.assert_allclose(measured(q).tool, start.tool, atol=1e-5)
    way = np.array([0.01, -0.01, 0.005, 0.0, 0.02, 0.02], np.float32)
    q, sent = goals.after(q, way)
    np.testing.assert_array_equal(sent, way)
    moved = measured(q).tool
    np.testing.assert_allclose(moved[:3, 3] - start.tool[:3, 3], way[:3], atol=2e-4)  # turned by 6 mrad with the base
    turned = moved[:3, :3] @ start.tool[:3, :3].T
    np.testing.assert_allclose(turned, to_matrix(way[3:].astype(np.float64), "axis_angle"), atol=1e-3)


def test_a_franka_is_servoed_by_its_joints(monkeypatch):
    module = franky_module()
    install(monkeypatch, franky=module)
    config = franka_driver.Config(gripper=False, kinematics="mink", process=False)
    kinematics = arm_kinematics("fr3", TOOL, RANGES["fr3"], 1.0, RATE)
    before = kinematics.pose(FRANKA_Q)
    with contextlib.closing(config.make()) as arm:
        assert arm.spec.action.mode == "delta" and arm.spec.action.names[0] == "dx"
        arm.command(np.array([0.02, 0, -0.01, 0, 0, 0.1], np.float32))
        end = time.monotonic() + 15.0
        turn = to_matrix(np.array([0, 0, 0.1]), "axis_angle")

        def there():
            now = kinematics.pose(module.arm.q)
            away = np.abs(now.position - before.position - [0.02, 0, -0.01]).max()
            return away < 1e-4 and np.abs(now.matrix @ before.matrix.T - turn).max() < 2e-3

        while not there():
            assert time.monotonic() < end, "it did not get there"
            time.sleep(0.01)
        assert ("tracker", ["stiffness"]) in module.arm.calls


def test_what_cannot_be_solved_is_said_before_anything_is_connected():
    with pytest.raises(ConfigError, match=r"knows fr3, panda, ur5e, not ur10e"):
        ur_driver.Config(model="ur10e", joint_speed=1.0, kinematics="mink")
    for driver in (ur_driver, franka_driver):
        with pytest.raises(ConfigError, match="joints=true"):
            dataclasses.replace(driver.Config(), kinematics="mink", joints=True)
        assert driver.Config(kinematics="mink").joints is False
    with pytest.raises(BodyFault, match="tool centre point"):
        arm_kinematics("ur5e", None, RANGE, 1.0, RATE)
    kinematics = arm_kinematics("ur5e", np.eye(4), RANGE, 1.0, RATE)
    with pytest.raises(ConfigError, match="changes of the tool's pose"):
        SolvedGoals(ur("ur5e", joints=True).action, kinematics)
