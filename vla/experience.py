"""What is seen and done: one observation, one chunk of actions, one episode, one training window.

All arrays are numpy and in raw units; normalisation happens at the model's border and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from vla.embodiment import EmbodimentSpec
from vla.errors import PolicyFault

Image = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Observation:
    """What a robot measured at one moment.

    Attributes:
        images: camera name to picture, RGB, in the orientation that its :class:`~vla.embodiment.CameraSpec` names.
            Empty when the body was asked for numbers only.
        state: in the order of the embodiment's state channels, raw units.
        instruction: what is to be done.
        time: when it was measured [s], on the body's clock.
    """

    images: Mapping[str, Image]
    state: Float32[np.ndarray, "s"]
    instruction: str
    time: float


@dataclass(frozen=True)
class ActionChunk:
    """A policy's answer to one observation.

    Attributes:
        actions: one row for each control step from the observation on, raw units, all finite.
        time: time of the observation that it answers [s].
        dt: time between rows [s].

    Raises:
        PolicyFault: a number is NaN or infinite, or there is no row.
    """

    actions: Float32[np.ndarray, "h a"]
    time: float
    dt: float

    def __post_init__(self):
        if self.actions.ndim != 2 or len(self.actions) == 0:
            raise PolicyFault(f"a chunk holds actions of shape (h, a) with h > 0, found {self.actions.shape}")
        if not np.isfinite(self.actions).all():
            row, column = (int(places[0]) for places in np.nonzero(~np.isfinite(self.actions)))
            raise PolicyFault(f"the policy returned {self.actions[row, column]} in step {row}, channel {column}")


@dataclass(frozen=True)
class Episode:
    """One trajectory; numbers are in memory, pictures are decoded one by one when asked for.

    Attributes:
        spec: whose channels and cameras the columns follow.
        state: measured before the action of the same row.
        action: what was really sent.
        images: camera name to a sequence of T pictures; indexing decodes that one picture only.
        time: [s] since the episode's start.
        instruction: what was asked for; empty if nobody said.
        success: None if unknown.
        source: where it came from, e.g. ``"bridge_dataset/train[3]"``.
        info: whatever else is known (initial state, seed, subtask labels...); JSON values.
    """

    spec: EmbodimentSpec
    state: Float32[np.ndarray, "t s"]
    action: Float32[np.ndarray, "t a"]
    images: Mapping[str, Sequence[Image]]
    time: Float64[np.ndarray, "t"]
    instruction: str
    success: bool | None = None
    source: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.action)

    def observation(self, step: int, *, images: bool = True) -> Observation:
        """What was seen before the action of ``step``; decodes one picture for each camera."""
        pictures = {name: frames[step] for name, frames in self.images.items()} if images else {}
        return Observation(pictures, self.state[step], self.instruction, float(self.time[step]))

    def window(self, step: int, horizon: int, *, images: bool = True) -> "Window":
        """The observation at ``step`` with the ``horizon`` actions from there on.

        Past the episode's end the last action is repeated and marked as not valid: a repeated action is
        in range where a zero might not be, and the mask keeps it out of the loss.
        """
        end = step + horizon
        if end <= len(self):  # most windows: a view, nothing copied
            actions, valid = self.action[step:end], np.ones(horizon, bool)
        else:
            places = np.arange(step, end)
            actions, valid = self.action[np.minimum(places, len(self) - 1)], places < len(self)
        return Window(self.spec, self.observation(step, images=images), actions, valid)

    def take(self, steps: Int64[np.ndarray, "n"]) -> "Episode":
        """The same episode with only these steps, in this order; pictures stay where they are, times unchanged."""
        return replace(
            self,
            state=self.state[steps],
            action=self.action[steps],
            time=self.time[steps],
            images={name: ChosenFrames(frames, steps) for name, frames in self.images.items()},
        )


@dataclass(frozen=True)
class ChosenFrames(Sequence[Image]):
    """Some pictures of a sequence, each still decoded only when asked for.

    Attributes:
        frames: all of them.
        steps: numbers of those chosen.
    """

    frames: Sequence[Image]
    steps: Int64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "ChosenFrames": ...
    def __getitem__(self, index: int | slice) -> "Image | ChosenFrames":
        """One picture, or fewer of them."""
        if isinstance(index, slice):
            return ChosenFrames(self.frames, self.steps[index])
        return self.frames[int(self.steps[index])]


class Place(NamedTuple):
    """Where a training window comes from: numbers of the source, of the episode in it, and of the step."""

    source: int
    episode: int
    step: int


_START = Place(0, 0, 0)


@dataclass(frozen=True)
class Window:
    """One training example.

    Attributes:
        spec: embodiment of the numbers.
        observation: what the policy will be given.
        actions: what it should answer, raw units.
        valid: False where the episode had already ended.
        origin: the same place has the same pictures.
    """

    spec: EmbodimentSpec
    observation: Observation
    actions: Float32[np.ndarray, "h a"]
    valid: Bool[np.ndarray, "h"]
    origin: Place = _START
