"""Sources made of other sources: some of their episodes, several after each other, without no-ops, as another robot.

Each is an :class:`~vla.protocols.EpisodeSource` itself, so they nest; nothing is read before an episode is asked for,
except that leaving out no-ops looks once at the numbers of all episodes to know how long they become.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from jaxtyping import Float64, Int64

from vla.datasets.human_steps import taken
from vla.embodiment import ActionSpec, CameraSpec, EmbodimentSpec
from vla.errors import ConfigError, SpecMismatch
from vla.experience import Episode, Image
from vla.protocols import EpisodeSource
from vla.quirks import Quirk
from vla.transforms import VectorMap, action_map, reorient, vector_map

NOOP_THRESHOLD = 1e-4
LIBERO_UNIT = {"m": 0.05, "rad": 0.5}
"""What 1 means in the actions that the published filter was made for: LIBERO's raw ones, in [-1, 1]."""


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Chosen:
    """Some episodes of a source, in the order given.

    Attributes:
        source: all of them.
        episodes: their numbers.

    Raises:
        ConfigError: there is no episode of a number.
    """

    source: EpisodeSource
    episodes: tuple[int, ...]

    def __post_init__(self):
        count = len(self.source)
        missing = [number for number in self.episodes if not 0 <= number < count]
        if missing:
            raise ConfigError(f"episode {missing[0]} is not there: the source has {count}, counted from 0")

    @property
    def spec(self) -> EmbodimentSpec:
        """Of the source."""
        return self.source.spec

    @property
    def content(self) -> str:
        """Of the source and the choice."""
        return _digest("chosen", self.source.content, self.episodes)

    @property
    def quirks(self) -> tuple[Quirk, ...]:
        """Of the source."""
        return self.source.quirks

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode."""
        return np.asarray(self.source.lengths, np.int64)[np.array(self.episodes, np.int64)]

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> Episode:
        return self.source[self.episodes[index]]


@dataclass(frozen=True)
class Concatenated:
    """The episodes of several sources of one embodiment, after each other.

    Attributes:
        sources: at least one.

    Raises:
        ConfigError: there is no source.
        SpecMismatch: the embodiments differ; lists in what.
    """

    sources: tuple[EpisodeSource, ...]

    def __post_init__(self):
        if not self.sources:
            raise ConfigError("at least one source is needed")
        for number, source in enumerate(self.sources[1:], 2):
            differences = spec_differences(self.spec, source.spec)
            if differences:
                raise SpecMismatch(differences, have="the 1st source", want=f"source {number}")

    @property
    def spec(self) -> EmbodimentSpec:
        """Of all sources."""
        return self.sources[0].spec

    @property
    def content(self) -> str:
        """Of the sources in their order."""
        return _digest("concatenated", *(source.content for source in self.sources))

    @property
    def quirks(self) -> tuple[Quirk, ...]:
        """Of all sources."""
        return tuple(quirk for source in self.sources for quirk in source.quirks)

    @cached_property
    def _ends(self) -> Int64[np.ndarray, "n"]:
        return np.cumsum([len(source) for source in self.sources])

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode."""
        return np.concatenate([np.asarray(source.lengths, np.int64) for source in self.sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Episode:
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[number][index - (int(self._ends[number - 1]) if number else 0)]


@dataclass(frozen=True)
class WithoutNoops:
    """A source without steps in which nothing is done, as OpenVLA published the LIBERO data; times stay as they were.

    A step is left out if the norm of its motion numbers is below ``threshold`` and the gripper's are those of the last
    step kept (before the first one kept the gripper does not count). The norm is taken in the units of LIBERO's raw
    actions, 1 = 0.05 m and 1 = 0.5 rad, whatever the source's own are: 1e-4 is 5 micrometres. An episode of which no
    step is left is left out.

    Attributes:
        source: with delta actions.
        threshold: of the norm.

    Raises:
        ConfigError: the actions are not changes of position and rotation.
    """

    source: EpisodeSource
    threshold: float = NOOP_THRESHOLD

    def __post_init__(self):
        _noop_units(self.source.spec.action)

    @property
    def spec(self) -> EmbodimentSpec:
        """Of the source."""
        return self.source.spec

    @property
    def content(self) -> str:
        """Of the source and the threshold."""
        return _digest("without no-ops", self.source.content, self.threshold)

    @property
    def quirks(self) -> tuple[Quirk, ...]:
        """Of the source."""
        return self.source.quirks

    @cached_property
    def _kept(self) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Numbers of the episodes that have a step left, and how many each has."""
        counts = np.array([len(self._steps(self.source[number])) for number in range(len(self.source))], np.int64)
        episodes = np.flatnonzero(counts)
        return episodes, counts[episodes]

    def _steps(self, episode: Episode) -> Int64[np.ndarray, "n"]:
        return kept_steps(episode.action, episode.spec.action, self.threshold)

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps left of each episode."""
        return self._kept[1]

    def __len__(self) -> int:
        return len(self._kept[0])

    def __getitem__(self, index: int) -> Episode:
        episode = self.source[int(self._kept[0][index])]
        return taken(episode, self._steps(episode))


def kept_steps(action: np.ndarray, spec: ActionSpec, threshold: float = NOOP_THRESHOLD) -> Int64[np.ndarray, "n"]:
    """Numbers of the steps that are no no-ops.

    Args:
        action: Float32[t a].
        spec: what its numbers mean.
        threshold: see :class:`WithoutNoops`.

    Raises:
        ConfigError: the actions are not changes of position and rotation.
    """
    units = _noop_units(spec)
    moves = np.linalg.norm(action.astype(np.float64) * units, axis=1) >= threshold
    gripper = action[:, [channel.kind == "gripper" for channel in spec.channels]]
    kept: list[int] = []
    for step in range(len(action)):
        if moves[step] or (kept and not np.array_equal(gripper[step], gripper[kept[-1]])):
            kept.append(step)
    return np.array(kept, np.int64)


def _noop_units(spec: ActionSpec) -> Float64[np.ndarray, "a"]:
    """Factor from each stored number to LIBERO's raw unit; 0 for what is no motion."""
    motion = [channel.kind in ("position", "rotation") for channel in spec.channels]
    units = [channel.unit for channel, moves in zip(spec.channels, motion, strict=True) if moves]
    if spec.mode != "delta" or not units or set(units) - set(LIBERO_UNIT):
        raise ConfigError(f"no-ops are known only for changes of position [m] and rotation [rad], not {spec.names}")
    pairs = zip(spec.channels, motion, strict=True)
    return np.array([channel.scale / LIBERO_UNIT[channel.unit] if moves else 0.0 for channel, moves in pairs])


class Converted:
    """A source as another embodiment has it: channels reordered and scaled, rotations and grippers in another form,
    pictures turned and resized when they are looked at.

    Args:
        source: to convert.
        spec: wanted; cameras and channels that it does not name are left out.

    Raises:
        SpecMismatch: something differs that no conversion exists for.
    """

    def __init__(self, source: EpisodeSource, spec: EmbodimentSpec):
        self.source, self.spec = source, spec
        given, differences = source.spec, []
        self._state, found = vector_map(
            given.state, spec.state, source_rotation=given.state_rotation, target_rotation=spec.state_rotation
        )
        differences += [f"state: {line}" for line in found]
        self._action: VectorMap | None = None
        try:
            self._action = action_map(given.action, spec.action)
        except SpecMismatch as error:
            differences += [f"action: {line}" for line in error.differences]
        for camera in spec.camera_names:
            if camera not in given.camera_names:
                differences.append(f"camera {camera!r} is not among {', '.join(given.camera_names) or 'none'}")
        if given.action.rate != spec.action.rate:
            differences.append(f"rate: {given.action.rate} Hz here, {spec.action.rate} Hz there")
        if differences:
            raise SpecMismatch(differences, have=given.name, want=spec.name)

    @property
    def content(self) -> str:
        """Of the source and the spec."""
        return _digest("converted", self.source.content, self.spec.fingerprint)

    @property
    def quirks(self) -> tuple[Quirk, ...]:
        """Of the source."""
        return self.source.quirks

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode."""
        return self.source.lengths

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Episode:
        episode = self.source[index]
        assert self._action is not None
        return replace(
            episode,
            spec=self.spec,
            state=self._state(episode.state),
            action=self._action(episode.action),
            images=self._images(episode.images),
        )

    def _images(self, images: Mapping[str, Sequence[Image]]) -> dict[str, Sequence[Image]]:
        result = {}
        for camera in self.spec.cameras:
            given = self.source.spec.camera(camera.name)
            same = replace(given, role=camera.role, calibration=camera.calibration) == camera
            result[camera.name] = images[camera.name] if same else Reoriented(images[camera.name], given, camera)
        return result


@dataclass(frozen=True)
class Reoriented(Sequence[Image]):
    """Pictures as another camera stores them, each made when asked for.

    Attributes:
        frames: as they are.
        given: what they are.
        wanted: what they become.
    """

    frames: Sequence[Image]
    given: CameraSpec
    wanted: CameraSpec

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "Reoriented": ...
    def __getitem__(self, index: int | slice) -> "Image | Reoriented":
        """One picture, or fewer of them."""
        if isinstance(index, slice):
            return replace(self, frames=self.frames[index])
        return reorient(self.frames[index], self.given, self.wanted)


def spec_differences(first: EmbodimentSpec, second: EmbodimentSpec) -> list[str]:
    """One line for each field, channel or camera in which two embodiments differ."""
    lines = []
    for part, ours, theirs in (
        ("state", first.state, second.state),
        ("action", first.action.channels, second.action.channels),
        ("camera", first.cameras, second.cameras),
    ):
        there = {item.name: item for item in theirs}
        here = {item.name: item for item in ours}
        lines += [f"{part} {name!r} is only in the first" for name in here if name not in there]
        lines += [f"{part} {name!r} is only in the second" for name in there if name not in here]
        lines += [
            f"{part} {name!r}: {here[name]} in the first, {there[name]} in the second"
            for name in here
            if name in there and here[name] != there[name]
        ]
        if here == there and list(here) != list(there):
            lines.append(f"{part}: in order {', '.join(here)} in the first, {', '.join(there)} in the second")
    for name, ours, theirs in (
        ("name", first.name, second.name),
        ("state rotation", first.state_rotation, second.state_rotation),
        *((f"action {name}", getattr(first.action, name), getattr(second.action, name)) for name in _ACTION_FIELDS),
    ):
        if ours != theirs:
            lines.append(f"{name}: {ours} in the first, {theirs} in the second")
    return lines


_ACTION_FIELDS = ("mode", "frame", "rotation", "gripper", "rate")
