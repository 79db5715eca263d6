"""Whatever is wanted, the joints stay within their limits, and could always still stop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import ConfigError
from vla.safety_joints import JointGuard
from vla.safety_limits import JointLimits

DT = 0.002
LIMITS = JointLimits(
    low=(-2.0, -2.5),
    high=(2.0, 2.5),
    velocity=(2.0, 3.0),
    acceleration=(10.0, 20.0),
    torque=(30.0, 10.0),
    workspace_low=(-0.7, -0.8, -1.0),
    workspace_high=(0.85, 0.8, 1.0),
    table=-0.3,
    margin=0.01,
)


def reach(joints):
    """Two links of 0.5 m that turn in a vertical plane."""
    shoulder, elbow = joints[0], joints[0] + joints[1]
    x = 0.5 * np.cos(shoulder) + 0.5 * np.cos(elbow)
    z = 0.5 * np.sin(shoulder) + 0.5 * np.sin(elbow)
    return np.array([x, 0.0, z]), float(min(z, 0.5 * np.sin(shoulder)))


GUARD = JointGuard(LIMITS, reach, DT)
START = np.array([0.6, 0.9])


def step(q, v, allowed):
    v = v + allowed.acceleration * DT
    return q + v * DT, v


def outside(q, v, a):
    tool, lowest = reach(q)
    return {
        "joint_position": np.maximum(LIMITS.low - q, q - LIMITS.high).max(),
        "joint_velocity": (np.abs(v) - LIMITS.velocity).max(),
        "joint_acceleration": (np.abs(a) - LIMITS.acceleration).max(),
        "workspace": np.maximum(LIMITS.workspace_low - tool, tool - LIMITS.workspace_high).max(),
        "table": LIMITS.table - lowest,
    }


wants = st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 2), min_size=1, max_size=12)


@settings(max_examples=25)
@given(wants)
def test_no_limit_is_ever_broken_whatever_is_wanted(wanted):
    q, v = START.copy(), np.zeros(2)
    for want in wanted:
        for _ in range(60):
            allowed = GUARD.allow(q, v, np.array(want))
            q, v = step(q, v, allowed)
            broken = {name: by for name, by in outside(q, v, allowed.acceleration).items() if by > 0}
            assert not broken, (broken, q, v)
    for _ in range(round(LIMITS.stopping / DT) + 2):  # and from wherever that led to, it can stop
        brake = GUARD.brake(v)
        v = v + brake * DT
        q = q + v * DT
        assert max(outside(q, v, brake).values()) <= 0
    assert np.abs(v).max() < 1e-12


@pytest.mark.parametrize(
    ("q", "v", "wanted", "rule"),
    [
        (START, (0.0, 0.0), (50.0, 0.0), "joint_acceleration"),
        (START, (1.79, 0.0), (9.0, 0.0), "joint_velocity"),
        ((0.6, 2.44), (0.0, 1.5), (0.0, 5.0), "joint_position"),
        ((0.6, -0.05), (-1.0, 0.0), (-5.0, 0.0), "workspace"),
        ((-0.25, -0.05), (-0.9, 0.0), (-5.0, 0.0), "table"),
    ],
)
def test_each_rule_acts_in_the_very_step(q, v, wanted, rule):
    allowed = GUARD.allow(np.array(q), np.array(v), np.array(wanted))
    assert rule in allowed.rules
    assert allowed.acceleration @ wanted < np.dot(wanted, wanted)


def test_what_is_within_limits_passes_untouched():
    wanted = np.array([1.0, -2.0])
    allowed = GUARD.allow(START, np.array([0.1, 0.1]), wanted, lambda a: a)
    assert allowed.rules == () and (allowed.acceleration == wanted).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_brakes(bad):
    v = np.array([1.0, -0.5])
    allowed = GUARD.allow(START, v, np.array([bad, 0.0]))
    assert allowed.rules == ("finite",)
    np.testing.assert_array_equal(allowed.acceleration, GUARD.brake(v))


def test_braking_keeps_its_direction_and_ends_exactly_at_rest():
    v = np.array([2.0, -1.0])
    brake = GUARD.brake(v)
    np.testing.assert_allclose(brake / v, brake[0] / v[0])
    assert (np.abs(brake) <= np.array(LIMITS.acceleration) * LIMITS.braking + 1e-12).all()
    tiny = np.array([1e-4, 0.0])
    assert GUARD.ends(tiny) and not GUARD.ends(v)
    np.testing.assert_allclose(tiny + GUARD.brake(tiny) * DT, 0.0, atol=1e-18)


@given(st.tuples(*[st.floats(-9.0, 9.0)] * 2), st.tuples(*[st.floats(-15.0, 15.0)] * 2))
def test_torque_is_bounded_where_braking_is(wanted, gravity):
    inertia = np.array([[3.0, 0.5], [0.5, 0.4]])
    v = np.array([0.5, 0.5])
    most = np.array(LIMITS.torque) * LIMITS.effort

    def torque(acceleration):
        return inertia @ acceleration + np.array(gravity) * [1.0, 0.2]

    allowed = GUARD.allow(START, v, np.array(wanted), torque)
    if (np.abs(torque(GUARD.brake(v))) <= most).all():
        assert (np.abs(torque(allowed.acceleration)) <= most + 1e-9).all()
    if (np.abs(torque(np.zeros(2))) <= LIMITS.torque).all():  # it can be held: no motor is asked for more than it has
        assert (np.abs(torque(allowed.acceleration)) <= LIMITS.torque).all()
    if (np.abs(torque(np.array(wanted))) <= most).all():
        assert "joint_torque" not in allowed.rules


def test_outside_already_only_the_way_back_is_open():
    q = np.array([0.6, 2.6])
    assert GUARD.allow(q, np.zeros(2), np.array([0.0, 5.0])).acceleration[1] == 0.0
    assert GUARD.allow(q, np.zeros(2), np.array([0.0, -5.0])).acceleration[1] == -5.0


def test_limits_are_checked():
    with pytest.raises(ConfigError, match="each joint has each limit"):
        JointLimits((0.0,), (1.0,), (1.0, 2.0), (1.0,), (1.0,))
    with pytest.raises(ConfigError, match="velocity must be above 0"):
        JointLimits((0.0,), (1.0,), (0.0,), (1.0,), (1.0,))
    with pytest.raises(ConfigError, match="effort"):
        JointLimits((0.0,), (1.0,), (1.0,), (1.0,), (1.0,), effort=1.5)
    with pytest.raises(ConfigError, match="narrower"):
        JointLimits((0.0,), (0.01,), (1.0,), (1.0,), (1.0,))
