"""What a simulation offers to be an arm behind the server: a servo that is stepped, cameras, an operator.

Three kinds: an :class:`ArmWorld` has a controller of its own and is stepped; a :class:`WatchedWorld` shows its joints
too, so that one that breaks a limit is stopped; a :class:`JointWorld` says what its controller wants and is driven by
what the servo allows of it, joint by joint.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiment import EmbodimentSpec
from vla.experience import Image
from vla.safety_joints import Joints, Wish
from vla.safety_limits import JointLimits


@runtime_checkable
class ArmWorld(Protocol):
    """What a simulation offers to be an arm: a servo that is stepped, cameras, and an operator who sets the scene."""

    @property
    def spec(self) -> EmbodimentSpec:
        """What it senses and accepts; its first three state channels are the tool's position [m]."""
        ...

    @property
    def substep_seconds(self) -> float:
        """Length of one physics step [s]."""
        ...

    @property
    def instruction(self) -> str:
        """What is to be done in the scene as set."""
        ...

    @property
    def max_steps(self) -> int:
        """Control steps the scene's task is usually given."""
        ...

    def reset(self, scene: Mapping[str, Any]) -> None:
        """Set a scene; what the map holds is between the world and whoever asks.

        Raises:
            VlaError: there is no such scene.
        """
        ...

    def set_goal(self, action: Float32[np.ndarray, "a"]) -> None:
        """Move towards what ``action`` says, in the units of the spec, from the present pose."""
        ...

    def hold(self) -> None:
        """Make the present pose the goal, the gripper as it is, as firmly as the arm can; until the next goal."""
        ...

    def substep(self) -> None:
        """One physics step."""
        ...

    def state(self) -> Float32[np.ndarray, "s"]:
        """Measured now."""
        ...

    def render(self, camera: str) -> Image:
        """What a camera sees now, as its spec says."""
        ...

    def succeeded(self) -> bool:
        """Whether the scene's task is solved."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@runtime_checkable
class WatchedWorld(ArmWorld, Protocol):
    """A world whose joints the servo sees and does not drive: their positions and speeds stop the arm, after the fact.

    Nothing else of what it does is changed.
    """

    @property
    def joint_limits(self) -> JointLimits:
        """Of the arm; positions and velocities are watched."""
        ...

    def joints(self) -> tuple[Joints, Joints]:
        """Positions [rad] and speeds [rad/s], measured now."""
        ...


@runtime_checkable
class JointWorld(ArmWorld, Protocol):
    """A world that the servo drives joint by joint, so that the servo's limits hold at every physics step.

    ``substep`` drives what the controller wants, unlimited: for who wants to see what would happen.
    """

    @property
    def joint_limits(self) -> JointLimits:
        """Of the arm."""
        ...

    def wish(self) -> Wish:
        """Measure and say what the controller wants; the first half of a physics step."""
        ...

    def torque(self, acceleration: Joints) -> Joints:
        """Motor torques that an acceleration takes at the state of the last wish [Nm]."""
        ...

    def reach(self, position: Joints) -> tuple[Float64[np.ndarray, "3"], float]:
        """Where the tool's point would be, and the height of the lowest part of hand and wrist, base frame [m]."""
        ...

    def drive(self, acceleration: Joints, grip: Float64[np.ndarray, "g"]) -> None:
        """Accelerate so, with these finger forces; the second half of a physics step."""
        ...
