"""One rank's part of an endless order of windows."""

from collections.abc import Iterable
from dataclasses import dataclass

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import Place, Window
from vla.protocols import WindowSource


@dataclass(frozen=True)
class Shard:
    """Of ``ranks`` processes the one with number ``rank`` draws the windows ``rank``, ``rank + ranks``... of a source.

    Ranks never share an index, together they leave none out, and batch n of all ranks together holds the same windows
    as batch n of one process with ``ranks`` times the batch size. A run may go on with another number of ranks.

    Attributes:
        source: the order that all ranks share.
        rank: from 0.
        ranks: of all processes.

    Raises:
        ConfigError: there is no such rank.
    """

    source: WindowSource
    rank: int
    ranks: int

    def __post_init__(self):
        if not 0 <= self.rank < self.ranks:
            raise ConfigError(f"rank {self.rank} of {self.ranks} does not exist")

    @property
    def specs(self) -> tuple[EmbodimentSpec, ...]:
        """Of the source."""
        return self.source.specs

    def __getitem__(self, index: int) -> Window:
        """The window at this rank's place in the order."""
        return self.source[self._of_all(index)]

    def place(self, index: int) -> Place:
        """Where the window of this rank's index comes from; reads nothing."""
        return self.source.place(self._of_all(index))

    def window(self, place: Place, *, images: bool = True) -> Window:
        """The window at a place; without ``images`` no picture is decoded."""
        return self.source.window(place, images=images)

    def frames(self) -> Iterable[Place]:
        """Every place that can be drawn, by any rank."""
        return self.source.frames()

    def _of_all(self, index: int) -> int:
        if index < 0:
            raise IndexError(f"an endless order has no index {index}")
        return index * self.ranks + self.rank
