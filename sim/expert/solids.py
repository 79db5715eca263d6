"""What in a scene is solid, as points on its surface: what the expert plans grasps and ways around things with.

LIBERO's objects and furniture collide as many boxes and a few capsules; each surface is sampled once in its geom's
frame and moved to where the geom is whenever it is asked for.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64
from scipy.spatial import KDTree

from vla.sim.expert.boxes import Boxes
from vla.sim.libero_world import LiberoWorld

FINEST, COARSEST = 0.005, 0.01  # [m] between samples of small and of large solids
PARTS = 12  # of a solid's longest edge

CROWDED = 0.006  # [m] cells of a cloud that keep one sample each

type Points = Float64[np.ndarray, "n 3"]


@dataclass(frozen=True)
class Surface:
    """Samples of one or more surfaces: points [m] and the outward normals there."""

    points: Points
    normals: Points

    def moved(self, rotation: Float64[np.ndarray, "3 3"], offset: Float64[np.ndarray, "3"]) -> "Surface":
        """Turned about the origin, then shifted."""
        return Surface(self.points @ rotation.T + offset, self.normals @ rotation.T)

    def __len__(self) -> int:
        return len(self.points)


class Cloud:
    """Points thinned out and sorted by place, for questions about what is near; usually within reach of one place."""

    def __init__(
        self,
        points: Points,
        centre: Float64[np.ndarray, "3"] | None = None,
        radius: float = np.inf,
        cell: float = CROWDED,
    ):
        if centre is not None:
            points = points[np.abs(points - centre).max(axis=1) < radius]
        cells = np.floor(points / cell).astype(np.int64)
        keys = (cells[:, 0] * 4096 + cells[:, 1]) * 4096 + cells[:, 2]
        self.points = points[np.unique(keys, return_index=True)[1]]

    @functools.cached_property
    def _tree(self) -> KDTree | None:
        return KDTree(self.points) if len(self.points) else None

    def touches(self, points: Points, distance: float) -> bool:
        """Whether any of other points is that close to one of these [m]."""
        if self._tree is None or not len(points):
            return False
        return bool(np.isfinite(self._tree.query(points, distance_upper_bound=distance)[0]).any())


@dataclass
class Solids:
    """The solid parts of one scene's objects and fixtures; the robot and the table are left out.

    Attributes:
        world: the scene.
        floor: height [m] that everything stands on.
    """

    world: LiberoWorld
    floor: float = field(init=False)

    def __post_init__(self):
        model = self.world.model
        names = [*self.world.objects, *self.world.env.fixtures_dict]
        self._bodies = {name: _subtree(model, self.world.env.obj_body_id[name]) for name in names}
        self._samples = {
            geom: _sample(model, geom)
            for geom in range(model.ngeom)
            if (model.geom_contype[geom] or model.geom_conaffinity[geom])
            and any(model.geom_bodyid[geom] in bodies for bodies in self._bodies.values())
        }
        self.floor = min(float(self.of(name).points[:, 2].min()) for name in self.world.objects)

    def of(self, name: str) -> Surface:
        """An object's or fixture's surface as it lies now."""
        return self.of_bodies(self._bodies[name])

    def height(self, name: str) -> float:
        """From an object's lowest to its highest point [m]."""
        return float(np.ptp(self.of(name).points[:, 2]))

    def of_bodies(self, bodies: set[int]) -> Surface:
        """The surface of the model's bodies with these numbers."""
        return self._joined([geom for geom in self._samples if self.world.model.geom_bodyid[geom] in bodies])

    def around(self, *without: str, bodies: frozenset[int] = frozenset()) -> Points:
        """Points of all but the named things and the numbered bodies."""
        return self._joined(self._others(without, bodies)).points

    def boxes(self, name: str) -> Boxes:
        """What an object or fixture is made of, as it lies now."""
        return self._boxes([geom for geom in self._samples if self.world.model.geom_bodyid[geom] in self._bodies[name]])

    def boxes_around(self, *without: str) -> Boxes:
        """All but the named things."""
        return self._boxes(self._others(without, frozenset()))

    def moving_with(self, body: int) -> set[int]:
        """A body and what hangs on it."""
        return _subtree(self.world.model, body)

    def _others(self, without: tuple[str, ...], bodies: frozenset[int]) -> list[int]:
        left_out = set(bodies).union(*(self._bodies[name] for name in without))
        return [geom for geom in self._samples if self.world.model.geom_bodyid[geom] not in left_out]

    def _boxes(self, geoms: list[int]) -> Boxes:
        data, shapes = self.world.data, self.world.model.geom_aabb[geoms]
        axes = data.geom_xmat[geoms].reshape(-1, 3, 3)
        middles = data.geom_xpos[geoms] + (axes @ shapes[:, :3, None])[..., 0]
        return Boxes(middles, axes, np.maximum(shapes[:, 3:], 1e-4))

    def _joined(self, geoms: list[int]) -> Surface:
        data = self.world.data
        parts = [self._samples[geom].moved(data.geom_xmat[geom].reshape(3, 3), data.geom_xpos[geom]) for geom in geoms]
        if not parts:
            return Surface(np.zeros((0, 3)), np.zeros((0, 3)))
        return Surface(
            np.concatenate([part.points for part in parts]), np.concatenate([part.normals for part in parts])
        )


def _subtree(model, root: int) -> set[int]:
    """Numbers of a body and of all below it; MuJoCo numbers parents before children."""
    found = {root}
    for body in range(root + 1, model.nbody):
        if model.body_parentid[body] in found:
            found.add(body)
    return found


def _sample(model, geom: int) -> Surface:
    """A geom's surface in its own frame; anything but a box is sampled as the box around it."""
    centre, half = model.geom_aabb[geom, :3], np.maximum(model.geom_aabb[geom, 3:], 1e-4)
    spacing = float(np.clip(2 * half.max() / PARTS, FINEST, COARSEST))
    points, normals = [], []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        lines = [np.linspace(-half[o], half[o], max(2, int(np.ceil(2 * half[o] / spacing)) + 1)) for o in others]
        grid = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
        for sign in (-1.0, 1.0):
            face = np.zeros((len(grid), 3))
            face[:, others], face[:, axis] = grid, sign * half[axis]
            normal = np.zeros_like(face)
            normal[:, axis] = sign
            points.append(face + centre)
            normals.append(normal)
    return Surface(np.concatenate(points), np.concatenate(normals))
