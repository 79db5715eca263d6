"""LeRobot v2.0 and v2.1 data sets: one Parquet file and one MP4 of each camera an episode; reading only."""

from dataclasses import dataclass, field
from pathlib import Path

from vla.datasets.lerobot_listing import Tables, episodes_v2, tasks_v2
from vla.datasets.lerobot_mirror import version_at
from vla.datasets.lerobot_source import LeRobotSource, Options, open_lerobot
from vla.datasets.lerobot_video import Decoder
from vla.protocols import Progress

__all__ = ["LAYOUT", "Config", "accepts"]

LAYOUT = "a LeRobot v2.0 or v2.1 folder (meta/info.json, meta/episodes.jsonl and data/)"
VERSIONS = {
    "v2.0": Tables(episodes_v2, tasks_v2, "meta/stats.json"),
    "v2.1": Tables(episodes_v2, tasks_v2, "meta/episodes_stats.jsonl"),
}


def accepts(path: str | Path) -> bool:
    """Whether the folder or URL is a LeRobot data set of these versions."""
    return version_at(str(path)) in VERSIONS


@dataclass(frozen=True)
class Config:
    """A LeRobot v2.0 or v2.1 data set.

    Attributes:
        path: folder that holds ``meta/`` and ``data/``, or an fsspec URL of one (``hf://datasets/user/name``).
        split: name of a range of episodes in info.json, or a part of it: ``train[:90%]``, ``train[10:20]``.
        fixes: mend what the description names and make actions canonical; off shows the data as stored.
        tolerate: kinds of quirks to read around, or ``"all"``.
        description: TOML file that says what the columns mean (:mod:`vla.datasets.description`).
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
