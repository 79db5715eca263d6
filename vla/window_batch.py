"""Many training windows at once: their numbers as columns, their pictures decoded where they will lie.

::

    indices ─WindowSource.batch─▶ one WindowBatch for each source among them
                                  ├─ state, actions, valid ─▶ batch[rows]      gathered, no loop
                                  └─ images[camera] ─pictures_into─▶ batch[row] decoded, no copy

A source of episodes that can gather says so (:class:`~vla.protocols.Gathers`); every other one is read window by
window, with the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from vla.embodiment import EmbodimentSpec
from vla.errors import SpecMismatch
from vla.experience import Image, Observation, Window


@dataclass(frozen=True)
class WindowBatch:
    """Some windows of one embodiment with the same cameras, as columns.

    Attributes:
        spec: embodiment of the numbers.
        rows: which of the windows that were asked for these are.
        images: camera name to one picture for each window, decoded when asked for.
        state: raw units.
        instructions: one for each window.
        time: of the observations [s].
        actions: what the policy should answer, raw units.
        valid: False where the episode had already ended.
    """

    spec: EmbodimentSpec
    rows: Int64[np.ndarray, "n"]
    images: Mapping[str, Sequence[Image]]
    state: Float32[np.ndarray, "n s"]
    instructions: Sequence[str]
    time: Float64[np.ndarray, "n"]
    actions: Float32[np.ndarray, "n h a"]
    valid: Bool[np.ndarray, "n h"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Window:
        """One of them by its place in this batch, with its pictures."""
        images = {name: frames[index] for name, frames in self.images.items()}
        observation = Observation(images, self.state[index], self.instructions[index], float(self.time[index]))
        return Window(self.spec, observation, self.actions[index], self.valid[index])


@runtime_checkable
class DecodesInto(Protocol):
    """Pictures that can be decoded into memory that is there already, some together."""

    def decode_into(self, first: int, out: Sequence[Image]) -> None:
        """Write as many pictures as ``out`` has places, from the ``first`` on.

        Args:
            first: number of the picture that the first place gets.
            out: contiguous, each as large as its picture.

        Raises:
            DataError: there is no picture, or it has another size than it must have.
            SpecMismatch: a place has another size than the pictures.
        """
        ...


def pictures_into(frames: Sequence[Image], first: int, out: Sequence[Image]) -> None:
    """Write as many pictures as ``out`` has places, from the ``first`` on; each place is contiguous.

    Raises:
        DataError: there is no picture, or it has another size than it must have.
        SpecMismatch: a picture has another size than its place.
    """
    if isinstance(frames, DecodesInto):
        frames.decode_into(first, out)
        return
    for number, place in enumerate(out, first):
        picture = frames[number]
        if picture.shape != place.shape:
            raise SpecMismatch([f"{picture.shape} here, {place.shape} there"], have="a picture", want="its place")
        place[...] = picture


@dataclass(frozen=True)
class Scattered(Sequence[Image]):
    """Pictures out of several sequences, decoded one by one.

    Attributes:
        frames: for each picture the sequence that it is in.
        steps: and its place there.
    """

    frames: Sequence[Sequence[Image]]
    steps: Sequence[int]

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "Scattered": ...
    def __getitem__(self, index: int | slice) -> "Image | Scattered":
        """One picture, or fewer of them."""
        if isinstance(index, slice):
            return Scattered(self.frames[index], self.steps[index])
        return self.frames[index][self.steps[index]]


def batched(
    windows: Sequence[Window], frames: Sequence[Mapping[str, Sequence[Image]]] | None = None
) -> list[WindowBatch]:
    """Windows as batches: one for each embodiment and set of cameras among them.

    Args:
        windows: all of one horizon.
        frames: of each window's episode, from which its pictures are decoded later; None if the windows hold them.
    """
    groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    seen = [window.observation.images for window in windows] if frames is None else frames
    for row, (window, images) in enumerate(zip(windows, seen, strict=True)):
        groups.setdefault((id(window.spec), tuple(images)), []).append(row)
    batches = []
    for (_, cameras), rows in groups.items():
        chosen = [windows[row] for row in rows]
        if frames is None:
            images = {name: [item.observation.images[name] for item in chosen] for name in cameras}
        else:
            steps = [item.origin.step for item in chosen]
            images = {name: Scattered([frames[row][name] for row in rows], steps) for name in cameras}
        batches.append(
            WindowBatch(
                chosen[0].spec,
                np.array(rows, np.int64),
                images,
                np.stack([item.observation.state for item in chosen]),
                [item.observation.instruction for item in chosen],
                np.array([item.observation.time for item in chosen]),
                np.stack([item.actions for item in chosen]),
                np.stack([item.valid for item in chosen]),
            )
        )
    return batches
