"""A simulated Panda as a body: metres and radians in, the scene's own numbers to its controller."""

import numpy as np
from jaxtyping import Float32

from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import ACTION, RAW_ACTION
from vla.errors import PolicyFault
from vla.experience import Image, Observation
from vla.sim.panda_scene import PandaScene
from vla.transforms import action_map

_TO_RAW = action_map(ACTION, RAW_ACTION)
_LOW = np.array([channel.low for channel in ACTION.channels], dtype=np.float32)
_HIGH = np.array([channel.high for channel in ACTION.channels], dtype=np.float32)


class PandaBody[Scene: PandaScene]:
    """The simulated Panda; a :class:`~vla.protocols.Body`. Its clock advances by 50 ms with each command.

    Attributes:
        world: the scene underneath, for what steps or inspects it directly.

    Args:
        world: the scene.
        instruction: what is to be done in it.
        spec: with LIBERO's channels (:mod:`vla.embodiments.libero_panda`), and square cameras of the scene.
    """

    def __init__(self, world: Scene, instruction: str, spec: EmbodimentSpec):
        self.world = world
        self._instruction = instruction
        self._spec = spec

    @property
    def spec(self) -> EmbodimentSpec:
        """As given."""
        return self._spec

    def observe(self, *, images: bool = True) -> Observation:
        """State and, only if asked for, the pictures."""
        pictures = {name: self.picture(name) for name in self._spec.camera_names} if images else {}
        return Observation(pictures, self.world.state(), self._instruction, self.world.time)

    def picture(self, camera: str) -> Image:
        """What a camera sees now, mirrored left-right as LIBERO's policies know it.

        Raises:
            UnknownName: there is no such camera.
        """
        picture = self.world.render(camera, self._spec.camera(camera).height)
        return np.ascontiguousarray(picture[:, ::-1])

    def aim(self, action: Float32[np.ndarray, "7"]) -> None:
        """Where the controller moves from the next physics step on, for who steps the scene at the physics rate."""
        self.world.set_goal(_TO_RAW(action))

    def command(self, action: Float32[np.ndarray, "7"]) -> Float32[np.ndarray, "7"]:
        """Act for 50 ms; returns what was sent: motions clipped to 0.05 m and 0.5 rad, the gripper to [0, 1].

        Raises:
            PolicyFault: the action is not seven finite numbers.
            BodyFault: the simulation diverged.
        """
        action = np.asarray(action, dtype=np.float32)
        if action.shape != (ACTION.size,) or not np.isfinite(action).all():
            raise PolicyFault(f"an action is {ACTION.size} finite numbers, found {action}")
        sent = np.clip(action, _LOW, _HIGH)
        self.world.step(_TO_RAW(sent))
        return sent

    def stop(self) -> None:
        """Hold still: a simulator only moves when commanded, so the controller's goal is put where the arm is."""
        self.world.hold()

    def close(self) -> None:
        """Give back the scene. Safe to call more than once."""
        self.world.close()
