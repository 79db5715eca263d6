"""Options that name a data set, shared by every command that reads one."""

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from vla.datasets.lerobot_video import Decoder
from vla.protocols import EpisodeSource

VERSION = re.compile(r"\d+\.\d+\.\d+")
"""Folders that TFDS makes below a data set's own."""


@dataclass(frozen=True)
class SourceOptions:
    """Which episodes."""

    path: Positional[str]
    """Folder, file or URL (gs://, s3://, hf://) of a data set: RLDS/TFDS, LeRobot or HDF5."""
    split: str = "train"
    """Part of the data set: a split that it has, or a slice of one in TFDS's way, such as train[:90%] or train[5:]."""
    raw: bool = False
    """As stored, without the data set's known fixes."""
    tolerate: tuple[str, ...] = ()
    """Kinds of quirks to read around, or: all."""
    skip_broken: bool = False
    """Set records aside that are damaged, and say how many (RLDS)."""
    description: Path | None = None
    """File that says what the data set's fields mean (TOML), where that is not known already."""
    instruction: str = ""
    """Text for demonstrations whose files have none (HDF5)."""
    decoder: Decoder = "pyav"
    """What decodes videos (LeRobot)."""

    def open(self) -> EpisodeSource:
        """The episodes.

        Raises:
            DataError: nothing reads the path, or the data set is damaged.
            ConfigError: the data set's format does not have one of the options.
        """
        from rich.console import Console

        from vla.commands.progress import counted
        from vla.plugins import open_source

        options = ("skip_broken", "description", "instruction", "decoder")  # only some formats have them
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name in options and getattr(self, field.name) != field.default
        }
        with counted(Console(stderr=True), "indexing", "%") as told:
            return open_source(
                self.path,
                split=self.split,
                fixes=not self.raw,
                tolerate=self.tolerate,
                progress=lambda done, total: told(100 * done // max(1, total), 100),
                **given,
            )


def data_set_name(path: str) -> str:
    """The name of a data set's file or folder, of TFDS the one above the version."""
    parts = path.rstrip("/").split("/") if "://" in path else os.path.abspath(path).split("/")
    name = parts[-2] if len(parts) > 1 and VERSION.fullmatch(parts[-1]) else parts[-1]
    return name.removesuffix(".hdf5").removesuffix(".h5")
