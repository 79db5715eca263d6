"""A point pulled by a damped spring: the smallest world that an arm's server can serve, to test and to try with.

It moves as LIBERO's controller moves the Panda's tool (same stiffness, critically damped), senses its position and
opening, has two cameras that see its x coordinate as a shade of grey, and misbehaves on request.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.errors import BodyFault, UnknownName
from vla.experience import Image

STIFFNESS = 150.0
"""Of the spring [1/s2]; robosuite 1.4 ``osc_pose.json``, kp."""

SPEC = EmbodimentSpec(
    name="point",
    state=(*(Channel(axis, "m", "position") for axis in "xyz"), Channel("opening", "1", "gripper")),
    state_rotation=None,
    action=ActionSpec(
        channels=(
            *(Channel(f"d{axis}", "m", "position", -0.05, 0.05) for axis in "xyz"),
            Channel("gripper", "1", "gripper", 0.0, 1.0),
        ),
        mode="delta",
        frame="base",
        rotation=None,
        gripper=Gripper(),
        rate=20.0,
    ),
    cameras=(CameraSpec("front", 16, 16, role="primary"), CameraSpec("wrist", 8, 8, role="wrist")),
)


@dataclass
class PointWorld:
    """An ``ArmWorld``; its task is to bring x to 0.2 m.

    Attributes:
        render_s: time that a pair of pictures takes [s].
        dies_at: x beyond which the process ends without a word [m].
        breaks_at: x beyond which the simulation reports that it diverged [m].
    """

    render_s: float = 0.0
    dies_at: float = np.inf
    breaks_at: float = np.inf
    spec: EmbodimentSpec = SPEC
    substep_seconds: float = 0.002
    instruction: str = "bring x to 0.2 m"
    max_steps: int = 40
    position: Float64[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3))
    velocity: Float64[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3))
    goal: Float64[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3))
    opening: float = 1.0

    def reset(self, scene: Mapping[str, Any]) -> None:
        """Set the point at ``scene["at"]`` [m]; takes ``scene["takes"]`` [s].

        Raises:
            UnknownName: ``scene["name"]`` is not ``"start"``.
        """
        if scene.get("name", "start") != "start":
            raise UnknownName("scene", scene["name"], ["start"])
        time.sleep(scene.get("takes", 0.0))
        self.position, self.velocity = np.array(scene.get("at", [0.0, 0.0, 0.0]), np.float64), np.zeros(3)
        self.hold()

    def set_goal(self, action: Float32[np.ndarray, "4"]) -> None:
        """Pull towards a change of position [m]; the gripper follows at once."""
        self.goal, self.opening = self.position + action[:3], float(action[3])

    def hold(self) -> None:
        """Pull towards where the point is."""
        self.goal = self.position.copy()

    def substep(self) -> None:
        """One step of semi-implicit Euler.

        Raises:
            BodyFault: x is beyond ``breaks_at``.
        """
        pull = STIFFNESS * (self.goal - self.position) - 2.0 * STIFFNESS**0.5 * self.velocity
        self.velocity = self.velocity + self.substep_seconds * pull
        self.position = self.position + self.substep_seconds * self.velocity
        if self.position[0] > self.dies_at:
            os._exit(7)
        if self.position[0] > self.breaks_at:
            raise BodyFault("the simulation diverged")

    def state(self) -> Float32[np.ndarray, "4"]:
        """Position [m] and opening."""
        return np.array([*self.position, self.opening], np.float32)

    def render(self, camera: str) -> Image:
        """One grey level for a millimetre of x."""
        time.sleep(self.render_s / 2)
        size = self.spec.camera(camera).height
        return np.full((size, size, 3), int(np.clip(self.position[0] * 1000, 0, 255)), np.uint8)

    def succeeded(self) -> bool:
        """Whether x has reached 0.2 m."""
        return bool(self.position[0] >= 0.2)

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class Factory:
    """Makes a :class:`PointWorld` in the arm's process; see there.

    Attributes:
        render_s: time that a pair of pictures takes [s].
        dies_at: x beyond which the process ends without a word [m].
        breaks_at: x beyond which the simulation reports that it diverged [m].
        fails: whether making it fails.
    """

    render_s: float = 0.0
    dies_at: float = np.inf
    breaks_at: float = np.inf
    fails: bool = False

    def __call__(self) -> PointWorld:
        """The world.

        Raises:
            BodyFault: it was asked to fail.
        """
        if self.fails:
            raise BodyFault("no such arm")
        return PointWorld(self.render_s, self.dies_at, self.breaks_at)
