"""``vla data merge``."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from vla.commands.source import SourceOptions
from vla.commands.target import TargetOptions


@dataclass(frozen=True)
class Merge:
    """Write several data sets of one embodiment, of any formats, as one; what differs is listed."""

    paths: Positional[tuple[str, ...]]
    """Folders, files or URLs of the data sets, in the order in which their episodes follow each other."""
    target: TargetOptions
    split: str = "train"
    """Part of each RLDS data set."""
    raw: bool = False
    """As stored, without the data sets' known fixes."""
    tolerate: tuple[str, ...] = ()
    """Kinds of quirks to read around, or: all."""

    def run(self, console: Console) -> dict[str, Any]:
        """Merge."""
        from vla.datasets.views import Concatenated
        from vla.errors import ConfigError

        if len(self.paths) < 2:
            raise ConfigError("merging takes at least two data sets")
        options = (SourceOptions(path, self.split, self.raw, self.tolerate) for path in self.paths)
        return self.target.write({"train": Concatenated(tuple(each.open() for each in options))}, self.paths, console)
