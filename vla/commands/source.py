"""Options that name a data set, shared by every command that reads one."""

from dataclasses import dataclass

from tyro.conf import Positional

from vla.protocols import EpisodeSource


@dataclass(frozen=True)
class SourceOptions:
    """Which episodes."""

    path: Positional[str]
    """Folder, file or URL (gs://, s3://, hf://) of a data set: RLDS/TFDS, LeRobot or HDF5."""
    split: str = "train"
    """Part of an RLDS data set; TFDS slices such as train[:90%] too."""
    raw: bool = False
    """As stored, without the data set's known fixes."""
    tolerate: tuple[str, ...] = ()
    """Kinds of quirks to read around, or: all."""

    def open(self) -> EpisodeSource:
        """The episodes.

        Raises:
            DataError: nothing reads the path, or the data set is damaged.
        """
        from vla.plugins import open_source

        return open_source(self.path, split=self.split, fixes=not self.raw, tolerate=self.tolerate)
