import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vla.errors import ConfigError
from vla.rotation import axis_angle_of_quaternion, compose, convert, from_matrix, to_matrix

FORMS = ["axis_angle", "euler_xyz", "quat_xyzw", "rot6d"]
rotations = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(rotations, st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_every_conversion_round_trips(quaternion, first, second):
    matrix = Rotation.from_quat(quaternion).as_matrix()
    there = convert(from_matrix(matrix, first), first, second)
    assert np.allclose(to_matrix(convert(there, second, first), first), matrix, atol=1e-6)


@given(rotations, rotations, st.sampled_from(FORMS))
def test_composition_agrees_with_scipy(a, b, form):
    first, second = Rotation.from_quat(a), Rotation.from_quat(b)
    ours = compose(from_matrix(first.as_matrix(), form), from_matrix(second.as_matrix(), form), form)
    assert np.allclose(to_matrix(ours, form), (second * first).as_matrix(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Gimbal lock")
@given(rotations)
def test_forms_agree_with_scipy(quaternion):
    rotation = Rotation.from_quat(quaternion)
    matrix = rotation.as_matrix()
    assert np.allclose(to_matrix(rotation.as_rotvec(), "axis_angle"), matrix, atol=1e-9)
    assert np.allclose(to_matrix(rotation.as_euler("xyz"), "euler_xyz"), matrix, atol=1e-6)
    assert np.allclose(to_matrix(rotation.as_quat(), "quat_xyzw"), matrix, atol=1e-9)
    assert np.allclose(from_matrix(matrix, "rot6d"), np.r_[matrix[:, 0], matrix[:, 1]])


def test_euler_angles_are_about_fixed_axes():
    """Bridge: roll about x first, then pitch about the base's y, then yaw about the base's z."""
    about = lambda axis, angle: Rotation.from_rotvec(angle * np.eye(3)[axis]).as_matrix()  # noqa: E731
    expected = about(2, 0.3) @ about(1, 0.2) @ about(0, 0.1)
    assert np.allclose(to_matrix(np.array([0.1, 0.2, 0.3]), "euler_xyz"), expected)


@given(rotations)
def test_libero_axis_angle_keeps_the_quaternions_sign(quaternion):
    quaternion = quaternion / np.linalg.norm(quaternion)
    vector = axis_angle_of_quaternion(quaternion)
    angle = np.linalg.norm(vector)
    assert angle < 2 * np.pi + 0.05  # robosuite's formula, kept as policies were trained on it, is coarse near w = -1
    if abs(quaternion[3]) < 0.999:
        assert angle <= 2 * np.pi
        assert (angle > np.pi) == (quaternion[3] < 0) or np.isclose(angle, np.pi, atol=1e-5)
        assert np.allclose(to_matrix(vector, "axis_angle_2pi"), Rotation.from_quat(quaternion).as_matrix(), atol=1e-5)


def test_batches_keep_their_shape():
    values = np.zeros((2, 5, 3))
    assert convert(values, "axis_angle", "rot6d").shape == (2, 5, 6)
    assert axis_angle_of_quaternion(np.ones((2, 5, 4)) / 2).shape == (2, 5, 3)


def test_what_is_not_determined_is_refused():
    with pytest.raises(ConfigError, match="quaternion"):
        convert(np.zeros(3), "axis_angle", "axis_angle_2pi")
    with pytest.raises(ConfigError, match="3 numbers, found 4"):
        to_matrix(np.zeros(4), "axis_angle")
    with pytest.raises(ConfigError, match="none of"):
        to_matrix(np.zeros(3), "rodrigues")  # pyright: ignore
