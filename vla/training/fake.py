"""A made-up task as a window source: reach for the square whose colour the instruction names. Ships for tests.

It needs all that a real one needs: eyes (the squares lie anywhere), words (there are two of them) and the state (where
the hand is). A chunk moves the hand to the square in equal steps and closes the gripper on the last ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32, UInt8

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.experience import Observation, Place, Window
from vla.normalize import Statistics
from vla.statistics_estimator import StatisticsEstimator
from vla.training.chance import numpy_chance
from vla.window_batch import WindowBatch, batched

COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220)}


def fake_embodiment(name: str = "fake_arm", size: int = 32, cameras: Sequence[str] = ("front",)) -> EmbodimentSpec:
    """A hand in a plane: x, y and gripper; the first camera is the primary one, the second the wrist's."""
    roles = ("primary", "wrist")
    return EmbodimentSpec(
        name,
        state=(Channel("x", "m", "position"), Channel("y", "m", "position")),
        state_rotation=None,
        action=ActionSpec(
            (Channel("dx", "m", "position"), Channel("dy", "m", "position"), Channel("gripper", "1", "gripper", 0, 1)),
            mode="delta",
            frame="base",
            rotation=None,
            gripper=Gripper(),
            rate=10.0,
        ),
        cameras=tuple(CameraSpec(camera, size, size, role=role) for camera, role in zip(cameras, roles, strict=False)),
    )


@dataclass(frozen=True)
class FakeWindows:
    """Windows of that task, each made from its number.

    Attributes:
        count: distinct windows.
        horizon: actions in each.
        spec: of :func:`fake_embodiment`.
        seed: names the windows.
    """

    count: int = 64
    horizon: int = 8
    spec: EmbodimentSpec = field(default_factory=fake_embodiment)
    seed: int = 0

    @property
    def specs(self) -> tuple[EmbodimentSpec, ...]:
        """The one embodiment."""
        return (self.spec,)

    def __getitem__(self, index: int) -> Window:
        """The window of an index."""
        return self.window(self.place(index))

    def batch(self, indices: Sequence[int]) -> list[WindowBatch]:
        """The windows of these indices as columns."""
        return batched([self[index] for index in indices])

    def place(self, index: int) -> Place:
        """Round and round, each round in its own order."""
        epoch, turn = divmod(index, self.count)
        return Place(0, 0, int(numpy_chance(self.seed, "order", epoch).permutation(self.count)[turn]))

    def frames(self) -> Iterable[Place]:
        """Every place."""
        return [Place(0, 0, number) for number in range(self.count)]

    def window(self, place: Place, *, images: bool = True) -> Window:
        """The window at a place."""
        chance = numpy_chance(self.seed, "window", place.step)
        hand, targets = chance.uniform(-0.5, 0.5, 2), chance.uniform(-0.5, 0.5, (len(COLOURS), 2))
        wanted = int(chance.integers(len(COLOURS)))
        actions = np.zeros((self.horizon, self.spec.action.size), dtype=np.float32)
        actions[:, :2] = (targets[wanted] - hand) / self.horizon
        actions[: self.horizon // 2, 2] = 1.0
        pictures = {camera.name: draw(targets, camera.height) for camera in self.spec.cameras} if images else {}
        instruction = f"Reach the {list(COLOURS)[wanted]} square."
        valid = np.arange(self.horizon) < (self.horizon if place.step % 4 else self.horizon - 2)
        observation = Observation(pictures, hand.astype(np.float32), instruction, 0.0)
        return replace(Window(self.spec, observation, actions, valid), origin=place)

    def statistics(self) -> dict[str, Statistics]:
        """Of all windows, by embodiment name."""
        windows = [self.window(place, images=False) for place in self.frames()]
        state, action = StatisticsEstimator(self.spec.state_names), StatisticsEstimator(self.spec.action.names)
        state.add(np.stack([window.observation.state for window in windows]))
        action.add(np.concatenate([window.actions for window in windows]))
        return {self.spec.name: Statistics({**state.finish().channels, **action.finish().channels})}


def draw(targets: Float32[np.ndarray, "n 2"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """A square of each colour on grey; x to the right and y down, both from -0.5 to 0.5."""
    picture = np.full((size, size, 3), 110, dtype=np.uint8)
    side = max(2, size // 6)
    for (x, y), colour in zip(targets, COLOURS.values(), strict=True):
        left, top = (int((place + 0.5) * (size - side)) for place in (x, y))
        picture[top : top + side, left : left + side] = colour
    return picture
