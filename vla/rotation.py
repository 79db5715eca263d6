"""Rotations between their forms, SciPy underneath. All angles in rad, all functions take (..., n) arrays.

Matrices are the hub: every form converts to ``[..., 3, 3]`` and back. SciPy is imported when a rotation is converted:
it takes 20 MB and half a second, and processes that only decode pictures convert none.
"""

import warnings

import numpy as np
from jaxtyping import Float

from vla.embodiment import ROTATION_SIZE, RotationForm
from vla.errors import ConfigError

Vectors = Float[np.ndarray, "*batch n"]
Matrices = Float[np.ndarray, "*batch 3 3"]


def to_matrix(values: Vectors, form: RotationForm) -> Matrices:
    """Rotation matrices of vectors in ``form``.

    Raises:
        ConfigError: the last axis has not the length of the form, or the form is unknown.
    """
    values = np.asarray(values, dtype=np.float64)
    if form not in ROTATION_SIZE:
        raise ConfigError(f"rotation form {form!r} is none of {', '.join(ROTATION_SIZE)}")
    if values.shape[-1] != ROTATION_SIZE[form]:
        raise ConfigError(f"rotation form {form} has {ROTATION_SIZE[form]} numbers, found {values.shape[-1]}")
    if form == "rot6d":
        return _matrix_from_6d(values)
    from scipy.spatial.transform import Rotation

    flat = values.reshape(-1, values.shape[-1])
    if form in ("axis_angle", "axis_angle_2pi"):
        rotation = Rotation.from_rotvec(flat)
    elif form == "euler_xyz":
        rotation = Rotation.from_euler("xyz", flat)
    else:
        rotation = Rotation.from_quat(flat)
    return rotation.as_matrix().reshape(*values.shape[:-1], 3, 3)


def from_matrix(matrices: Matrices, form: RotationForm) -> Vectors:
    """Vectors in ``form`` of rotation matrices.

    Quaternions come with w >= 0, axis-angles with angles in [0, pi].

    Raises:
        ConfigError: the form is unknown, or is ``axis_angle_2pi``, which a matrix does not determine.
    """
    matrices = np.asarray(matrices, dtype=np.float64)
    batch = matrices.shape[:-2]
    if form == "rot6d":
        return np.concatenate([matrices[..., :, 0], matrices[..., :, 1]], axis=-1)
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_matrix(matrices.reshape(-1, 3, 3))
    if form == "axis_angle":
        return rotation.as_rotvec().reshape(*batch, 3)
    if form == "euler_xyz":
        with warnings.catch_warnings():
            # at a pitch of 90 degrees roll and yaw are not told apart; SciPy's choice, yaw 0, is as good as any
            warnings.filterwarnings("ignore", message="Gimbal lock")
            return rotation.as_euler("xyz").reshape(*batch, 3)
    if form == "quat_xyzw":
        return rotation.as_quat(canonical=True).reshape(*batch, 4)
    if form == "axis_angle_2pi":
        raise ConfigError("a matrix does not say which of the two axis-angles up to 2 pi is meant; use the quaternion")
    raise ConfigError(f"rotation form {form!r} is none of {', '.join(ROTATION_SIZE)}")


def convert(values: Vectors, source: RotationForm, target: RotationForm) -> Vectors:
    """Vectors in ``source`` form as vectors in ``target`` form; equal forms pass through unchanged.

    Raises:
        ConfigError: a form is unknown or not determined by the other.
    """
    if source == target:
        return np.asarray(values)
    return from_matrix(to_matrix(values, source), target)


def compose(first: Vectors, second: Vectors, form: RotationForm) -> Vectors:
    """The rotation ``first`` followed by ``second``, both about fixed base axes, in ``form``."""
    return from_matrix(to_matrix(second, form) @ to_matrix(first, form), form)


def axis_angle_of_quaternion(quaternion: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch 3"]:
    """Axis-angle of an (x, y, z, w) quaternion as LIBERO's states have it: w < 0 is not flipped, angles reach 2 pi.

    Flipping, as most libraries do, took a public policy from 95 to 56 % success.
    """
    quaternion = np.asarray(quaternion, dtype=np.float64)
    w = np.clip(quaternion[..., 3:], -1.0, 1.0)
    sine = np.sqrt(1.0 - w * w)
    tiny = sine < 1e-8
    return np.where(tiny, 0.0, quaternion[..., :3] * 2.0 * np.arccos(w) / np.where(tiny, 1.0, sine))


def _matrix_from_6d(values: Vectors) -> Matrices:
    """Gram-Schmidt on the two columns (Zhou et al., "On the Continuity of Rotation Representations", 2019)."""
    a, b = values[..., :3], values[..., 3:]
    x = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b - (x * b).sum(-1, keepdims=True) * x
    y = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)
