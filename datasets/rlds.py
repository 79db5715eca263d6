"""Open X-Embodiment data in RLDS form (TFRecord), at random access and without TensorFlow.

::

    features.json ─tensorflow-datasets─▶ specification ─┐
    *.tfrecord-00000-of-00001 ──────one pass────────────┴▶ index (cached) ─▶ source[episode].images["image_0"][step]
                                                                             one read, one JPEG decoded
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Int32, Int64

from vla.datasets.array_file import read_meta
from vla.datasets.oxe.mapping import OxeMapping, oxe_mapping
from vla.datasets.picture import decode_picture
from vla.datasets.rlds_index import RldsIndex, cache_folder, rlds_index
from vla.datasets.rlds_specification import FEATURES, INFO, data_set_name
from vla.embodiment import EmbodimentSpec
from vla.errors import DataError, UnknownName
from vla.experience import Episode, Image
from vla.quirks import Quirk

LAYOUT = f"an RLDS folder ({FEATURES}, {INFO} and *.tfrecord-*)"


def accepts(path: str | Path) -> bool:
    """Whether the folder looks like RLDS."""
    return (Path(path) / FEATURES).is_file() and (Path(path) / INFO).is_file()


@dataclass(frozen=True)
class Config:
    """One split of an RLDS data set.

    Attributes:
        path: folder with features.json, usually ``.../<name>/<version>``.
        split: e.g. ``train``.
        cameras: names of the cameras to read; empty for all that the data set has.
        fixes: mend what is known to be wrong in the data set (Bridge: leave out the no-op first step); off shows the
            data as stored.
        cache: folder for the index; by default ``$XDG_CACHE_HOME/vla`` or ``~/.cache/vla``.
    """

    path: Path
    split: str = "train"
    cameras: tuple[str, ...] = ()
    fixes: bool = True
    cache: Path | None = None

    def make(self) -> "RldsSource":
        """The episodes of the split.

        Raises:
            DataError: the data set is damaged or does not match its specification.
            UnknownName: the data set, the split or a camera is not known.
        """
        folder = Path(self.path)
        name = data_set_name(folder)
        mapping = oxe_mapping(name)
        index = rlds_index(folder, self.split, mapping, Path(self.cache) if self.cache else cache_folder())
        for camera in self.cameras:
            if camera not in index.sizes:
                raise UnknownName(f"camera of {name}", camera, index.sizes)
        cameras = self.cameras or tuple(index.sizes)
        spec = mapping.embodiment(cameras, 1, 1)
        sized = tuple(
            dataclasses.replace(camera, height=index.sizes[camera.name][0], width=index.sizes[camera.name][1])
            for camera in spec.cameras
        )
        spec = dataclasses.replace(spec, cameras=sized)
        for what, found, expected in (
            ("state", index.state.shape[1], len(spec.state)),
            ("action", index.action.shape[1], spec.action.size),
        ):
            if found != expected:
                fields = ", ".join(getattr(mapping, what))
                channels = f"{expected} numbers, as {spec.name} has"
                raise DataError(folder / FEATURES, fields, expected=channels, found=str(found))
        return RldsSource(f"{name}/{self.split}", name, spec, index.file, self.fixes)


@dataclass(frozen=True)
class RldsSource:
    """Episodes of one split; what travels to a worker process is the index's path.

    Attributes:
        name: data set and split, for ``Episode.source``.
        data_set: name of the data set, for its mapping.
        spec: shared by all episodes.
        index_file: the index.
        fixes: whether the mapping's fixes are applied.
    """

    name: str
    data_set: str
    spec: EmbodimentSpec
    index_file: Path
    fixes: bool

    @property
    def quirks(self) -> tuple[Quirk, ...]:
        """None are read around."""
        return ()

    @property
    def content(self) -> str:
        """Of the index, the cameras and the fixes."""
        key = (read_meta(self.index_file), self.spec.fingerprint, self.fixes)
        return hashlib.sha256(repr(key).encode()).hexdigest()[:16]

    @cached_property
    def _index(self) -> RldsIndex:
        return RldsIndex.open(self.index_file)

    @cached_property
    def _mapping(self) -> OxeMapping:
        return oxe_mapping(self.data_set)

    @property
    def _dropped(self) -> int:
        return self._mapping.drop_first if self.fixes else 0

    @cached_property
    def _kept(self) -> Int64[np.ndarray, "n"]:
        """Numbers of the stored episodes that have a step left."""
        return np.flatnonzero(np.diff(self._index.starts) > self._dropped)

    @cached_property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode."""
        return (np.diff(self._index.starts) - self._dropped)[self._kept]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Episode:
        """One episode; its pictures stay in the file until asked for.

        Raises:
            IndexError: there are not so many.
        """
        stored, data = int(self._kept[index]), self._index
        steps = slice(int(data.starts[stored]) + self._dropped, int(data.starts[stored + 1]))
        state, action = np.array(data.state[steps]), np.array(data.action[steps])
        if self.fixes and self._mapping.fix is not None:
            state, action = self._mapping.fix((state, action))
        shard = data.shards[int(data.shard[stored])]
        images = {
            camera.name: EncodedFrames(
                shard,
                np.array(data.offsets[camera.name][steps]),
                np.array(data.lengths[camera.name][steps]),
                (camera.height, camera.width),
                f"episode {stored}, {camera.name}",
            )
            for camera in self.spec.cameras
        }
        texts = np.array(data.instruction[steps])
        changes = np.flatnonzero(np.diff(texts)) + 1
        info = {"instruction_changes": [[int(step), data.instructions[texts[step]]] for step in changes]}
        return Episode(
            spec=self.spec,
            state=state,
            action=action,
            images=images,
            time=np.arange(len(action)) / self.spec.action.rate,
            instruction=data.instructions[texts[0]],
            source=f"{self.name}[{stored}]",
            info=info if len(changes) else {},
        )

    def __reduce__(self):
        return RldsSource, (self.name, self.data_set, self.spec, self.index_file, self.fixes)


@dataclass(frozen=True)
class EncodedFrames(Sequence[Image]):
    """Pictures of one camera in one episode, decoded one by one.

    Attributes:
        file: where they lie.
        offsets: place of each [bytes].
        lengths: length of each [bytes].
        size: height and width [pixels].
        label: names them in errors.
    """

    file: Path
    offsets: Int64[np.ndarray, "t"]
    lengths: Int32[np.ndarray, "t"]
    size: tuple[int, int]
    label: str

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "EncodedFrames": ...
    def __getitem__(self, index: int | slice) -> "Image | EncodedFrames":
        """One picture, or some of them still encoded.

        Raises:
            DataError: the file has changed, or holds no picture there.
            IndexError: there are not so many.
        """
        if isinstance(index, slice):
            return dataclasses.replace(self, offsets=self.offsets[index], lengths=self.lengths[index])
        offset, length = int(self.offsets[index]), int(self.lengths[index])
        field = f"{self.label} at byte {offset}"
        try:
            descriptor = os.open(self.file, os.O_RDONLY)
            try:
                data = os.pread(descriptor, length, offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DataError(self.file, field, expected=f"{length} bytes", found=str(error)) from error
        if len(data) != length:
            found = f"only {len(data)}: the file changed after it was indexed"
            raise DataError(self.file, field, expected=f"{length} bytes", found=found)
        return decode_picture(data, *self.size, self.file, field)
