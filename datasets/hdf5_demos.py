"""LIBERO's and robomimic's demonstrations in HDF5: one file or a folder of files, any frame at random access.

::

    *.hdf5 ──libhdf5 in a child process, once──▶ index (cached) ─▶ source[episode].images["agentview"][step]
                                                                    one read of one frame, no libhdf5

    data/                    attributes: env_args or env_info (the controller), problem_info, bddl_file_content
      demo_0/                attributes: num_samples, model_file (the simulator's model)
        actions  states  obs/agentview_rgb  obs/ee_pos  ...

Files that hold simulator states only have neither cameras nor state channels here; ``vla data render`` makes both.
"""

import hashlib
import logging
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float32, Float64, Int64

from vla.datasets.description import Description, read_description
from vla.datasets.hdf5_array import StoredArray
from vla.datasets.hdf5_index import DemoIndex, demo_index
from vla.datasets.hdf5_meaning import ACTIONS, Meaning, instruction_of, is_libero, meaning, without_observations
from vla.datasets.hdf5_sandbox import Sandbox
from vla.embodiment import CameraSpec, EmbodimentSpec
from vla.errors import DataError
from vla.experience import ChosenFrames, Episode, Image
from vla.files import cache_folder
from vla.protocols import Progress
from vla.quirks import Quirk, admit
from vla.transforms import reorient

LAYOUT = "LIBERO or robomimic demonstrations (an HDF5 file, or a folder of them)"
STATES = "states"
_SUFFIXES = (".hdf5", ".h5")
_SLACK = 1e-6  # beyond the controller's limits that is rounding

logger = logging.getLogger(__name__)


def accepts(path: str | Path) -> bool:
    """Whether it is an HDF5 file by its name, or a folder with one."""
    place = Path(path)
    return (place.is_file() and place.suffix in _SUFFIXES) or (place.is_dir() and bool(_files(place)))


@dataclass(frozen=True)
class Config:
    """HDF5 demonstrations on disk.

    Attributes:
        path: file, or folder whose ``.hdf5`` and ``.h5`` files are read in the order of their names.
        fixes: metres, radians and gripper 1 = open; what the controller cut off is cut off; LIBERO's pictures turned by
            180 degrees as its policies get them, and each action paired with what was seen before it. Off shows the
            data as stored.
        tolerate: kinds of quirks to read around: ``actions-out-of-range``, ``broken-file``,
            ``partial-field``, ``wrong-totals``.
        description: TOML file that says what the fields mean, for files whose own attributes do not; fields are called
            ``actions`` and ``obs/...``.
        instruction: text for demonstrations whose files have none.
        observations: read what was seen; off leaves actions and the simulator's states.
        cache: folder for the index; by default ``$XDG_CACHE_HOME/vla`` or ``~/.cache/vla``.
        progress: told how many files are indexed and how many there are.
    """

    path: Path
    fixes: bool = True
    tolerate: tuple[str, ...] = ()
    description: Path | None = None
    instruction: str = ""
    observations: bool = True
    cache: Path | None = None
    progress: Progress | None = None

    def make(self) -> "Hdf5Source":
        """The episodes.

        Raises:
            DataError: a file is damaged, or nobody says what its numbers mean.
            QuirksFound: something is wrong that can be read around, and is not tolerated.
        """
        path = Path(self.path)
        files = [path] if path.is_file() else _files(path)
        if not files:
            raise DataError(path, "files", expected=LAYOUT, found="none")
        index = demo_index(files, path.stem, Path(self.cache) if self.cache else cache_folder(), self.progress)
        description = read_description(Path(self.description), choosing=not self.fixes) if self.description else None
        found = _meaning(index, description)
        if not self.observations:
            found = without_observations(found)
        texts = tuple(
            instruction_of(attributes, index.fields, stamp.path) or self.instruction
            for stamp, attributes in zip(index.files, index.attributes, strict=True)
        )
        quirks = admit([*index.quirks, *_out_of_range(index, found)], self.tolerate)
        source = Hdf5Source(index, found, self.fixes, texts, quirks)
        if int(source.lengths.min()) < 1:
            number = int(source.lengths.argmin())
            where = f"data/{index.name(number)}"
            raise DataError(index.files[index.file(number)].path, where, expected="two steps or more", found="one")
        if self.observations and STATES in index.fields and not found.description.cameras:
            logger.warning("%s: simulator states only, no pictures: make them with: vla data render %s", path, path)
        return source


@dataclass(frozen=True)
class Hdf5Source:
    """Episodes of some files; what travels to a worker process is the index's path.

    Attributes:
        index: where everything lies.
        meaning: what it means.
        fixes: whether it is mended and canonical.
        instructions: one for each file.
        quirks: what is wrong and was read around.
        spec: shared by all episodes.
    """

    index: DemoIndex
    meaning: Meaning
    fixes: bool
    instructions: tuple[str, ...]
    quirks: tuple[Quirk, ...]
    spec: EmbodimentSpec = field(init=False)

    def __post_init__(self):
        description = self.meaning.description
        spec = description.embodiment(_sizes(self.index, self.meaning), fixes=self.fixes)
        if self.fixes and self.meaning.libero:
            spec = replace(spec, cameras=tuple(replace(camera, orientation="mirrored") for camera in spec.cameras))
        object.__setattr__(self, "spec", spec)

    @property
    def content(self) -> str:
        """Of the files' sizes and times, and of what they are read as."""
        facts = (self.index.files, self.meaning, self.fixes, self.instructions)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode."""
        first, last = self._dropped
        return np.maximum(np.asarray(self.index.lengths) - first - last - self._late, 0)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Episode:
        """One episode; its pictures stay in the file until asked for.

        Raises:
            IndexError: there are not so many.
            DataError: the file has changed or is damaged, or a number is not finite.
        """
        number = range(len(self))[number]
        description, index = self.meaning.description, self.index
        numbers = {name: self._numbers(number, name) for name in description.fields}
        if self.fixes and self.meaning.high < np.inf:
            numbers[ACTIONS] = np.clip(numbers[ACTIONS], self.meaning.low, self.meaning.high)
        state, action = description.columns(numbers, fixes=self.fixes)
        time = self._time(number)
        first, last = self._dropped
        seen = np.arange(first, len(action) - last - self._late)
        done = seen + self._late
        pictures = {}
        for camera, shown in zip(self._stored_cameras, self.spec.cameras, strict=True):
            array = index.array(number, self._camera_field[camera.name][0])
            frames = Frames(array, camera, shown, bgr=self._camera_field[camera.name][1])
            pictures[camera.name] = frames if len(seen) == len(frames) else ChosenFrames(frames, seen)
        file = index.files[index.file(number)].path
        return Episode(
            spec=self.spec,
            state=state[seen],
            action=action[done],
            images=pictures,
            time=time[done] - time[done[0]],
            instruction=self.instructions[index.file(number)],
            success=index.success(number),
            source=f"{Path(file).name}[{index.name(number)}]",
            info={"file": Path(file).name, "demo": index.name(number)},
        )

    def states(self, number: int) -> Float64[np.ndarray, "t s"]:
        """The simulator's flattened state before each stored action: time, positions, velocities.

        Raises:
            DataError: the files hold none, or a number is not finite.
        """
        if STATES not in self.index.fields:
            raise DataError(self._file(number), STATES, expected="the simulator's states", found="none")
        states = self.index.array(number, STATES).read().astype(np.float64)
        _check_finite(states, self._file(number), f"data/{self.index.name(number)}/{STATES}")
        return states

    def model_files(self, numbers: Iterable[int]) -> Generator[str]:
        """The simulator's models that episodes were made with, XML, one after the other.

        Raises:
            DataError: a file does not hold it, or is damaged.
        """
        with Sandbox() as sandbox:
            for number in numbers:
                yield sandbox.model_file(Path(self._file(number)), self.index.name(number))

    def is_libero(self, number: int) -> bool:
        """Whether an episode is of a LIBERO environment."""
        return is_libero(self.index.attributes[self.index.file(number)], self.index.fields)

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
        return self.meaning.description.embodiment(_sizes(self.index, self.meaning), fixes=False).cameras

    def _file(self, number: int) -> str:
        return self.index.files[self.index.file(number)].path

    def _numbers(self, number: int, name: str) -> Float32[np.ndarray, "t n"]:
        values = self.index.array(number, name).read().astype(np.float32)
        _check_finite(values, self._file(number), f"data/{self.index.name(number)}/{name}")
        return values.reshape(len(values), -1)

    def _time(self, number: int) -> Float64[np.ndarray, "t"]:
        """The simulator's own clock where the file has it and it runs forwards, else the control rate's [s]."""
        steps = int(self.index.lengths[number])
        if STATES in self.index.fields:
            clock = self.states(number)[:, 0]
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


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())


def _meaning(index: DemoIndex, description: Description | None) -> Meaning:
    """What all files mean alike.

    Raises:
        DataError: they differ, or a field is missing.
    """
    first = index.files[0].path
    if description:
        found = Meaning(description)
    else:
        each = [
            meaning(attributes, index.fields, _rate(index, number), stamp.path)
            for number, (stamp, attributes) in enumerate(zip(index.files, index.attributes, strict=True))
        ]
        found = each[0]
        for stamp, other in zip(index.files, each, strict=True):
            if other != found:
                expected = f"{found.description.robot} at {found.description.rate:g} Hz, the same as {Path(first).name}"
                raise DataError(stamp.path, "data, attributes", expected=expected, found=other.description.robot)
    widths = {name: int(np.prod(shape)) for name, (_, shape) in index.fields.items() if len(shape) < 2}
    found.description.check(widths, first)
    for camera in found.description.cameras:
        dtype, shape = index.fields.get(camera.field, ("nothing", ()))
        if dtype != "|u1" or len(shape) != 3 or shape[2] != 3:
            shown = f"{dtype} of shape {shape}"
            raise DataError(first, camera.field, expected="pictures, uint8 of shape (h, w, 3)", found=shown)
    return found


def _rate(index: DemoIndex, file: int) -> float | None:
    """Steps a second by the clock in a file's first states; None where there are no two of them."""
    demo = int(np.argmax(np.asarray(index._arrays["file"]) == file))
    if STATES not in index.fields or int(index.lengths[demo]) < 2:
        return None
    first, second = index.array(demo, STATES).read(0, 2)[:, 0]
    return round(1.0 / float(second - first), 6) if np.isfinite(second - first) and second > first else None


def _sizes(index: DemoIndex, found: Meaning) -> dict[str, tuple[int, int]]:
    shapes = {camera.name: index.fields[camera.field][1] for camera in found.description.cameras}
    return {name: (shape[0], shape[1]) for name, shape in shapes.items()}


def _out_of_range(index: DemoIndex, found: Meaning) -> list[Quirk]:
    """Demonstrations with actions that the controller cut off.

    Raises:
        DataError: an action is not finite.
    """
    quirks = []
    channels = [column for part in found.description.action for column in part.channels]
    for number in range(len(index)):
        file, where = index.files[index.file(number)].path, f"data/{index.name(number)}/{ACTIONS}"
        actions = index.array(number, ACTIONS).read().reshape(int(index.lengths[number]), -1)
        _check_finite(actions, file, where)
        outside = (actions < found.low - _SLACK) | (actions > found.high + _SLACK)
        steps = np.flatnonzero(outside.any(axis=1))
        if not len(steps):
            continue
        step, column = (int(place) for place in np.unravel_index(np.argmax(np.abs(actions)), actions.shape))
        channel = channels[column]
        worst = f"{actions[step, column]:.6g} in step {step}, channel {channel.name if channel else column}"
        quirks.append(
            Quirk(
                kind="actions-out-of-range",
                file=file,
                field=where,
                expected=f"numbers in [{found.low:g}, {found.high:g}]",
                found=f"{len(steps)} of {len(actions)} steps outside, the first is step {steps[0]}; worst {worst}",
                remedy="cut off as the controller did (--raw: kept as stored)",
            )
        )
    return quirks


def _check_finite(values: np.ndarray, file: str, where: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        place = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
        found = f"{values[place]} in step {int(place[0])}"
        raise DataError(file, where, expected="finite numbers", found=found)
