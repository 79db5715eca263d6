"""Simplified meshes by content on disk: ``$XDG_CACHE_HOME/vla/meshes``, else ``~/.cache/vla/meshes``."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from vla.files import cache_folder, read_npz, whole_file
from vla.sim.rendering.simplify import Mesh

VERSION = "1"  # part of every key: raise it when the algorithm changes


def folder() -> Path:
    """Where simplified meshes are kept."""
    return cache_folder() / "meshes"


def key(mesh: Mesh, target: int, error: float) -> str:
    """Hex digits that change whenever the mesh or what is asked of it does."""
    digest = hashlib.sha256(f"{VERSION} {target} {error}".encode())
    for array in (mesh.position, mesh.face_position, mesh.normal, mesh.face_normal, mesh.texcoord, mesh.face_texcoord):
        digest.update(b"none" if array is None else f"{array.dtype}{array.shape}".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def cached(
    mesh: Mesh, target: int, error: float, compute: Callable[[Mesh, int, float], Int32[np.ndarray, "k"]]
) -> Int32[np.ndarray, "k"]:
    """The corners that ``compute`` gives, from disk if they were computed before.

    A file that cannot be read or written costs time, never the result: it is computed again.
    """
    path = folder() / f"{key(mesh, target, error)}.npz"
    corners = _read(path, limit=mesh.face_position.size)
    if corners is None:
        corners = compute(mesh, target, error)
        _write(path, corners)
    return corners


def _read(path: Path, limit: int) -> Int32[np.ndarray, "k"] | None:
    """Corners that are whole triangles and within the mesh, or None."""
    try:
        corners = read_npz(path)["corners"]
    except (OSError, ValueError, KeyError):
        return None
    sound = corners.dtype == np.int32 and corners.ndim == 1 and len(corners) % 3 == 0 and len(corners) <= limit
    if not sound or (len(corners) and (corners.min() < 0 or corners.max() >= limit)):
        return None
    return corners


def _write(path: Path, corners: Int32[np.ndarray, "k"]) -> None:
    """Written beside and renamed, so that another process sees a whole file or none."""
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, corners=corners)
    except OSError as error:
        warnings.warn(f"simplified meshes are not kept: {error}", stacklevel=2)
