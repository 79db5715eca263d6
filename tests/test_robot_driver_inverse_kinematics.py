"""Joints for poses: they converge, keep limits and margins, and stay bounded where the arm loses a direction."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from arm_model import HOME, JOINTS, SPEEDS, xml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from test_robot_driver_motion import assert_bounded

from vla.embodiments import libero_panda
from vla.errors import BodyFault, ConfigError, UnknownName
from vla.experience import ActionChunk
from vla.robot_driver.inverse_kinematics import Avoidance, InverseKinematics
from vla.robot_driver.motion import Motion, MotionLimits
from vla.robot_driver.trajectory import Anchor, PosePath, pose_path
from vla.tool_pose import Pose

pytest.importorskip("mink", reason="inverse kinematics is the control extra")
mujoco: Any = pytest.importorskip("mujoco")  # Any: the library has no types
MARGIN = 0.03
AVOID = Avoidance(((("hand", "fore"), ("foot", "upper", "table")),), MARGIN)


@cache
def model():
    return mujoco.MjModel.from_xml_string(xml())


def solver(avoid=None, **options):
    return InverseKinematics(model(), JOINTS, SPEEDS, frame="tool", avoid=avoid, **options)


def inside(joints, slack=1e-6):
    low, high = model().jnt_range.T
    return bool((joints >= low - slack).all() and (joints <= high + slack).all())


def drawn(seed):
    """Joints that a person could have put the arm to."""
    low, high = model().jnt_range.T
    draw = np.random.default_rng(seed)
    return low + (high - low) * draw.uniform(0.15, 0.85, 7), draw


def independent_pose(joints):
    """MuJoCo's own, with none of our code."""
    data = mujoco.MjData(model())
    data.qpos = joints
    mujoco.mj_kinematics(model(), data)
    return data.site("tool").xpos.copy(), data.site("tool").xmat.reshape(3, 3).copy()


@settings(max_examples=25)
@given(st.integers(0, 2**31))
def test_it_converges_to_poses_that_can_be_reached(seed):
    joints, draw = drawn(seed)
    goal = np.clip(joints + draw.uniform(-0.3, 0.3, 7), *(model().jnt_range * 0.95).T)
    position, matrix = independent_pose(goal)
    found = solver().reach(joints, Pose(position, matrix))
    reached, turned = independent_pose(found.joints)
    away, turn = np.linalg.norm(reached - position), Rotation.from_matrix(turned.T @ matrix).magnitude()
    assert (away, turn) == pytest.approx((found.position_error, found.rotation_error), abs=1e-6)
    assert away < 1e-3 and turn < 5e-3  # near a singularity, the last of the way is slow
    assert inside(found.joints)


@settings(max_examples=15)
@given(st.integers(0, 2**31))
@example(2361)  # where the solver is a millionth beyond a speed
def test_no_limit_is_passed_on_the_way_to_poses_out_of_reach(seed):
    joints, draw = drawn(seed)
    kinematics = solver()
    target = Pose(draw.normal(size=3) * 2, Rotation.from_rotvec(draw.normal(size=3)).as_matrix())
    for _ in range(60):
        after = kinematics.step(joints, target, 0.02)
        assert inside(after) and (np.abs(after - joints) <= np.array(SPEEDS) * 0.02 * (1 + 1e-12) + 1e-15).all()
        joints = after


@settings(max_examples=15)
@given(st.integers(0, 2**31))
def test_the_margin_holds_on_the_way_into_the_arm_s_own_base_and_the_table(seed):
    kinematics = solver(AVOID)
    draw = np.random.default_rng(seed)
    joints, start = np.array(HOME), kinematics.pose(np.array(HOME))
    # poses inside the foot, and below the table's surface
    place = np.array([0, 0, 0.2]) if draw.random() < 0.5 else np.array([draw.uniform(0.3, 0.7), 0, -0.2])
    target = Pose(place + draw.normal(size=3) * 0.05, start.matrix)
    for _ in range(80):
        joints = kinematics.step(joints, target, 0.05)
        assert kinematics.distance(joints) >= MARGIN - 1e-6


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.2), (0.5, 0.0, -0.2)])
def test_it_goes_as_near_as_it_may_and_the_margin_is_mujoco_s_own_distance(place):
    kinematics, start = solver(AVOID), solver().pose(np.array(HOME))
    found = kinematics.reach(np.array(HOME), Pose(np.array(place), start.matrix))
    data = mujoco.MjData(model())
    data.qpos = found.joints
    mujoco.mj_kinematics(model(), data)
    ids = [[model().geom(name).id for name in names] for names in AVOID.pairs[0]]
    apart = [mujoco.mj_geomDistance(model(), data, one, other, 1.0, None) for one in ids[0] for other in ids[1]]
    assert min(apart) == pytest.approx(MARGIN, abs=1e-4) and found.position_error > 0.05


def test_a_violated_margin_can_be_left():
    kinematics = solver(AVOID)
    position, matrix = independent_pose(np.array(HOME))
    deep = solver().reach(np.array(HOME), Pose(np.array([0.4, 0.0, -0.05]), matrix)).joints
    before = kinematics.distance(deep)
    assert before < MARGIN
    found = kinematics.reach(deep, Pose(position, matrix))
    assert kinematics.distance(found.joints) > MARGIN and found.position_error < 1e-3


def test_through_a_singularity_the_joints_stay_slow():
    """The tool goes straight out until the elbow is stretched, beyond reach, and back."""
    kinematics, joints = solver(), np.array(HOME)
    start = kinematics.pose(joints)
    far = Pose(start.position + np.array([0.6, 0.0, 0.2]), start.matrix)
    _, found = kinematics.follow(PosePath(np.array([0.0, 2.0, 4.0]), [start, far, start]), joints, every=0.02)
    rows = found.joints
    jacobian, smallest = np.zeros((6, 7)), np.inf
    data = mujoco.MjData(model())
    for row in rows:
        data.qpos = row
        mujoco.mj_kinematics(model(), data)
        mujoco.mj_comPos(model(), data)
        mujoco.mj_jacSite(model(), data, jacobian[:3], jacobian[3:], 0)
        smallest = min(smallest, np.linalg.svd(jacobian, compute_uv=False)[-1])
        assert inside(row)
    assert smallest < 0.02  # it really was singular
    assert (np.abs(np.diff(rows, axis=0)) / 0.02 <= np.array(SPEEDS) * (1 + 1e-6)).all()
    assert found.position_error > 0.1  # says that it did not get there
    assert kinematics.pose(rows[-1]).position == pytest.approx(start.position, abs=1e-3)  # and came back


def test_a_chunk_of_a_policy_moves_the_tool_where_it_says():
    kinematics, joints = solver(home=HOME), np.array(HOME)
    start = kinematics.pose(joints)
    rows = np.tile([0.01, -0.005, 0.008, 0.02, 0.0, -0.03, 1.0], (16, 1)).astype(np.float32)
    path = pose_path(ActionChunk(rows, 3.0, 0.05), libero_panda.ACTION, Anchor(3.0, start))
    way, solution = kinematics.follow(path, joints)
    assert solution.position_error < 1e-3 and solution.rotation_error < 5e-3
    low, high = (tuple(map(float, side)) for side in model().jnt_range.T)
    limits = MotionLimits(low, high, SPEEDS, (15.0,) * 7, (2000.0,) * 7)
    motion, sent = Motion(limits, 0.002, joints), [joints] * 4
    for tick in range(500):
        target, after = way.at(3.0 + 0.002 * tick), way.at(3.002 + 0.002 * tick)
        assert target is not None and after is not None
        sent.append(motion.step(*target).position)
        if tick > 100:  # by then it has caught up with a way that begins at speed
            assert sent[-1] == pytest.approx(after.position, abs=2e-4)
    assert_bounded(sent, limits, 0.002)
    position, matrix = independent_pose(sent[-1])
    assert position == pytest.approx(start.position + 16 * rows[0, :3], abs=1e-3)
    turn = Rotation.from_rotvec(rows[0, 3:6]) ** 16 * Rotation.from_matrix(start.matrix)
    assert (Rotation.from_matrix(matrix) * turn.inv()).magnitude() < 5e-3


@pytest.mark.parametrize(("without", "weight", "turn"), [((2,), 1.0, 1e-3), ((2, 4), 0.01, np.pi)])
def test_arms_of_six_and_of_five_joints(without, weight, turn):
    """The other joints of the model stay; with five, the position counts more than the rotation."""
    kept = [place for place in range(7) if place not in without]
    kinematics = InverseKinematics(
        model(), [JOINTS[i] for i in kept], [SPEEDS[i] for i in kept], frame="tool", rotation_weight=weight
    )
    low, high = model().jnt_range.T
    draw, start = np.random.default_rng(0), np.array(HOME)
    for _ in range(5):
        goal = start.copy()
        goal[kept] = np.clip(start[kept] + draw.uniform(-0.4, 0.4, len(kept)), (low * 0.95)[kept], (high * 0.95)[kept])
        position, matrix = independent_pose(np.where(np.isin(np.arange(7), without), 0.0, goal))
        if len(kept) == 5:
            matrix = Rotation.from_rotvec([0.0, 0.0, 0.3]).as_matrix() @ matrix  # which five joints cannot make as well
        found = kinematics.reach(start[kept], Pose(position, matrix), steps=400)
        whole = np.zeros(7)
        whole[kept] = found.joints
        assert np.linalg.norm(independent_pose(whole)[0] - position) < 2e-3
        assert found.rotation_error < turn and inside(whole)


def test_poses_are_in_the_base_s_frame():
    turn = Rotation.from_euler("z", 70, degrees=True)
    quaternion = " ".join(map(str, turn.as_quat()[[3, 0, 1, 2]]))
    placed = mujoco.MjModel.from_xml_string(xml("0.3 -1.0 0.8", quaternion))
    kinematics = InverseKinematics(placed, JOINTS, SPEEDS, frame="tool", base="base")
    position, matrix = independent_pose(np.array(HOME))
    found = kinematics.pose(np.array(HOME))
    assert found.position == pytest.approx(position, abs=1e-9) and found.matrix == pytest.approx(matrix, abs=1e-9)
    goal = Pose(position + np.array([0.05, 0.05, -0.05]), matrix)
    assert kinematics.reach(np.array(HOME), goal).position_error < 1e-4


def test_what_the_model_does_not_have_is_said():
    wrong: list[dict[str, Any]] = [{"frame": "toool"}, {"frame": "tool", "base": "stand"}]
    for options in wrong:
        with pytest.raises(UnknownName):
            InverseKinematics(model(), JOINTS, SPEEDS, **options)
    with pytest.raises(UnknownName, match="joint8"):
        InverseKinematics(model(), (*JOINTS[:6], "joint8"), SPEEDS, frame="tool")
    with pytest.raises(ConfigError, match="7 joints"):
        InverseKinematics(model(), JOINTS, SPEEDS[:6], frame="tool")
    with pytest.raises(ConfigError, match="margin"):
        Avoidance((), 0.0)
    loose = mujoco.MjModel.from_xml_string(
        xml().replace("</worldbody>", '<body><freejoint/><geom size="0.1"/></body></worldbody>')
    )
    with pytest.raises(ConfigError, match="moves freely"):
        InverseKinematics(loose, JOINTS, SPEEDS, frame="tool")


def test_from_far_outside_a_range_there_is_no_step_and_one_clear_error():
    arm = solver()
    joints = np.array(HOME, np.float64)
    target = arm.pose(joints)
    joints[0] = model().jnt_range[0, 1] + 0.1
    with pytest.raises(BodyFault, match="back into its ranges"):
        arm.step(joints, target, 0.002)
