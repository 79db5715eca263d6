"""Chunks become timed paths: deltas count from the pose they were predicted from, turns go the short way."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla.embodiment import ActionSpec, Channel, Gripper
from vla.embodiments import libero_panda
from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk
from vla.robot_driver.trajectory import SLOWING_S, Anchor, JointPath, PosePath, joint_path, pose_path
from vla.tool_pose import Pose

JOINTS = ActionSpec(
    (*(Channel(f"joint_{i}", "rad", "joint") for i in range(3)), Channel("gripper", "1", "gripper", 0.0, 1.0)),
    "absolute",
    "joint",
    None,
    Gripper(),
    10.0,
)
PANDA = libero_panda.ACTION


def chunk(actions, time=5.0, dt=0.05):
    return ActionChunk(np.asarray(actions, np.float32), time, dt)


def turned(*degrees):
    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


def test_an_absolute_chunk_starts_at_its_anchor_and_rests_at_its_last_row():
    actions = [[0.1, 0.2, 0.3, 1.0], [0.2, 0.1, 0.3, 1.0], [0.3, 0.0, 0.3, 0.0]]
    path = joint_path(chunk(actions), JOINTS, Anchor(5.0, np.zeros(3)))
    assert (path.start, path.size) == (5.0, 3) and path.end == pytest.approx(5.15 + SLOWING_S)
    for time, wanted in ((5.0, [0, 0, 0]), (5.05, actions[0][:3]), (path.end, actions[2][:3]), (9.0, actions[2][:3])):
        target = path.at(time)
        assert target is not None and target.position == pytest.approx(wanted, abs=1e-6)
    for time in (4.0, path.end - 1e-9, 9.0):
        target = path.at(time)
        assert target is not None and np.abs(target.velocity).max() < 1e-6


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_a_path_that_rests_stops_on_the_way_of_one_that_does_not(seed, rows):
    draw = np.random.default_rng(seed)
    times, positions = 0.05 * np.arange(rows + 1), draw.normal(size=(rows + 1, 1))
    on, rests = JointPath(times, positions, rests=False), JointPath(times, positions)
    assert rests.end == pytest.approx(times[-1] + min(SLOWING_S, times[-1]))
    way = [on.at(time) for time in np.linspace(0, times[-1] - 1e-9, 300)]
    low, high = (f([target.position[0] for target in way if target is not None]) for f in (min, max))
    for time in np.linspace(0, rests.end + 1, 200):
        target = rests.at(time)
        assert target is not None and low - 0.01 <= target.position[0] <= high + 0.01
        if time < times[-1] - SLOWING_S and (same := on.at(time)) is not None:
            assert target.position == pytest.approx(same.position, abs=1e-9)


def test_rows_that_come_one_at_a_time_end_without_a_target():
    path = joint_path(chunk([[0.1, 0.0, 0.0, 1.0]]), JOINTS, Anchor(5.0, np.zeros(3)), rests=False)
    target = path.at(5.04)
    assert target is not None and target.velocity == pytest.approx([2.0, 0, 0], rel=1e-5)
    assert path.at(5.06) is None


def test_a_gripper_is_a_target_in_either_mode():
    spec = replace(JOINTS, mode="delta")
    names = ["joint_2", "gripper", "joint_0"]
    rows = [[0.1, 0, 0.2, 0.5], [0.1, 0, 0.2, 0.7]]
    path = joint_path(chunk(rows), spec, Anchor(5.0, np.array([1.0, 0.2, -1.0])), channels=names)
    target = path.at(path.end)
    assert target is not None and target.position == pytest.approx([1.4, 0.7, -0.8], abs=1e-6)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 12), st.booleans())
def test_speed_and_acceleration_are_the_path_s_and_continuous(seed, rows, rests):
    draw = np.random.default_rng(seed)
    times = np.cumsum(draw.uniform(0.02, 0.2, rows + 1))
    path = JointPath(times, draw.normal(size=(rows + 1, 2)), rests=rests)
    step = 1e-6
    known = [path.at(time) for time in np.linspace(times[0], path.end - step, 50)]
    accelerations = [target.acceleration for target in known if target is not None and target.acceleration is not None]
    assert len(accelerations) == len(known)
    steepest = 1 + float(np.abs(accelerations).max())
    for time in (*times[1:-1], *draw.uniform(times[0] + step, path.end - step, 20)):
        target, before, after = path.at(time), path.at(time - step), path.at(time + step)
        assert target is not None and before is not None and after is not None
        assert target.velocity == pytest.approx((after.position - before.position) / (2 * step), abs=1e-3, rel=1e-4)
        assert after.acceleration is not None and before.acceleration is not None
        jump = np.abs(after.acceleration - before.acceleration)  # continuous: no more than a steady jerk makes of it
        assert (jump <= 1e-3 * steepest).all()


@given(st.integers(0, 2**31), st.floats(0.0, 0.6))
def test_deltas_count_from_the_pose_they_were_predicted_from(seed, delay):
    """An oracle that never sees where the arm is when an action is executed: the targets must be the same."""
    draw = np.random.default_rng(seed)
    rows = draw.uniform(-0.04, 0.04, (8, 7))
    start = Pose(draw.normal(size=3), Rotation.from_rotvec(draw.normal(size=3)).as_matrix())
    path = pose_path(chunk(rows), PANDA, Anchor(5.0, start))
    position, turn = start.position, Rotation.from_matrix(start.matrix)
    for row in rows[: 1 + int(delay / 0.05)]:
        row = row.astype(np.float32).astype(np.float64)
        position, turn = position + row[:3], Rotation.from_rotvec(row[3:6]) * turn
    done = min(len(rows), 1 + int(delay / 0.05))
    pose = path.at(5.0 + 0.05 * done)  # however late the chunk came, this instant's target is the same
    assert pose.position == pytest.approx(position, abs=1e-9)
    assert pose.matrix == pytest.approx(turn.as_matrix(), abs=1e-9)


def test_a_chunk_is_refused_with_the_pose_of_another_time():
    start = Pose(np.zeros(3), np.eye(3))
    with pytest.raises(PolicyFault, match=r"5\.000000 s.*5\.200000 s"):
        pose_path(chunk(np.zeros((2, 7))), PANDA, Anchor(5.2, start))  # measured when the action is executed
    with pytest.raises(PolicyFault):
        joint_path(chunk(np.zeros((2, 4))), JOINTS, Anchor(5.2, np.zeros(3)))


def test_deltas_about_the_tool_s_axes_turn_with_it():
    start = Pose(np.array([1.0, 0.0, 0.0]), turned(0, 0, 90))
    rows = np.zeros((2, 7))
    rows[0, 5], rows[:, 0] = np.pi / 2, 0.1
    path = pose_path(chunk(rows), replace(PANDA, frame="tool"), Anchor(5.0, start))
    # along the tool's x, which is the base's y; then, after a quarter turn, the base's -x
    assert path.at(5.05).position == pytest.approx([1.0, 0.1, 0.0], abs=1e-6)
    assert path.at(5.10).position == pytest.approx([0.9, 0.1, 0.0], abs=1e-6)
    base = pose_path(chunk(rows), PANDA, Anchor(5.0, start))
    assert base.at(5.10).position == pytest.approx([1.2, 0.0, 0.0], abs=1e-6)


@given(st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_turns_go_the_short_way_at_a_steady_rate(seed, share):
    first, last = Rotation.from_quat(np.random.default_rng(seed).normal(size=(2, 4)))
    poses = [Pose(np.zeros(3), first.as_matrix()), Pose(np.ones(3), last.as_matrix())]
    path = PosePath(np.array([1.0, 3.0]), poses)
    pose = path.at(1.0 + 2.0 * share)
    whole = (first.inv() * last).magnitude()  # in [0, pi]
    part = (first.inv() * Rotation.from_matrix(pose.matrix)).magnitude()
    assert part == pytest.approx(share * whole, abs=1e-6)
    assert pose.position == pytest.approx([share] * 3)


def test_absolute_poses_whatever_the_sign_of_their_quaternions():
    channels = (
        *(Channel(name, "m", "position") for name in "xyz"),
        *(Channel(f"q{name}", "1", "rotation") for name in "xyzw"),
    )
    spec = ActionSpec(channels, "absolute", "base", "quat_xyzw", None, 20.0)
    first, last = Rotation.from_euler("z", 10, degrees=True), Rotation.from_euler("z", 30, degrees=True)
    rows = np.zeros((2, 7))
    rows[0, 3:], rows[1, 3:] = first.as_quat(), -last.as_quat()
    path = pose_path(chunk(rows), spec, Anchor(5.0, Pose(np.zeros(3), np.eye(3))))
    assert Rotation.from_matrix(path.at(5.075).matrix).as_euler("xyz", degrees=True) == pytest.approx([0, 0, 20])


def test_what_is_no_path_is_refused():
    for times in ([0.0], [0.0, 0.0], [1.0, 0.0]):
        with pytest.raises(ConfigError):
            JointPath(np.array(times), np.zeros((len(times), 2)))
        with pytest.raises(ConfigError):
            PosePath(np.array(times), [Pose(np.zeros(3), np.eye(3))] * len(times))
    anchor = Anchor(5.0, np.zeros(3))
    with pytest.raises(ConfigError, match="no channel wrist"):
        joint_path(chunk(np.zeros((1, 4))), JOINTS, anchor, channels=["wrist"])
    with pytest.raises(ConfigError, match="anchor has shape"):
        joint_path(chunk(np.zeros((1, 4))), JOINTS, Anchor(5.0, np.zeros(2)))
    with pytest.raises(ConfigError, match="joints or grippers, not dx"):
        joint_path(chunk(np.zeros((1, 7))), PANDA, anchor)
    pose = Anchor(5.0, Pose(np.zeros(3), np.eye(3)))
    for spec in (JOINTS, replace(PANDA, mode="absolute", frame="tool")):
        with pytest.raises(ConfigError):
            pose_path(chunk(np.zeros((1, spec.size))), spec, pose)
