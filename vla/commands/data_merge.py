"""``vla data merge``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from vla.commands.mixtures import open_data
from vla.commands.target import TargetOptions


@dataclass(frozen=True)
class Merge:
    """Write several data sets of one embodiment, of any formats, as one; what differs is listed."""

    paths: Positional[tuple[str, ...]]
    """Folders, files or URLs of the data sets, in the order in which their episodes follow each other."""
    target: TargetOptions
    split: str = "train"
    """Part of each data set: a split that it has, or a slice of one, e.g. train[:90%]."""
    raw: bool = False
    """As stored, without the data sets' known fixes."""
    tolerate: tuple[str, ...] = ()
    """Kinds of quirks to read around, or: all."""
    description: tuple[Path, ...] = ()
    """Files that say what the fields of data sets mean (TOML) that are not known already, each for those it names."""

    def run(self, console: Console) -> dict[str, Any]:
        """Merge."""
        from vla.datasets.views import Concatenated
        from vla.errors import ConfigError

        if len(self.paths) < 2:
            raise ConfigError("merging takes at least two data sets")
        sources = open_data(
            self.paths, split=self.split, raw=self.raw, tolerate=self.tolerate, descriptions=self.description
        )
        return self.target.write({"train": Concatenated(tuple(sources))}, self.paths, console)
