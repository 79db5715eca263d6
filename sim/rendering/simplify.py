"""One mesh with fewer faces, over its own vertices: weld, collapse edges, name the corners that remain.

The meshes of LIBERO and robosuite are triangle soups (a bowl has 127,566 vertices for 42,522 faces), in which no edge
can collapse because no two triangles share one. So corners at the same place are welded first.
"""

import ctypes
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, UInt32

NORMAL_WEIGHT = 0.02  # of a unit change of the normal, against a displacement by the mesh's size
TEXTURE_WEIGHT = 0.5
PLACES = 1e5  # positions are equal if they agree to this fraction of the mesh's size
TEXELS = 4096  # texture coordinates are equal if they agree to one of these


@dataclass(frozen=True)
class Mesh:
    """Triangles whose corners have separate numbers for place, normal and texture coordinate, as MuJoCo keeps them.

    Attributes:
        position: [m].
        face_position: rows of ``position``.
        normal: unit vectors.
        face_normal: rows of ``normal``.
        texcoord: None if no texture reads them: a seam that nobody sees only stops the collapse.
        face_texcoord: rows of ``texcoord``.
    """

    position: Float32[np.ndarray, "v 3"]
    face_position: Int32[np.ndarray, "f 3"]
    normal: Float32[np.ndarray, "n 3"]
    face_normal: Int32[np.ndarray, "f 3"]
    texcoord: Float32[np.ndarray, "t 2"] | None = None
    face_texcoord: Int32[np.ndarray, "f 3"] | None = None


def simplify(mesh: Mesh, target: int, error: float) -> Int32[np.ndarray, "k"]:
    """Corners (3 * face + corner) of the original mesh that make up the simplified one, three for each triangle.

    Args:
        mesh: the original.
        target: faces to aim for; fewer only if triangles vanish, more if the error bound is reached first.
        error: largest displacement relative to the mesh's size.
    """
    places = mesh.position[mesh.face_position.reshape(-1)]
    size = float(np.ptp(mesh.position, axis=0).max()) or 1.0
    rounded = np.round(places / size * PLACES)
    normals = mesh.normal[mesh.face_normal.reshape(-1)]
    if mesh.texcoord is None or mesh.face_texcoord is None:
        return _collapse(rounded, places, normals, None, target, error)
    texture = mesh.texcoord[mesh.face_texcoord.reshape(-1)]
    keyed = np.concatenate([rounded, np.round(texture * TEXELS)], axis=1)
    kept = _collapse(keyed, places, normals, texture, target, error)
    if len(kept) > 3 * target * 1.3:
        # texture seams stopped it: welding over them moves the texture a little but reaches the target
        welded = _collapse(rounded, places, normals, None, target, error)
        if len(welded) < 0.7 * len(kept):
            return welded
    return kept


def _collapse(
    keys: Float[np.ndarray, "c k"],
    places: Float32[np.ndarray, "c 3"],
    normals: Float32[np.ndarray, "c 3"],
    texture: Float32[np.ndarray, "c 2"] | None,
    target: int,
    error: float,
) -> Int32[np.ndarray, "k"]:
    """Weld corners of equal key, collapse edges, return for each remaining corner one original of its weld."""
    _, original, welded = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    welded = welded.reshape(-1)
    smooth = np.zeros((len(original), 3))
    np.add.at(smooth, welded, normals)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True) + 1e-9
    attributes, weights = [smooth], [NORMAL_WEIGHT] * 3
    if texture is not None:
        attributes.append(texture[original])
        weights += [TEXTURE_WEIGHT] * 2
    triangles = welded.reshape(-1, 3)
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (a != c)]
    remaining = _meshopt_simplify(
        np.ascontiguousarray(triangles.reshape(-1), dtype=np.uint32),
        np.ascontiguousarray(places[original], dtype=np.float32),
        np.ascontiguousarray(np.concatenate(attributes, axis=1), dtype=np.float32),
        np.array(weights, dtype=np.float32),
        target,
        error,
    )
    return original[remaining].astype(np.int32)


def _meshopt_simplify(
    indices: UInt32[np.ndarray, "i"],
    positions: Float32[np.ndarray, "v 3"],
    attributes: Float32[np.ndarray, "v k"],
    weights: Float32[np.ndarray, "k"],
    target: int,
    error: float,
) -> Int[np.ndarray, "j"]:
    """The edge collapse of meshoptimizer, called with declared argument types, which its Python binding leaves out."""
    from meshoptimizer import SIMPLIFY_PRUNE
    from meshoptimizer._loader import lib

    function = lib.meshopt_simplifyWithAttributes
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_float
    function.argtypes = [
        *(pointer, pointer, size),  # destination, indices, how many
        *(pointer, size, size),  # positions, how many, bytes apart
        *(pointer, size, pointer, size),  # attributes, bytes apart, weights, how many
        *(pointer, size, number, ctypes.c_uint, pointer),  # locks, target, error, options, reached error
    ]
    function.restype = size
    destination = np.zeros_like(indices)
    reached = np.zeros(1, dtype=np.float32)
    count = function(
        *(destination.ctypes.data, indices.ctypes.data, len(indices)),
        *(positions.ctypes.data, len(positions), positions.strides[0]),
        *(attributes.ctypes.data, attributes.strides[0], weights.ctypes.data, len(weights)),
        *(None, 3 * target, error, SIMPLIFY_PRUNE, reached.ctypes.data),
    )
    return destination[:count]
