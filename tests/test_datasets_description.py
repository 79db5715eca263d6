"""Descriptions of data sets: what a TOML file says, what it may not say, and the numbers it makes."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.datasets.description import Camera, Column, Description, parse_description, read_description
from vla.datasets.oxe.registry import oxe_files
from vla.embodiment import ActionSpec, Channel, EmbodimentSpec, Gripper
from vla.errors import DataError

GOOD = """
names = ["lab_pick", "lab_pick_v2"]
robot = "lab_arm"
rate = 12.5
instruction = "task"
source = "the lab's own notes"
note = "units as the driver gives them"
fixes = ["drop_first_step", "clip_gripper"]

[state]
rotation = "quat_xyzw"
columns = [
    { field = "pose", take = [0, 3], channels = "x y z", low = -1.0, high = 1.0 },
    { field = "pose", take = [4, 7], channels = "qx qy qz" },
    { field = "pose", take = [3, 4], channels = "qw" },
    { field = "temperature", channels = "_ motor_heat:1:other" },
]

[action]
mode = "delta"
frame = "tool"
rotation = "axis_angle"
gripper = { closed = 255, open = 0 }
columns = [
    { field = "action", take = [0, 6], scale = 0.5, channels = "dx dy dz drx dry drz" },
    { field = "grip", channels = "gripper" },
]

[[cameras]]
name = "front"
field = "images/front"
role = "primary"

[[cameras]]
name = "hand"
field = "images/hand"
role = "wrist"
orientation = "turned_180"
bgr = true
bgr_mended = [256, 256]
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "lab.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def good(write) -> Description:
    return read_description(write(GOOD))


def test_everything_written_is_read(good):
    assert good.names == ("lab_pick", "lab_pick_v2")
    assert (good.robot, good.rate, good.instruction) == ("lab_arm", 12.5, "task")
    assert (good.source, good.note) == ("the lab's own notes", "units as the driver gives them")
    assert good.fields == ("pose", "temperature", "action", "grip")
    assert good.state[0] == Column("pose", tuple(Channel(name, "m", "position", -1.0, 1.0) for name in "xyz"), 0)
    assert good.state[3].channels == (None, Channel("motor_heat", "1", "other"))
    assert good.gripper == Gripper(closed=255.0, opened=0.0)
    front = Camera("front", "images/front", "primary")
    assert good.cameras == (front, Camera("hand", "images/hand", "wrist", "turned_180", True, (256, 256)))


def test_stored_and_canonical_embodiment(good):
    stored = good.embodiment({"hand": (240, 320)}, fixes=False)
    canonical = good.embodiment({"hand": (240, 320)}, fixes=True)
    assert stored.state_names == ("x", "y", "z", "qx", "qy", "qz", "qw", "motor_heat")
    assert stored.state == canonical.state and stored.state_rotation == "quat_xyzw"
    assert [camera.name for camera in stored.cameras] == ["hand"]
    assert (stored.camera("hand").height, stored.camera("hand").orientation) == (240, "turned_180")
    assert stored.action.channels[0] == Channel("dx", "m", "position", scale=0.5)
    assert canonical.action.channels[0] == Channel("dx", "m", "position")
    assert canonical.action.channels[6] == Channel("gripper", "1", "gripper", 0.0, 1.0)
    assert (stored.action.gripper, canonical.action.gripper) == (Gripper(255.0, 0.0), Gripper(0.0, 1.0))
    assert EmbodimentSpec.from_json(canonical.to_json()) == canonical
    assert isinstance(canonical.action, ActionSpec) and canonical.action.rate == 12.5


def test_columns_are_picked_ordered_scaled_and_turned_to_canonical_grippers(good):
    numbers = {
        "pose": np.array([[1, 2, 3, 0.9, 0.1, 0.2, 0.3], [4, 5, 6, 0.8, 0.4, 0.5, 0.6]], np.float32),
        "temperature": np.array([[7, 8], [9, 10]], np.float32),
        "action": np.array([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]], np.float32),
        "grip": np.array([[-20], [204]], np.float32),
    }
    state, action = good.columns(numbers, fixes=True)
    assert (
        state.tolist() == np.array([[1, 2, 3, 0.1, 0.2, 0.3, 0.9, 8], [4, 5, 6, 0.4, 0.5, 0.6, 0.8, 10]], "f").tolist()
    )
    np.testing.assert_allclose(action, [[0.5, 1, 1.5, 2, 2.5, 3, 1], [3.5, 4, 4.5, 5, 5.5, 6, 0.2]], atol=1e-6)
    raw_state, raw_action = good.columns(numbers, fixes=False)
    assert raw_state.tolist() == state.tolist()
    assert raw_action.tolist() == [[1, 2, 3, 4, 5, 6, -20], [7, 8, 9, 10, 11, 12, 204]]
    assert state.dtype == action.dtype == raw_action.dtype == np.float32
    assert good.dropped(fixes=True) == (1, 0) and good.dropped(fixes=False) == (0, 0)


def test_pictures_are_swapped_unless_their_size_says_that_they_were_mended(good):
    front, hand = good.cameras
    assert hand.swapped(128, 128) and not hand.swapped(256, 256) and not front.swapped(128, 128)


def test_fields_that_are_missing_or_too_narrow_are_named(good):
    widths = {"pose": 7, "temperature": 2, "action": 7, "grip": 1}
    good.check(widths, "features.json")
    with pytest.raises(DataError, match=r"grip: expected a field of numbers, found only action, pose, temperature"):
        good.check({key: size for key, size in widths.items() if key != "grip"}, "features.json")
    with pytest.raises(
        DataError, match=r"action: expected at least 6 numbers a step for dx dy dz drx dry drz, found 5"
    ):
        good.check(widths | {"action": 5}, "features.json")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("robot =", "robott =", r"file: expected only .*robot.*, found 'robott'"),
        ('robot = "lab_arm"', "", r"robot: expected a text, found nothing"),
        ("rate = 12.5", 'rate = "fast"', r"rate: expected a finite number, found 'fast'"),
        ("rate = 12.5", "rate = nan", r"rate: expected a finite number"),
        ("rate = 12.5", "rate = 0", r"rate must be above 0 Hz"),
        ("rate = 12.5", f"rate = 1{'0' * 400}", r"rate: expected a finite number"),
        ('fixes = ["drop_first_step"', 'fixes = ["drop_firstt"', r"fixes: expected names of drop_first_step"),
        ('fixes = ["drop_first_step", "clip_gripper"]', 'fixes = "clip_gripper"', r"fixes: expected a list"),
        ('["drop_first_step"', '["relabel_from_states"', r"euler_xyz only"),
        ('names = ["lab_pick", "lab_pick_v2"]', "names = [3]", r"names: expected a list of texts, found 3"),
        ('rotation = "quat_xyzw"', 'rotation = "quat_wxyz"', r"state: rotation: expected one of .*quat_xyzw"),
        ('rotation = "quat_xyzw"', "", r"rotation channels need a rotation form"),
        ('mode = "delta"', 'mode = ["delta"]', r"action: mode: expected one of delta, absolute"),
        ("open = 0 }", "opened = 0 }", r"action: gripper: expected only closed, open"),
        ("closed = 255, open = 0", "closed = 1, open = 1", r"cannot move"),
        ("gripper = { closed = 255, open = 0 }", "", r"says what its numbers mean"),
        ("take = [0, 6]", "take = [0, 5]", r"action: columns\[0\]: take: expected a range of 6 numbers"),
        ("take = [0, 6]", "take = [-3, 3]", r"take: expected two whole numbers"),
        ("take = [0, 6]", 'take = ["a", "b"]', r"take: expected two whole numbers"),
        ("scale = 0.5", "scale = -1", r"scale must be finite and above 0"),
        ("motor_heat:1:other", "motor_heat", r"state: columns\[3\]: channels: expected standard names"),
        ("motor_heat:1:other", "motor_heat:K:other", r"motor_heat: unit: expected one of m, rad"),
        ("motor_heat:1:other", "x:1:other", r"used more than once: x"),
        ('role = "wrist"', 'role = "elbow"', r"cameras\[1\]: role: expected one of primary"),
        ('name = "hand"', 'name = "front"', r"each camera a name of its own"),
        ("bgr = true", "bgr = 1", r"cameras\[1\]: bgr: expected true or false"),
        ("bgr_mended = [256, 256]", "bgr_mended = [256]", r"bgr_mended: expected two whole numbers"),
        ('{ field = "grip", channels = "gripper" },', "3,", r"action: columns\[1\]: expected a table, found 3"),
        ("[action]", "[actions]", r"file: expected only"),
        ("names =", "names", r"file: expected TOML"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(write, old, new, message):
    assert old in GOOD
    with pytest.raises(DataError, match=message) as caught:
        read_description(write(GOOD.replace(old, new, 1)))
    assert caught.value.file.endswith("lab.toml")


def test_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(DataError, match="expected TOML"):
        read_description(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="expected TOML"):
        read_description(tmp_path / "binary.toml")


SCALARS = st.none() | st.booleans() | st.integers(-9, 10**400) | st.floats() | st.text(max_size=9)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)


@given(st.sampled_from(sorted(set(oxe_files().values()))), st.data())
def test_wrong_values_anywhere_are_data_errors_and_nothing_else(file, data):
    """Whatever stands in place of a value: the file reads, or says as a typed error what is wrong with it."""
    value: Any = tomllib.loads(file.read_text())
    spot: Any = value
    while True:
        keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(spot[key], dict | list) or not spot[key] or data.draw(st.booleans()):
            break
        spot = spot[key]
    spot[key] = data.draw(VALUES)
    try:
        parse_description(value, file)
    except DataError as error:
        assert str(file) in str(error)
