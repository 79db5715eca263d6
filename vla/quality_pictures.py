"""Checks of the cameras: blank, frozen while the robot moves, twice the same picture; some frames of some episodes.

Decoding everything takes hours where numbers take seconds, so a few frames are looked at, spread evenly; thoroughly,
all are.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from vla.errors import DataError
from vla.experience import Episode, Image
from vla.quality_findings import Finding, in_episode
from vla.quality_jumps import turn_sizes
from vla.quality_numbers import rotations

FLAT = 2.0
"""Standard deviation of all values [0 to 255] below which a picture shows nothing."""
DARK = 12
"""Value that 99 % of a dark picture's stay below."""
SAME = 0.35
"""Mean difference of values below which two pictures are the same one: what a video codec adds."""
MOVED_M, MOVED_RAD = 0.02, 0.15
"""Motion that every camera should show a trace of: of the hand, or of a joint."""
MIN_FROZEN = 3
"""Equal pictures in a row, during motion, that are not called frozen yet when all are looked at."""


@dataclass(frozen=True)
class Sampling:
    """How much is looked at.

    Attributes:
        frames: pictures of each camera and episode.
        episodes: at most so many, spread evenly; 0 for none.
        thorough: every picture of every episode.
    """

    frames: int = 6
    episodes: int = 200
    thorough: bool = False

    def chooses(self, place: int, count: int) -> bool:
        """Whether episode ``place`` of ``count`` is looked at."""
        if self.thorough or count <= self.episodes:
            return True
        return self.episodes > 0 and (place * self.episodes) // count != ((place - 1) * self.episodes) // count

    def steps(self, length: int) -> Int64[np.ndarray, "n"]:
        """The steps of an episode that are looked at."""
        if self.thorough or length <= self.frames:
            return np.arange(length)
        return np.unique(np.linspace(0, length - 1, self.frames).round().astype(np.int64))


class Cameras:
    """What the cameras of one set show.

    Args:
        episodes: number of episodes in the set.
        sampling: how much is looked at.
    """

    def __init__(self, episodes: int, sampling: Sampling):
        self._count, self._sampling = episodes, sampling
        self.looked_at = 0
        self.decoded = 0

    def episode(self, place: int, episode: Episode) -> Iterator[Finding]:
        """Look at one episode, or pass it over."""
        if not episode.images or not len(episode) or not self._sampling.chooses(place, self._count):
            return
        self.looked_at += 1
        steps = self._sampling.steps(len(episode))
        path = travelled(episode)
        prints: dict[str, dict[int, int]] = {}
        for camera, frames in episode.images.items():
            yield from self._camera(place, episode, camera, steps[steps < len(frames)], path, prints)
        yield from _twins(place, episode, prints)

    def finish(self) -> Iterator[Finding]:
        """Nothing more."""
        yield from ()

    def _camera(
        self,
        place: int,
        episode: Episode,
        camera: str,
        steps: Int64[np.ndarray, "n"],
        path: np.ndarray,
        prints: dict[str, dict[int, int]],
    ) -> Iterator[Finding]:
        flat: list[int] = []
        frozen: list[tuple[int, int]] = []
        last: tuple[int, Image] | None = None
        since = int(steps[0]) if len(steps) else 0
        for step in map(int, steps):
            try:
                picture = np.asarray(episode.images[camera][step])
            except DataError as error:
                expected = "a picture that can be decoded"
                yield in_episode("picture", "error", place, episode, np.array([step]), camera, expected, str(error))
                return
            self.decoded += 1
            if blank(picture):
                flat.append(step)
            else:
                prints.setdefault(camera, {})[step] = zlib.crc32(picture.tobytes())
            if last is None or not same(last[1], picture):
                since = step
            elif path[step] - path[since] > 1:
                if frozen and frozen[-1][0] == since:
                    frozen.pop()
                frozen.append((since, step))
            last = (step, picture)
        if flat:
            all_of_them = len(flat) == len(steps)
            found = f"blank in {len(flat)} of {len(steps)} pictures looked at"
            severity = "warning" if all_of_them else "error"
            look = ((camera, flat[0]),) if all_of_them else ((camera, flat[0]), (camera, _other(steps, flat)))
            where = np.array(flat)
            expected = "pictures that show something"
            yield in_episode("blank", severity, place, episode, where, camera, expected, found, look)
        for first, end in frozen:
            if first in flat or (self._sampling.thorough and end - first < MIN_FROZEN):
                continue
            found = f"the same picture from step {first} to {end} while the robot moves"
            run, look = np.arange(first, end + 1), ((camera, first), (camera, end))
            expected = "pictures that change with the robot"
            yield in_episode("frozen", "error", place, episode, run, camera, expected, found, look)


def blank(picture: Image) -> bool:
    """Whether it shows nothing: one colour all over, or darkness."""
    thin = picture[::2, ::2]
    return float(thin.reshape(-1, thin.shape[-1]).std(0).max()) < FLAT or float(np.percentile(thin, 99)) < DARK


def same(first: Image, second: Image) -> bool:
    """Whether two pictures are one, but for what a codec adds."""
    if first.shape != second.shape:
        return False
    difference = np.abs(first.astype(np.int16) - second)
    return float(difference.mean()) < SAME and float(np.percentile(difference, 99.9)) <= 6


def travelled(episode: Episode) -> np.ndarray:
    """How far the robot has moved by each step, 1 being enough to show in any picture."""
    spec = episode.spec
    scale = np.array([channel.scale for channel in spec.state])
    state = np.nan_to_num(episode.state.astype(np.float64) * scale, posinf=0.0, neginf=0.0)
    sizes: list[np.ndarray] = [np.zeros(max(0, len(state) - 1))]
    for kind, unit, enough in (("position", "m", MOVED_M), ("joint", "rad", MOVED_RAD)):
        columns = [i for i, channel in enumerate(spec.state) if (channel.kind, channel.unit) == (kind, unit)]
        if columns:
            sizes.append(np.abs(np.diff(state[:, columns], axis=0)).max(1) / enough)
    for columns in rotations(spec.state, spec.state_rotation):
        sizes.append(turn_sizes(state[:, columns], spec.state_rotation, steps=False) / MOVED_RAD)
    return np.concatenate([[0.0], np.cumsum(np.max(sizes, axis=0))])


def _twins(place: int, episode: Episode, prints: Mapping[str, Mapping[int, int]]) -> Iterator[Finding]:
    """Two cameras that show the same pictures."""
    seen: dict[tuple[int, ...], str] = {}
    for camera, values in prints.items():
        key = tuple(values.values())
        if key in seen and len(key) > 1:
            found = f"the same pictures as {seen[key]}"
            look = ((camera, next(iter(values))), (seen[key], next(iter(values))))
            expected = "a view of its own"
            yield in_episode("twin", "warning", place, episode, None, camera, expected, found, look)
        seen.setdefault(key, camera)


def _other(steps: Int64[np.ndarray, "n"], flat: list[int]) -> int:
    return next(int(step) for step in steps if int(step) not in flat)
