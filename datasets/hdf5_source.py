"""Episodes of HDF5 demonstrations by number: arrays read when asked for, one picture at a time, no libhdf5."""

import hashlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float32, Float64, Int64

from vla.datasets.hdf5_array import StoredArray
from vla.datasets.hdf5_index import DemoIndex
from vla.datasets.hdf5_meaning import ACTIONS, Meaning
from vla.datasets.hdf5_sandbox import Sandbox
from vla.embodiment import CameraSpec, EmbodimentSpec
from vla.errors import DataError
from vla.experience import ChosenFrames, Episode, Image
from vla.quirks import Quirk
from vla.transforms import reorient

STATES = "states"


@dataclass(frozen=True)
class Hdf5Source:
    """Episodes of some files; what travels to a worker process is the index's path.

    Attributes:
        index: where everything lies.
        meaning: what it means.
        fixes: whether it is mended and canonical.
        instructions: one for each file.
        quirks: what is wrong and was read around.
        parts: first demonstration of each part of the split, and one past the last.
        spec: shared by all episodes.
    """

    index: DemoIndex
    meaning: Meaning
    fixes: bool
    instructions: tuple[str, ...]
    quirks: tuple[Quirk, ...]
    parts: tuple[tuple[int, int], ...]
    spec: EmbodimentSpec = field(init=False)

    def __post_init__(self):
        description = self.meaning.description
        spec = description.embodiment(picture_sizes(self.index, self.meaning), fixes=self.fixes)
        if self.fixes and self.meaning.libero:
            spec = replace(spec, cameras=tuple(replace(camera, orientation="mirrored") for camera in spec.cameras))
        object.__setattr__(self, "spec", spec)

    @property
    def content(self) -> str:
        """Of the files' sizes and times, and of what they are read as."""
        facts = (self.index.files, self.meaning, self.fixes, self.instructions, self.parts)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    @cached_property
    def _demos(self) -> Int64[np.ndarray, "n"]:
        """Number in the index of each episode that has a step left."""
        demos = np.concatenate([np.arange(start, stop) for start, stop in self.parts])
        return demos[np.asarray(self.index.lengths)[demos] > self.lost]

    @property
    def lost(self) -> int:
        """Steps of each demonstration that are not in its episode."""
        return sum(self._dropped) + self._late

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode."""
        return np.asarray(self.index.lengths)[self._demos] - self.lost

    def __len__(self) -> int:
        return len(self._demos)

    def __getitem__(self, number: int) -> Episode:
        """One episode; its pictures stay in the file until asked for.

        Raises:
            IndexError: there are not so many.
            DataError: the file has changed or is damaged, or a number is not finite.
        """
        demo = int(self._demos[range(len(self))[number]])
        description, index = self.meaning.description, self.index
        numbers = {name: self._numbers(demo, name) for name in description.fields}
        if self.fixes and self.meaning.high < np.inf:
            numbers[ACTIONS] = np.clip(numbers[ACTIONS], self.meaning.low, self.meaning.high)
        state, action = description.columns(numbers, fixes=self.fixes)
        time = self._time(demo)
        first, last = self._dropped
        seen = np.arange(first, len(action) - last - self._late)
        done = seen + self._late
        pictures = {}
        for camera, shown in zip(self._stored_cameras, self.spec.cameras, strict=True):
            array = index.array(demo, self._camera_field[camera.name][0])
            frames = Frames(array, camera, shown, bgr=self._camera_field[camera.name][1])
            pictures[camera.name] = frames if len(seen) == len(frames) else ChosenFrames(frames, seen)
        file = self._file(demo)
        return Episode(
            spec=self.spec,
            state=state[seen],
            action=action[done],
            images=pictures,
            time=time[done] - time[done[0]],
            instruction=self.instructions[index.file(demo)],
            success=index.success(demo),
            source=f"{Path(file).name}[{index.name(demo)}]",
            info={"file": Path(file).name, "demo": index.name(demo)},
        )

    def states(self, number: int) -> Float64[np.ndarray, "t s"]:
        """The simulator's flattened state before each stored action: time, positions, velocities.

        Raises:
            DataError: the files hold none, or a number is not finite.
        """
        return self._states(int(self._demos[number]))

    def model_files(self, numbers: Iterable[int]) -> Generator[str]:
        """The simulator's models that episodes were made with, XML, one after the other.

        Raises:
            DataError: a file does not hold it, or is damaged.
        """
        with Sandbox() as sandbox:
            for demo in (int(self._demos[number]) for number in numbers):
                yield sandbox.model_file(Path(self._file(demo)), self.index.name(demo))

    @property
    def _late(self) -> int:
        """1 where an observation belongs to the action of the next row."""
        return int(self.fixes and self.meaning.late)

    @property
    def _dropped(self) -> tuple[int, int]:
        return self.meaning.description.dropped(fixes=self.fixes)

    @property
    def _camera_field(self) -> dict[str, tuple[str, bool]]:
        return {camera.name: (camera.field, camera.bgr) for camera in self.meaning.description.cameras}

    @property
    def _stored_cameras(self) -> tuple[CameraSpec, ...]:
        return self.meaning.description.embodiment(picture_sizes(self.index, self.meaning), fixes=False).cameras

    def _file(self, demo: int) -> str:
        return self.index.files[self.index.file(demo)].path

    def _states(self, demo: int) -> Float64[np.ndarray, "t s"]:
        if STATES not in self.index.fields:
            raise DataError(self._file(demo), STATES, expected="the simulator's states", found="none")
        states = self.index.array(demo, STATES).read().astype(np.float64)
        check_finite(states, self._file(demo), f"data/{self.index.name(demo)}/{STATES}")
        return states

    def _numbers(self, demo: int, name: str) -> Float32[np.ndarray, "t n"]:
        values = self.index.array(demo, name).read().astype(np.float32)
        check_finite(values, self._file(demo), f"data/{self.index.name(demo)}/{name}")
        return values.reshape(len(values), -1)

    def _time(self, demo: int) -> Float64[np.ndarray, "t"]:
        """The simulator's own clock where the file has it and it runs forwards, else the control rate's [s]."""
        steps = int(self.index.lengths[demo])
        if STATES in self.index.fields:
            clock = self._states(demo)[:, 0]
            if (np.diff(clock) > 0).all():
                return clock
        return np.arange(steps) / self.spec.action.rate


@dataclass(frozen=True)
class Frames(Sequence[Image]):
    """A camera's pictures of one episode, each read when asked for.

    Attributes:
        array: as stored, uint8 of shape (t, h, w, 3).
        stored: how they are stored.
        shown: how they are given.
        bgr: red and blue are swapped in the file.
    """

    array: StoredArray
    stored: CameraSpec
    shown: CameraSpec
    bgr: bool = False

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> ChosenFrames: ...
    def __getitem__(self, index: int | slice) -> Image | ChosenFrames:
        """One picture, or fewer of them.

        Raises:
            DataError: the file has changed or is damaged.
        """
        if isinstance(index, slice):
            return ChosenFrames(self, np.arange(len(self))[index])
        step = range(len(self))[index]
        picture = self.array.read(step, step + 1)[0]
        return reorient(picture[..., ::-1] if self.bgr else picture, self.stored, self.shown)


def picture_sizes(index: DemoIndex, found: Meaning) -> dict[str, tuple[int, int]]:
    """Camera to height and width [pixels]."""
    shapes = {camera.name: index.fields[camera.field][1] for camera in found.description.cameras}
    return {name: (shape[0], shape[1]) for name, shape in shapes.items()}


def check_finite(values: np.ndarray, file: str, where: str) -> None:
    """See that an array of a file has numbers only.

    Raises:
        DataError: one is not finite.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        place = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
        found = f"{values[place]} in step {int(place[0])}"
        raise DataError(file, where, expected="finite numbers", found=found)
