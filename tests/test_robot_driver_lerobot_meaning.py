"""What lerobot's numbers mean, against lerobot's own conversion between them and the encoder's ticks."""

import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.embodiment import CameraSpec
from vla.embodiments.so101 import JOINTS, so101
from vla.errors import ConfigError, DataError, SpecMismatch
from vla.robot_driver.lerobot_meaning import Meaning, Number, read_meaning, so_arm, so_arms

NAMES = (*JOINTS, "gripper")
TICK = 2 * math.pi / 4095

FILE = """
name = "two"

[[state]]
name = "elbow"
unit = "rad"
kind = "joint"
key = "elbow.pos"
gain = 0.5
offset = 1.0

[action]
mode = "absolute"
frame = "joint"
rate = 20.0

[[action.channels]]
name = "elbow_goal"
unit = "rad"
kind = "joint"
low = -1.0
high = 2.0
key = "elbow.pos"
gain = 0.5
offset = 1.0

[[cameras]]
name = "front"
height = 4
width = 6
role = "primary"

[lerobot]
use_degrees = false
"""


@st.composite
def calibrations(draw):
    lerobot = pytest.importorskip("lerobot.motors", reason="lerobot's motors are not installed")
    found = {}
    for number, name in enumerate(NAMES, 1):
        low = draw(st.integers(0, 2000))
        high = draw(st.integers(low + 100, 4095))
        found[name] = lerobot.MotorCalibration(number, 0, draw(st.integers(-2047, 2047)), low, high)
    return found


def bus_of(calibration, degrees):
    """lerobot's own conversion, without a port."""
    from lerobot.motors import Motor, MotorNormMode
    from lerobot.motors.feetech import FeetechMotorsBus

    body = MotorNormMode.DEGREES if degrees else MotorNormMode.RANGE_M100_100
    modes = dict.fromkeys(JOINTS, body) | {"gripper": MotorNormMode.RANGE_0_100}
    motors = {name: Motor(number, "sts3215", modes[name]) for number, name in enumerate(NAMES, 1)}
    return FeetechMotorsBus("/dev/null", motors, calibration)


@pytest.mark.parametrize("degrees", [True, False])
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_radians_are_the_encoders_and_what_was_measured_is_sent_back_to_the_same_tick(degrees, data):
    pytest.importorskip("scservo_sdk", reason="the extra so101 is not installed")
    calibration = data.draw(calibrations())
    bus = bus_of(calibration, degrees)
    meaning = Meaning(so101(), *so_arm(calibration, degrees=degrees))
    # the channels' own limits are another matter
    wide = tuple(replace(channel, low=-9.0, high=9.0) for channel in meaning.spec.action.channels)
    meaning = replace(meaning, spec=replace(meaning.spec, action=replace(meaning.spec.action, channels=wide)))
    ticks = {c.id: data.draw(st.integers(c.range_min, c.range_max)) for c in calibration.values()}
    theirs = {f"{NAMES[number - 1]}.pos": value for number, value in bus._normalize(ticks).items()}

    state = meaning.measured(theirs)
    for place, name in enumerate(JOINTS):
        middle = (calibration[name].range_min + calibration[name].range_max) / 2
        assert state[place] == pytest.approx((ticks[place + 1] - middle) * TICK, abs=1e-5)
    assert 0.0 <= state[5] <= 1.0

    goals = meaning.goals(state)
    assert bus._unnormalize({n: goals[f"{NAMES[n - 1]}.pos"] for n in ticks}) == ticks
    np.testing.assert_allclose(meaning.sent(goals), state, atol=1e-5)


@given(calibrations(), st.lists(st.floats(-20, 20, width=32), min_size=6, max_size=6))
def test_goals_stay_within_the_drawings_and_the_calibrations_limits(calibration, action):
    meaning = Meaning(so101(), *so_arm(calibration, degrees=True))
    sent = meaning.sent(meaning.goals(np.array(action, np.float32)))
    for value, (name, limits) in zip(sent, JOINTS.items(), strict=False):
        half = (calibration[name].range_max - calibration[name].range_min) / 2 * TICK
        assert max(limits[0], -half) - 1e-5 <= value <= min(limits[1], half) + 1e-5
    assert -1e-5 <= sent[5] <= 1 + 1e-5


def test_an_arm_that_lacks_a_motors_calibration_is_refused():
    with pytest.raises(ConfigError, match="shoulder_pan"):
        so_arm({}, degrees=True)


@given(calibrations(), calibrations())
def test_two_arms_are_one_beside_the_other(left, right):
    arms = {
        side: SimpleNamespace(bus=SimpleNamespace(calibration=calibration), config=SimpleNamespace(use_degrees=True))
        for side, calibration in (("left_", left), ("right_", right))
    }
    both = so_arms(arms)
    assert both.spec.name == "bi_so101" and len(both.state) == both.spec.action.size == 12
    for side, calibration, half in (("left_", left, slice(0, 6)), ("right_", right, slice(6, 12))):
        alone = so_arm(calibration, side, degrees=True)
        assert (both.state[half], both.action[half]) == alone
        assert all(number.key.startswith(side) for number in both.action[half])
    assert so_arms(arms, leader=True).action == both.state


def test_a_users_file(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(FILE)
    meaning, fields = read_meaning(path)
    assert meaning is not None
    assert fields == {"use_degrees": False}
    assert meaning.spec.camera("front") == CameraSpec("front", 4, 6, role="primary")
    assert meaning.measured({"elbow.pos": 3.0}).tolist() == [2.5]
    assert meaning.goals(np.array([9.0], np.float32)) == {"elbow.pos": 2.0}
    meaning.compare({"elbow.pos": float, "front": (4, 6, 3)}, {"elbow.pos": float})
    with pytest.raises(SpecMismatch) as refused:
        meaning.compare({"front": (6, 4, 3)}, {"elbow.pos": float, "wrist.pos": float})
    assert len(refused.value.differences) == 3  # not measured, no channel for the wrist, the camera's size


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('unit = "rad"', 'unit = "?"', "unit is one of m, rad"),
        ('key = "elbow.pos"', "", "key"),
        ("gain = 0.5", "gain = 0.0", "gain must be finite and not 0"),
        ("rate = 20.0", "rate = 0.0", "rate must be above 0"),
        ("[action]", "[acting]", "action"),
        ('name = "two"', "name = ", "TOML"),
    ],
)
def test_a_file_that_says_less_is_refused(tmp_path, old, new, said):
    path = tmp_path / "two.toml"
    path.write_text(FILE.replace(old, new, 1))
    with pytest.raises(DataError, match=re.escape(said)):
        read_meaning(path)


def test_the_example_in_the_module_is_one(tmp_path):
    import vla.robot_driver.lerobot_meaning as module

    example = (module.__doc__ or "").split("::\n", 1)[1]
    path = Path(tmp_path) / "koch.toml"
    path.write_text("\n".join(line.removeprefix("    ") for line in example.splitlines()))
    meaning, fields = read_meaning(path)
    assert meaning is not None
    assert meaning.spec.name == "koch" and fields == {"use_degrees": True}


def test_a_file_may_have_nothing_but_lerobots_own_fields(tmp_path):
    path = tmp_path / "so101.toml"
    path.write_text("[lerobot]\nuse_degrees = false\n")
    assert read_meaning(path) == (None, {"use_degrees": False})


def test_each_channel_has_a_number_of_its_own():
    with pytest.raises(ConfigError, match="number of its own"):
        Meaning(so101(), (Number("a"),) * 6, (Number("a"),) * 6)
