"""Writes episodes as an RLDS data set that tensorflow-datasets opens, without TensorFlow.

::

    episode ─check─▶ pictures encoded (or passed through) ─▶ one record ─▶ shard, full at 128 MB ─▶ journal
                                                             finish: shards get their names, JSON files about them

Read back by ``tfds.builder_from_directory("<path>/<version>")`` or :mod:`vla.datasets.rlds`.
"""

import re
from pathlib import Path
from typing import Any, BinaryIO

from vla.datasets.embodiment_file import NAME, embodiment_text
from vla.datasets.episode_check import check_episode, info_text
from vla.datasets.manifest import MANIFEST, manifest_text, sum_of
from vla.datasets.partial_folder import PartialFolder
from vla.datasets.picture_writer import PictureEncoder, PictureStorage
from vla.datasets.rlds_layout import check_names, example_of, features_text, info_json, shard_name
from vla.datasets.tfrecord_writer import encode_example, write_record
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError
from vla.experience import Episode


class Writer:
    """An RLDS data set being written; it appears under its name only when it is complete.

    Use as a context manager: leaving it normally finishes. Leaving it by an error removes what was written so far, or,
    with a ``key``, keeps the finished shards for a writer with the same key, which then goes on at :attr:`episodes`.

    Attributes:
        episodes: how many are written, those of an earlier writer included.
        mark: what :meth:`add` was told with the last of them.

    Args:
        path: folder to make, ``.../<name>``; must not exist yet. The files go to ``.../<name>/<version>``.
        spec: embodiment that all episodes share.
        storage: ``image``: pictures that are JPEG or PNG as they were, others as PNG; ``jpeg``: all as JPEG.
        key: what is being written, from which data and with which options; None for a set that is not gone on with.
        version: three numbers.
        quality: of JPEG pictures.
        file_bytes: size from which a shard is full.

    Raises:
        ConfigError: the folder exists already, or a name or an option is none that TFDS takes.
        DataError: the folder cannot be made, or what was begun is damaged.
    """

    def __init__(
        self,
        path: Path,
        spec: EmbodimentSpec,
        storage: PictureStorage = "image",
        *,
        key: str | None = None,
        version: str = "1.0.0",
        quality: int = 95,
        file_bytes: int = 128 * 2**20,
    ):
        if storage not in ("image", "jpeg"):
            raise ConfigError(f"RLDS stores pictures as image or jpeg, not as {storage}")
        self.path, self.spec, self.version = Path(path), spec, version
        self.name = re.sub(r"\W+", "_", self.path.name, flags=re.ASCII).lower()
        check_names(spec, self.name, version)
        self._encoder = PictureEncoder(storage, quality)
        self._file_bytes = file_bytes
        self._file: BinaryIO | None = None
        self._split = ""
        self._rows: list[dict[str, Any]] = []  # of the shard being written
        self._bytes = 0
        self._partial = PartialFolder(self.path, key, self._close)
        self.episodes, self.mark = 0, ""
        for _, row in self._partial.rows():
            self.episodes += 1
            self._split, self.mark = row["split"], row["mark"]

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._partial.abandon()

    def add(self, episode: Episode, split: str = "train", *, mark: str = "") -> None:
        """Append one episode; its pictures are read once, in order.

        Args:
            episode: to append.
            split: part of the data set; one split's episodes follow each other.
            mark: what a writer that goes on after this episode gets to know as :attr:`mark`.

        Raises:
            DataError: the episode does not fit the spec, holds a number that is not finite, or the disk is full.
            ConfigError: the data set is finished already, or the split is none that TFDS takes, or was left before.
        """
        self._partial.check_open()
        where = f"episode {self.episodes}"
        check_episode(episode, self.spec, self.path, where)
        info = info_text(episode, self.path, where)
        with self._partial.guarded():
            self._enter_split(split)
            pictures = {
                camera.name: self._encoder.encode(
                    episode.images[camera.name],
                    (camera.height, camera.width),
                    self.path,
                    f"{where}: camera {camera.name}",
                )[0]
                for camera in self.spec.cameras
            }
            if self._file is None:
                self._file = self._shard(self._partial.commits).open("wb")
                self._bytes = 0
            data = encode_example(example_of(episode, info, pictures))
            self._bytes += write_record(self._file, data)
            self._rows.append({"split": split, "bytes": len(data), "mark": mark})
            self.episodes += 1
            self.mark = mark
            if self._bytes >= self._file_bytes:
                self._end_shard()

    def keep(self) -> None:
        """End the shard being written: from now on a writer with the same key goes on after the last episode.

        Raises:
            DataError: the disk is full.
        """
        if self._file is not None and not self._partial.over:
            with self._partial.guarded():
                self._end_shard()

    def finish(self) -> None:
        """Complete the data set and give it its name. Safe to call more than once.

        Raises:
            DataError: there is no episode, or the disk is full.
        """
        if self._partial.over:
            return
        with self._partial.guarded():
            if not self.episodes:
                raise DataError(self.path, "episodes", expected="at least one", found="none")
            self._end_shard()
            folder = self._partial.folder / self.version
            shards, sizes = self._shards()
            splits = {
                split: ([lengths[number] for number in sorted(lengths)], sizes[split])
                for split, lengths in shards.items()
            }
            texts = {
                "dataset_info.json": info_json(self.name, self.version, splits),
                "features.json": features_text(self.spec),
                NAME: embodiment_text(self.spec),
            }
            texts[MANIFEST] = manifest_text({name: sum_of(text.encode()) for name, text in texts.items()})
            for name, text in texts.items():
                (folder / name).write_bytes(text.encode())
            names = {
                _working_name(lot): shard_name(self.name, split, number, len(lots))
                for split, lots in shards.items()
                for number, lot in enumerate(sorted(lots))
            }
            self._partial.finish({f"{self.version}/{old}": f"{self.version}/{new}" for old, new in names.items()})

    def _shards(self) -> tuple[dict[str, dict[int, int]], dict[str, int]]:
        """For each split its shards' numbers with their records, and the bytes of all records."""
        shards: dict[str, dict[int, int]] = {}
        sizes: dict[str, int] = {}
        for lot, row in self._partial.rows():
            lengths = shards.setdefault(row["split"], {})
            lengths[lot] = lengths.get(lot, 0) + 1
            sizes[row["split"]] = sizes.get(row["split"], 0) + row["bytes"]
        return shards, sizes

    def _enter_split(self, split: str) -> None:
        if split == self._split:
            return
        if not re.fullmatch(r"[A-Za-z]\w*", split, flags=re.ASCII):
            raise ConfigError(f"TFDS takes names of letters, digits and _ for splits, not {split!r}")
        self._end_shard()
        if split in self._shards()[0]:
            raise ConfigError(f"split {split} was left before: the episodes of a split follow each other")
        self._split = split

    def _shard(self, number: int) -> Path:
        file = self._partial.folder / self.version / _working_name(number)
        file.parent.mkdir(exist_ok=True)
        return file

    def _end_shard(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        self._partial.commit([self._shard(self._partial.commits)], self._rows)
        self._rows = []

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


def _working_name(number: int) -> str:
    """Of a shard while nobody knows how many there will be."""
    return f"shard-{number:05d}"
