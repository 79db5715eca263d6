"""Fewer faces in the pictures, the same physics.

A LIBERO scene has some 290,000 visible mesh faces, which a software renderer draws in 0.1 s and more whatever the
picture's size. The *compiled* model is edited: each visual mesh keeps a subset of its corners (indices into its own
vertices, normals and texture coordinates) and a smaller face count. Meshes that any colliding geom uses are left
alone, and inertias and hulls were computed at compile time, so that states stay bit-identical.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from vla.errors import ConfigError
from vla.sim.rendering import mesh_cache, mujoco_binding, simplify
from vla.sim.rendering.mujoco_binding import MjModel


@dataclass(frozen=True)
class Decimation:
    """How many faces a visual mesh keeps.

    Attributes:
        fraction: of its faces.
        least: never fewer than these.
        most: never more than these.
        error: largest displacement of the surface, relative to the mesh's size.
    """

    fraction: float = 0.08
    least: int = 300
    most: int = 1500
    error: float = 0.02

    def __post_init__(self):
        if not 0 < self.fraction <= 1 or not 0 < self.least <= self.most or not 0 < self.error < 1:
            raise ConfigError(f"decimation {self}: fraction and error in (0, 1], 0 < least <= most")

    def target(self, faces: int) -> int:
        """Faces to aim for, of a mesh that has ``faces``."""
        return min(faces, int(min(self.most, max(self.least, faces * self.fraction))))


def decimate(model: MjModel, decimation: Decimation | None = None) -> tuple[int, int]:
    """Thin out the visual meshes of a compiled model in place, before a graphics context is made from it.

    Results are kept on disk by content, so only the first model with a mesh pays for it.

    Returns:
        visual mesh faces before and after.
    """
    decimation = decimation or Decimation()
    before = after = 0
    for mesh in visual_meshes(model):
        faces = int(model.mesh_facenum[mesh])
        before += faces
        target = decimation.target(faces)
        if target < faces:
            corners = _corners(model, mesh)
            kept = mesh_cache.cached(corners, target, decimation.error, simplify.simplify)
            _store(model, mesh, kept)
        after += int(model.mesh_facenum[mesh])
    return before, after


def visual_meshes(model: MjModel) -> list[int]:
    """Meshes that only geoms without any collision use."""
    is_mesh = model.geom_type == mujoco_binding.load().mjtGeom.mjGEOM_MESH.value
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    visual = set(model.geom_dataid[is_mesh & ~collides].tolist())
    solid = set(model.geom_dataid[is_mesh & collides].tolist())
    # signed distance functions of plug-ins and pairs named in the XML collide whatever the masks say
    paired = set(model.pair_geom1.tolist()) | set(model.pair_geom2.tolist())
    solid |= {int(model.geom_dataid[geom]) for geom in paired if is_mesh[geom]}
    return sorted(visual - solid)


def _corners(model: MjModel, mesh: int) -> simplify.Mesh:
    """A mesh out of the model's shared arrays; texture coordinates only where a texture reads them."""
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    normal_first, normal_count = model.mesh_normaladr[mesh], model.mesh_normalnum[mesh]
    face_first, face_count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    faces = slice(face_first, face_first + face_count)
    texcoord = face_texcoord = None
    texture_first, texture_count = model.mesh_texcoordadr[mesh], model.mesh_texcoordnum[mesh]
    if texture_first >= 0 and texture_count > 0 and _is_textured(model, mesh):
        texcoord = model.mesh_texcoord[texture_first : texture_first + texture_count].copy()
        face_texcoord = model.mesh_facetexcoord[faces].copy()
    return simplify.Mesh(
        position=model.mesh_vert[first : first + count].copy(),
        face_position=model.mesh_face[faces].copy(),
        normal=model.mesh_normal[normal_first : normal_first + normal_count].copy(),
        face_normal=model.mesh_facenormal[faces].copy(),
        texcoord=texcoord,
        face_texcoord=face_texcoord,
    )


def _is_textured(model: MjModel, mesh: int) -> bool:
    users = (model.geom_type == mujoco_binding.load().mjtGeom.mjGEOM_MESH.value) & (model.geom_dataid == mesh)
    materials = model.geom_matid[users]
    return bool((model.mat_texid[materials[materials >= 0]] >= 0).any())


def _store(model: MjModel, mesh: int, kept: Int32[np.ndarray, "k"]) -> None:
    """Keep only these corners, numbered 3 * face + corner, three for each new face."""
    first, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    old = slice(first, first + count)
    new = slice(first, first + len(kept) // 3)
    for name in ("mesh_face", "mesh_facenormal", "mesh_facetexcoord"):
        array = getattr(model, name)
        array[new] = array[old].reshape(-1)[kept].reshape(-1, 3)
    model.mesh_facenum[mesh] = len(kept) // 3
