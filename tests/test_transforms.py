from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vla.embodiment import CameraSpec, Channel, Gripper
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import ACTION, RAW_ACTION, libero_panda
from vla.errors import SpecMismatch
from vla.experience import ActionChunk, Observation
from vla.transforms import action_map, connect, pad_to, reorient, resize, to_absolute, to_delta, vector_map

actions = arrays(np.float32, (5, 7), elements=st.floats(-1, 1, width=32))
ORIENTATIONS = ["upright", "mirrored", "flipped", "turned_180"]


def other_rotation(form, size):
    channels = (*ACTION.channels[:3], *(Channel(f"r{i}", "rad", "rotation") for i in range(size)), ACTION.channels[6])
    return replace(ACTION, channels=channels, rotation=form)


@given(actions)
def test_raw_libero_actions_round_trip(values):
    there = action_map(RAW_ACTION, ACTION)(values)
    assert np.allclose(action_map(ACTION, RAW_ACTION)(there), values, atol=1e-6)
    assert np.allclose(there[:, :3], values[:, :3] * 0.05, atol=1e-7)
    assert np.allclose(there[:, 6], (1 - values[:, 6]) / 2, atol=1e-6)  # the RLDS convention of the same data


@given(arrays(np.float64, (5, 7), elements=st.floats(-0.9, 0.9)), st.sampled_from([("rot6d", 6), ("quat_xyzw", 4)]))
def test_rotation_forms_round_trip(values, form):
    target = other_rotation(*form)
    assert np.allclose(action_map(target, ACTION)(action_map(ACTION, target)(values)), values, atol=1e-5)


def test_a_rotation_conversion_is_scipys():
    euler = replace(ACTION, rotation="euler_xyz")
    vector = np.array([0, 0, 0, 0.1, -0.4, 0.3, 1.0])
    assert np.allclose(
        action_map(ACTION, euler)(vector)[3:6], Rotation.from_rotvec(vector[3:6]).as_euler("xyz"), atol=1e-6
    )


def test_scaled_rotations_are_converted_in_radians():
    euler = replace(ACTION, rotation="euler_xyz")
    raw = np.array([0, 0, 0, 0.2, -0.8, 0.6, -1.0])
    expected = Rotation.from_rotvec(raw[3:6] * 0.5).as_euler("xyz")
    assert np.allclose(action_map(RAW_ACTION, euler)(raw)[3:6], expected, atol=1e-6)


@given(st.permutations(range(7)))
def test_permuted_channels_are_put_right_or_caught(order):
    """Whatever order the channels are declared in, a number reaches the channel of its own name, or nothing moves."""
    channels = tuple(ACTION.channels[place] for place in order)
    places = [place for place, channel in enumerate(channels) if channel.kind == "rotation"]
    if places != list(range(places[0], places[0] + 3)):
        return  # refused by ActionSpec itself, see test_embodiment
    permuted = replace(ACTION, channels=channels)
    values = np.arange(7, dtype=np.float32)
    assert np.array_equal(action_map(ACTION, permuted)(values), values[list(order)])
    if [channel.name for channel in channels if channel.kind == "rotation"] != ["drx", "dry", "drz"]:
        with pytest.raises(SpecMismatch, match="order x, y, z"):
            action_map(permuted, other_rotation("rot6d", 6))


@pytest.mark.parametrize("first", ORIENTATIONS)
@pytest.mark.parametrize("second", ORIENTATIONS)
def test_orientations_undo_each_other(first, second, rng_image):
    a, b = CameraSpec("c", 8, 8, first), CameraSpec("c", 8, 8, second)
    assert np.array_equal(reorient(reorient(rng_image, a, b), b, a), rng_image)


def test_what_the_orientations_mean(rng_image):
    turn = lambda name: reorient(rng_image, CameraSpec("c", 8, 8), CameraSpec("c", 8, 8, name))  # noqa: E731
    assert np.array_equal(turn("mirrored"), rng_image[:, ::-1])
    assert np.array_equal(turn("flipped"), rng_image[::-1])
    assert np.array_equal(turn("turned_180"), rng_image[::-1, ::-1])


def test_pictures_are_resized_and_padded(rng_image):
    assert resize(rng_image, 4, 16).shape == (4, 16, 3)
    wide = np.full((10, 20, 3), 200, np.uint8)
    padded = pad_to(wide, 8, 8)
    assert padded.shape == (8, 8, 3)
    assert (padded[:2] == 0).all() and (padded[2:6] == 200).all() and (padded[6:] == 0).all()


@given(
    arrays(np.float64, (2, 6), elements=st.floats(-1.2, 1.2)),
    st.sampled_from(["axis_angle", "euler_xyz"]),
)
def test_delta_and_absolute_undo_each_other(poses, form):
    pose, target = poses
    reached = to_absolute(pose, to_delta(pose, target, form), form)
    assert np.allclose(reached[:3], target[:3], atol=1e-9)
    turn = lambda values: Rotation.from_matrix(  # noqa: E731
        (Rotation.from_rotvec if form == "axis_angle" else lambda v: Rotation.from_euler("xyz", v))(values).as_matrix()
    )
    assert (turn(reached[3:]).inv() * turn(target[3:])).magnitude() < 1e-6


def observation(size=8):
    picture = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    images = {"agentview": picture, "robot0_eye_in_hand": picture}
    return Observation(images, np.arange(8, dtype=np.float32), "pick", 0.0)


def test_alike_specs_connect_without_conversions():
    adapter = connect(libero_panda(8), libero_panda(8))
    seen = observation()
    assert adapter.notes == ()
    assert np.array_equal(adapter.observation(seen).state, seen.state)
    assert np.array_equal(adapter.observation(seen).images["agentview"], seen.images["agentview"])


def test_conversions_are_inserted_and_named():
    body = libero_panda(8)
    policy = replace(
        body,
        action=RAW_ACTION,
        cameras=(CameraSpec("agentview", 4, 4, "upright", "primary"),),
        state=(*body.state[6:], *body.state[:6]),
    )
    adapter = connect(body, policy)
    seen = adapter.observation(observation())
    assert list(seen.images) == ["agentview"] and seen.images["agentview"].shape == (4, 4, 3)
    assert np.array_equal(seen.state, [6, 7, 0, 1, 2, 3, 4, 5])
    sent = adapter.chunk(ActionChunk(np.array([[1, 0, 0, 0, 0, 0, -1]], np.float32), 0.0, 0.05)).actions
    assert np.allclose(sent, [[0.05, 0, 0, 0, 0, 0, 1]])
    text = "\n".join(adapter.notes)
    assert "mirrored to upright" in text and "8x8 to 4x4" in text and "Gripper" in text and "reordered" in text


def test_a_mismatch_lists_every_difference():
    with pytest.raises(SpecMismatch) as caught:
        connect(libero_panda(), bridge_widowx())
    text = str(caught.value)
    for word in ("gripper_state", "5 Hz", "20 Hz", "image_0", "agentview"):
        assert word in text


def test_modes_frames_and_units_do_not_mix():
    for change in ({"mode": "absolute"}, {"frame": "tool"}, {"rate": 10.0}):
        with pytest.raises(SpecMismatch):
            action_map(ACTION, replace(ACTION, **change))
    centimetres = replace(ACTION, channels=(replace(ACTION.channels[0], unit="1"), *ACTION.channels[1:]))
    with pytest.raises(SpecMismatch, match="dx"):
        action_map(centimetres, ACTION)


def test_an_action_channel_is_never_dropped_silently():
    more = replace(ACTION, channels=(*ACTION.channels, Channel("torso", "m", "joint")))
    with pytest.raises(SpecMismatch, match="torso"):
        action_map(more, ACTION)
    with pytest.raises(SpecMismatch, match="torso"):
        action_map(ACTION, more)


def test_equal_channels_pass_bit_for_bit():
    values = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32)
    assert np.array_equal(action_map(ACTION, ACTION)(values), values)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 1))
def test_gripper_numbers_keep_their_meaning(closed, opened, share):
    if abs(closed - opened) < 1e-3:
        return
    channel = (Channel("gripper", "1", "gripper"),)
    there, _ = vector_map(channel, channel, source_gripper=Gripper(), target_gripper=Gripper(closed, opened))
    assert np.isclose(there(np.array([share]))[0], closed + share * (opened - closed), atol=1e-5)


@pytest.fixture
def rng_image():
    return np.random.default_rng(1).integers(0, 255, (8, 8, 3), dtype=np.uint8)
