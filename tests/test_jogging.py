"""From commands to actions: delta and absolute poses, joints, grippers of any sign, clutch and speed scale."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla import jogging, rotation
from vla.embodiment import ActionSpec, Channel, EmbodimentSpec, Gripper
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import RAW_ACTION, libero_panda
from vla.errors import ConfigError
from vla.experience import Observation
from vla.jogging import LEASH_M, LEASH_RAD, WAKE, Jog, Speeds, taken_from, way
from vla.teleoperation import Command, Joints, Rate, Shift

PANDA = libero_panda(16)
RAW = dataclasses.replace(PANDA, action=RAW_ACTION)
POSE = EmbodimentSpec(
    "posed",
    PANDA.state,
    "axis_angle_2pi",
    ActionSpec(
        (
            *(Channel(f"{axis}_target", "m", "position") for axis in "xyz"),
            *(Channel(f"r{i}", "1", "rotation") for i in range(6)),
            Channel("grip", "1", "gripper"),
        ),
        "absolute",
        "base",
        "rot6d",
        Gripper(closed=1.0, opened=-1.0),
        10.0,
    ),
    (),
)
SO101 = EmbodimentSpec(
    "five joints",
    (*(Channel(f"q{i}", "rad", "joint", scale=0.01) for i in range(5)), Channel("jaw", "1", "gripper")),
    None,
    ActionSpec(
        (
            *(Channel(f"q{i}_target", "rad", "joint", -1.0, 1.0, scale=0.01, max_rate=2.0) for i in range(5)),
            Channel("jaw_target", "1", "gripper", 0.0, 1.0),
        ),
        "absolute",
        "joint",
        None,
        Gripper(),
        20.0,
    ),
    (),
)

unit = st.floats(-1.0, 1.0)
six = st.lists(unit, min_size=6, max_size=6).map(np.array)


def seen(spec, state=None):
    return Observation({}, np.zeros(len(spec.state), np.float32) if state is None else state, "", 0.0)


def jog(*arguments) -> Any:
    return jogging.jog(*arguments)


def rate(*values, pressed=(), engaged=True, gripper=None):
    motion = Rate(np.array(values + (0.0,) * (6 - len(values))))
    return Command(motion, gripper, frozenset(pressed), engaged)


@given(six, st.floats(0.01, 1.0))
def test_a_rate_becomes_a_step_of_that_speed(values, scale):
    speeds = Speeds(linear=0.5, angular=1.0, scale=scale)
    action, after = jog(PANDA, Command(Rate(values), gripper=0.25), seen(PANDA), Jog(speeds=speeds))
    np.testing.assert_allclose(action[:3], values[:3] * 0.5 * scale / 20, atol=1e-6)
    np.testing.assert_allclose(action[3:6], values[3:] * scale / 20, atol=1e-6)
    assert action.dtype == np.float32 and action[6] == 0.25 and not after.holding
    raw, _ = jog(RAW, Command(Rate(values), gripper=0.25), seen(RAW), Jog(speeds=speeds))
    np.testing.assert_allclose(raw[:3] * 0.05, action[:3], atol=1e-6)  # the same motion in other numbers
    np.testing.assert_allclose(raw[3:6] * 0.5, action[3:6], atol=1e-6)
    assert raw[6] == 0.5  # -1 open, 1 closed


@given(six)
def test_a_rotation_takes_the_form_that_the_action_has(values):
    widow = bridge_widowx()
    action, _ = jog(widow, Command(Shift(values), gripper=1.0), seen(widow), Jog())
    turned = rotation.to_matrix(action[3:6].astype(np.float64), "euler_xyz")
    np.testing.assert_allclose(turned, rotation.to_matrix(values[3:], "axis_angle"), atol=1e-5)
    np.testing.assert_allclose(action[:3], values[:3], atol=1e-6)


def test_bounds_of_the_channels_hold():
    action, _ = jog(PANDA, Command(Shift(np.full(6, 3.0))), seen(PANDA), Jog())
    np.testing.assert_allclose(action[:6], [0.05] * 3 + [0.5] * 3, atol=1e-7)


def test_absolute_poses_count_from_the_last_target_and_never_run_away():
    start = np.array([0.3, 0.1, 0.5, math.pi, 0, 0, 0, 0], np.float32)
    there, state = jog(POSE, rate(0.0, 1.0), seen(POSE, start), Jog(opening=0.0, speeds=Speeds(linear=0.5)))
    for _ in range(2):
        there, state = jog(POSE, rate(0.0, 1.0), seen(POSE, start), state)
    np.testing.assert_allclose(there[:3], [0.3, 0.1 + LEASH_M, 0.5], atol=1e-6)  # 3 * 0.05 m, held back
    np.testing.assert_allclose(
        rotation.to_matrix(there[3:9].astype(np.float64), "rot6d"),
        rotation.to_matrix(start[3:6], "axis_angle"),
        atol=1e-6,
    )
    assert there[9] == 1.0  # closed, in this arm's numbers
    nothing, state = jog(POSE, rate(0.0, 1.0, engaged=False), seen(POSE, start), state)
    assert nothing is None
    moved = start.copy()
    moved[0] = 0.6  # led away by hand while the clutch was open
    there, _ = jog(POSE, rate(0.0, 1.0), seen(POSE, moved), state)
    np.testing.assert_allclose(there[:3], [0.6, 0.15, 0.5], atol=1e-6)


def test_a_leader_is_followed_no_faster_than_full_speed():
    leader = Command(Joints({f"q{i}_target": 0.5 * (i - 2) for i in range(5)} | {"jaw_target": 0.3}))
    state, sent = Jog(speeds=Speeds(joint=4.0)), []
    for _ in range(12):
        action, state = jog(SO101, leader, seen(SO101), state)
        sent.append(action * np.array([0.01] * 5 + [1.0]))
    steps = np.diff([np.zeros(6), *sent], axis=0)[:, :5]
    assert np.abs(steps).max() <= 2.0 / 20 + 1e-6  # the channel's own rate is the lower one
    np.testing.assert_allclose(sent[-1], [-1.0, -0.5, 0.0, 0.5, 1.0, 0.3], atol=1e-6)


def test_joints_are_jogged_one_by_one_within_their_limits():
    state, here = Jog(speeds=Speeds(joint=1.0)), np.zeros(6, np.float32)
    for _ in range(30):
        action, state = jog(SO101, rate(0.0, 0.0, 0.0, 0.0, -1.0, 1.0), seen(SO101, here), state)
        here = action
    np.testing.assert_allclose(action[:5] * 0.01, [0, 0, 0, 0, -1.0], atol=1e-6)


def test_a_blocked_arm_winds_up_no_leap_in_joints_and_rotation():
    state = Jog(speeds=Speeds(joint=1.0))
    for _ in range(30):
        action, state = jog(SO101, rate(-1.0), seen(SO101), state)
    assert -LEASH_RAD - 1e-6 <= action[0] * 0.01 < -LEASH_RAD + 0.06
    back, _ = jog(SO101, rate(1.0), seen(SO101), state)
    assert back[0] > action[0], "it can be moved back at once"

    start = np.array([0.3, 0.1, 0.5, math.pi, 0, 0, 0, 0], np.float32)
    state = Jog(speeds=Speeds(angular=1.0))
    for _ in range(60):  # 6 rad asked for
        action, state = jog(POSE, rate(0.0, 0.0, 0.0, 0.0, 0.0, 1.0), seen(POSE, start), state)
    sent = rotation.to_matrix(action[3:9].astype(np.float64), "rot6d")
    away = rotation.from_matrix(sent @ rotation.to_matrix(start[3:6].astype(np.float64), "axis_angle").T, "axis_angle")
    np.testing.assert_allclose(away, [0, 0, LEASH_RAD], atol=1e-5)


def test_stop_holds_a_follower_until_its_leader_is_moved():
    still = {f"q{i}_target": 0.2 for i in range(5)}

    def leader(moved=0.0, pressed=()):
        return Command(Joints(still | {"q2_target": 0.2 + moved}), 0.5, frozenset(pressed))

    action, state = jog(SO101, leader(), seen(SO101), Jog())
    assert action is not None
    action, state = jog(SO101, leader(pressed=("stop",)), seen(SO101), state)
    assert action is None
    for _ in range(3):
        action, state = jog(SO101, leader(0.5 * WAKE), seen(SO101), state)
        assert action is None, "a hand that trembles does not end it"
    action, state = jog(SO101, leader(2 * WAKE), seen(SO101), state)
    assert action is not None
    assert jog(SO101, leader(), seen(SO101), state)[0] is not None


def test_a_delta_of_joints_counts_from_where_they_are():
    delta = dataclasses.replace(SO101, action=dataclasses.replace(SO101.action, mode="delta"))
    here = np.array([10, 0, 0, 0, 0, 1], np.float32)  # 0.1 rad
    leader = Command(Joints({f"q{i}_target": 0.12 for i in range(5)}))
    action, _ = jog(delta, leader, seen(delta, here), Jog(speeds=Speeds(joint=1.0)))
    np.testing.assert_allclose(action[:5] * 0.01, [0.02, 0.05, 0.05, 0.05, 0.05], atol=1e-6)


def test_an_operator_who_has_not_moved_yet_or_lets_go_sends_nothing():
    nothing, state = jog(PANDA, rate(), seen(PANDA), Jog())
    assert nothing is None and state.holding
    action, state = jog(PANDA, rate(1.0), seen(PANDA), state)
    assert action is not None
    action, state = jog(PANDA, rate(), seen(PANDA), state)
    assert not action[:6].any() and action[6] == 1.0  # standing between two motions is part of it
    for command in (rate(1.0, pressed=("stop",)), rate(1.0, pressed=("estop",)), rate(1.0, engaged=False)):
        nothing, held = jog(PANDA, command, seen(PANDA), state)
        assert nothing is None and held.holding
        assert jog(PANDA, rate(), seen(PANDA), held)[0] is None


def test_buttons_change_gripper_and_scale():
    action, state = jog(PANDA, rate(pressed=("gripper", "slower")), seen(PANDA), Jog())
    assert action[6] == 0.0 and state.speeds.scale == 0.7
    action, state = jog(PANDA, rate(pressed=("gripper", "faster")), seen(PANDA), state)
    assert action[6] == 1.0 and state.speeds.scale == 1.0
    assert jog(PANDA, rate(pressed=("faster",)), seen(PANDA), state)[1].speeds.scale == 1.0


@pytest.mark.parametrize(("spec", "number", "opening"), [(PANDA, 0.0, 0.0), (RAW, 1.0, 0.0), (POSE, -1.0, 1.0)])
def test_taking_over_does_not_let_go_of_what_the_gripper_holds(spec, number, opening):
    last = np.zeros(spec.action.size, np.float32)
    last[-1] = number
    state = taken_from(spec, last, Jog(opening=0.5, holding=False))
    assert state.opening == opening and state.holding
    action, _ = jog(spec, rate(1.0), seen(spec), state)
    assert action[-1] == number


def test_what_cannot_be_moved_is_refused():
    assert [way(spec) for spec in (PANDA, POSE, SO101)] == ["delta_pose", "absolute_pose", "absolute_joints"]
    blind = dataclasses.replace(POSE, state=(Channel("x", "m", "position"),), state_rotation=None)
    with pytest.raises(ConfigError, match="measures one hand's pose"):
        way(blind)
    with pytest.raises(ConfigError, match="5 joints are commanded, 0 are measured"):
        way(dataclasses.replace(SO101, state=(Channel("x"),)))
    wheel = ActionSpec((Channel("v", "m/s"),), "delta", "base", None, None, 10.0)
    with pytest.raises(ConfigError, match="not v"):
        way(EmbodimentSpec("car", (), None, wheel, ()))
    with pytest.raises(ConfigError, match="gives joints"):
        jog(PANDA, Command(Joints({"q0": 0.0})), seen(PANDA), Jog())
    with pytest.raises(ConfigError, match="no target for q1_target"):
        jog(SO101, Command(Joints({"q0_target": 0.0})), seen(SO101), Jog())
    with pytest.raises(ConfigError, match="takes joints"):
        jog(SO101, Command(Shift(np.ones(6))), seen(SO101), Jog())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rate(np.full(6, 1.1)),
        lambda: Rate(np.zeros(5)),
        lambda: Shift(np.array([np.nan] * 6)),
        lambda: Joints({"q": math.inf}),
        lambda: Command(gripper=1.5),
        lambda: Command(pressed=frozenset({"fly"})),  # pyright: ignore[reportArgumentType]
        lambda: Speeds(linear=0.0),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(make):
    with pytest.raises(ConfigError):
        make()
