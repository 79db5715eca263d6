"""Drawers, doors and knobs as joints: where they are, where a goal wants them, and how what they carry moves."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vla import rotation
from vla.errors import ConfigError
from vla.sim.expert.goals import joints
from vla.sim.expert.hand import Pose
from vla.sim.expert.solids import Points
from vla.sim.libero_world import LiberoWorld

SLIDE = 2  # MuJoCo's number of the kind; a hinge is 3
BEYOND_M, BEYOND_RAD = 0.012, 0.2  # past where a goal begins to hold
ENDED_M, ENDED_RAD = 0.0015, 0.05


@dataclass(frozen=True)
class Joint:
    """One degree of freedom of a fixture.

    Attributes:
        world: the scene.
        name: of the joint.
        wanted: position [m] or [rad] at which the goal surely holds; may lie beyond a limit.
        fully: whether it shall go as far as it can, not only to where the goal holds.
    """

    world: LiberoWorld
    name: str
    wanted: float
    fully: bool = False

    @property
    def position(self) -> float:
        """Now [m] or [rad]."""
        return float(self.world.env.sim.data.get_joint_qpos(self.name))

    @property
    def ended(self) -> bool:
        """Whether it is at ``wanted``, or where it stops on the way there."""
        end = float(np.clip(self.wanted, *self.world.model.jnt_range[self._number]))
        return abs(end - self.position) < (ENDED_M if self.slides else ENDED_RAD)

    @property
    def body(self) -> int:
        """Number of the body that it moves."""
        return int(self.world.model.jnt_bodyid[self._number])

    @property
    def slides(self) -> bool:
        """Whether it is a drawer's; else it turns."""
        return int(self.world.model.jnt_type[self._number]) == SLIDE

    @property
    def axis(self) -> Float64[np.ndarray, "3"]:
        """Direction in the world."""
        return self.world.data.xaxis[self._number].copy()

    @property
    def anchor(self) -> Float64[np.ndarray, "3"]:
        """A point on the axis [m]."""
        return self.world.data.xanchor[self._number].copy()

    @property
    def _number(self) -> int:
        return self.world.model.joint(self.name).id

    def carried(self, pose: Pose, change: float) -> Pose:
        """A pose that moves along when the joint's position changes."""
        if self.slides:
            return pose.shifted(self.axis * change)
        return pose.turned(rotation.to_matrix(self.axis * change, "axis_angle"), self.anchor)

    def velocities(self, points: Points) -> Points:
        """How points of the moved body move towards the wanted position: unit vectors, 0 on a hinge's axis."""
        sign = np.sign(self.wanted - self.position)
        if self.slides:
            return np.broadcast_to(sign * self.axis, points.shape)
        moving = np.cross(sign * self.axis, points - self.anchor)
        return moving / np.maximum(np.linalg.norm(moving, axis=1, keepdims=True), 1e-6)

    def levers(self, points: Points) -> Float64[np.ndarray, "n"]:
        """Distance from a hinge's axis [m]; 1 where nothing turns."""
        if self.slides:
            return np.ones(len(points))
        return np.linalg.norm(np.cross(self.axis, points - self.anchor), axis=1)


def joint_of(world: LiberoWorld, predicate: list[str], *, fully: bool = False) -> Joint:
    """The joint that decides a predicate, and where it is wanted: where that just holds, or as far as it goes.

    Raises:
        ConfigError: nothing that can be moved decides it.
    """
    kind, name = predicate
    names = joints(world, name)
    if not names:
        raise ConfigError(f"{name} of {world.bddl.stem} has nothing to {kind}")
    site = world.env.object_sites_dict.get(name)
    fixture = world.env.get_object(site.parent_name if site is not None else name)
    test = {"open": "is_open", "close": "is_close", "turnon": "turn_on", "turnoff": "turn_off"}[kind]
    model = world.model
    number = model.joint(names[0]).id
    low, high = model.jnt_range[number]
    now = float(world.env.sim.data.get_joint_qpos(names[0]))
    holding = [value for value in np.linspace(low, high, 801) if getattr(fixture, test)(value)]
    if not holding:
        raise ConfigError(f"{name} of {world.bddl.stem}: no position in [{low}, {high}] would {kind} it")
    nearest = min(holding, key=lambda value: abs(value - now))
    if fully:
        nearest = holding[0] if holding[0] == low else holding[-1]
    beyond = BEYOND_M if model.jnt_type[number] == SLIDE else BEYOND_RAD
    return Joint(world, names[0], float(nearest + np.sign(nearest - now) * beyond), fully)
