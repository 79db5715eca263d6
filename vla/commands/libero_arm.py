"""A LIBERO scene behind the arm's server: the simulator's world handed to the driver's process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiment import EmbodimentSpec
from vla.embodiments.panda_arm import JOINTS
from vla.errors import ConfigError
from vla.experience import Image
from vla.rows import Row
from vla.sim import libero


@dataclass(frozen=True)
class LiberoArm:
    """Makes the world in the arm's process.

    Attributes:
        row: the scene it starts with; ``reset`` takes any other one.
        config: how LIBERO is simulated.
    """

    row: Row
    config: libero.Config = field(default_factory=libero.Config)

    def __call__(self) -> "LiberoArmWorld":
        """The world, its first scene set."""
        return LiberoArmWorld(self.config, self.row)


class LiberoArmWorld:
    """A LIBERO scene as the ``WatchedWorld`` that the arm's server steps; a scene is a row.

    LIBERO's controller drives it, as in every evaluation; a joint beyond the Panda's range or speed stops it. Its
    accelerations and torques are no Panda's: contacts show up to four times the limit in runs that are as they should
    be, and robosuite's fifth motor has 80 Nm, Franka's 12.
    """

    joint_limits = JOINTS

    def __init__(self, config: libero.Config, row: Row):
        self._benchmark = config.make()
        self._open(row)

    @property
    def spec(self) -> EmbodimentSpec:
        """``libero_panda`` with the pictures' size."""
        return self._body.spec

    @property
    def substep_seconds(self) -> float:
        """Of LIBERO's physics [s]."""
        return self._body.world.substep_seconds

    @property
    def instruction(self) -> str:
        """Of the scene's task."""
        return self._task.instruction

    @property
    def max_steps(self) -> int:
        """Of the scene's suite."""
        return self._task.max_steps

    def reset(self, scene: Mapping[str, Any]) -> None:
        """Set a row's scene.

        Raises:
            ConfigError: the map is no row.
            UnknownName: there is no such suite or task.
        """
        try:
            row = Row(**scene)
        except TypeError as error:
            raise ConfigError(f"a scene has the fields of a row, found {', '.join(scene) or 'none'}") from error
        self._open(row)

    def set_goal(self, action: Float32[np.ndarray, "7"]) -> None:
        """Canonical units in, the environment's own to its controller."""
        self._body.aim(action)

    def hold(self) -> None:
        """Brake all joints and stay: LIBERO's own controller alone lets the hand drift on for half a second."""
        self._body.world.brake()

    def substep(self) -> None:
        """2 ms of physics."""
        self._body.world.substep()

    def state(self) -> Float32[np.ndarray, "8"]:
        """Measured now."""
        return self._body.world.state()

    def joints(self) -> tuple[Float64[np.ndarray, "7"], Float64[np.ndarray, "7"]]:
        """Positions [rad] and speeds [rad/s] now."""
        return self._body.world.joints()

    def render(self, camera: str) -> Image:
        """As LIBERO's policies know the pictures."""
        return self._body.picture(camera)

    def succeeded(self) -> bool:
        """Whether the goal has held since the reset."""
        return self._task.succeeded()

    def close(self) -> None:
        """Give back the scene and its graphics context."""
        self._benchmark.close()

    def _open(self, row: Row) -> None:
        self._body, self._task = self._benchmark.open(row)
        self._task.reset()
        # a scene's first picture uploads its meshes and textures, 0.5 s: not while the arm's clock runs
        for camera in self.spec.cameras:
            self.render(camera.name)
