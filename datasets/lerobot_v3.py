"""LeRobot v3.0 data sets: many episodes in one Parquet file or MP4. Reading, and :class:`Writer`.

Reading needs no LeRobot and no torch: the tables are Parquet and JSON.
"""

from dataclasses import dataclass, field
from pathlib import Path

from vla.datasets.lerobot_listing import Tables, episodes_v3, tasks_v3
from vla.datasets.lerobot_mirror import version_at
from vla.datasets.lerobot_source import LeRobotSource, Options, open_lerobot
from vla.datasets.lerobot_video import Decoder
from vla.datasets.lerobot_writer import Writer
from vla.protocols import Progress

__all__ = ["LAYOUT", "Config", "LeRobotSource", "Writer", "accepts"]

LAYOUT = "a LeRobot v3.0 folder (meta/info.json, meta/episodes/ and data/), of the Hub: hf://datasets/USER/NAME"
VERSIONS = {"v3.0": Tables(episodes_v3, tasks_v3, "meta/stats.json")}


def accepts(path: str | Path) -> bool:
    """Whether the folder or URL is a LeRobot data set of this version, or of none that is known."""
    version = version_at(str(path))
    return version is not None and not version.startswith("v2.")


@dataclass(frozen=True)
class Config:
    """A LeRobot v3.0 data set.

    Attributes:
        path: folder that holds ``meta/`` and ``data/``, or an fsspec URL of one (``hf://datasets/user/name``).
        split: name of a range of episodes in info.json, or a part of it: ``train[:90%]``, ``train[10:20]``.
        fixes: mend what the description names and make actions canonical; off shows the data as stored.
        tolerate: kinds of quirks to read around, or ``"all"``.
        description: TOML file that says what the columns mean (:mod:`vla.datasets.description`); not needed for data
            sets that this project wrote.
        decoder: of videos; ``torchcodec`` where it is installed.
        cache: folder for indexes and downloads; by default ``$XDG_CACHE_HOME/vla`` or ``~/.cache/vla``.
        progress: told how much of the download or of the pass over the episodes is done and how much there is.
    """

    path: str | Path
    split: str = "train"
    fixes: bool = True
    tolerate: tuple[str, ...] = ()
    description: Path | None = None
    decoder: Decoder = "pyav"
    cache: Path | None = None
    progress: Progress | None = field(default=None, compare=False, repr=False)

    def make(self) -> LeRobotSource:
        """The episodes.

        Raises:
            DataError: the data set is damaged, of another version, or nobody says what its numbers mean.
            QuirksFound: something is wrong that can be read around, and it is not tolerated.
            UnknownName: there is no such split.
            ConfigError: the split is not written as it should be.
        """
        options = Options(
            split=self.split,
            fixes=self.fixes,
            tolerate=tuple(self.tolerate),
            description=self.description,
            decoder=self.decoder,
            cache=self.cache,
            progress=self.progress,
        )
        return open_lerobot(str(self.path), VERSIONS, options)
