"""Which examples of the endless order each batch of each process holds."""

import math
from dataclasses import dataclass

from vla.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One process's part: of every ``ranks`` examples in turn the one with number ``rank``.

    Ranks never share an example, together they leave none out, and the batches with one number of all ranks together
    hold the same examples as the batch of that number of one process with ``ranks`` times the size. So a run may go on
    with another number of ranks.

    Attributes:
        size: of this process's batches.
        rank: from 0.
        ranks: of all processes.

    Raises:
        ConfigError: there is no such rank.
    """

    size: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self):
        if not 0 <= self.rank < self.ranks:
            raise ConfigError(f"rank {self.rank} of {self.ranks} does not exist")
        if self.size < 1:
            raise ConfigError(f"batches hold at least one example, found {self.size}")

    def places(self, number: int) -> range:
        """Places in the order of the examples of batch ``number``."""
        if number < 0:
            raise IndexError(f"an endless order has no batch {number}")
        first = number * self.size * self.ranks + self.rank
        return range(first, first + self.size * self.ranks, self.ranks)


def shard_of(batch_size: int, accumulate: int, rank: int, ranks: int) -> Shard:
    """A rank's shard where ``accumulate`` batches of all ranks make one step of ``batch_size`` examples.

    Raises:
        ConfigError: the step's examples cannot be shared out evenly.
    """
    size, rest = divmod(batch_size, ranks * accumulate)
    if rest or not size:
        raise ConfigError(
            f"a batch_size of {batch_size} cannot be shared by {ranks} ranks in {accumulate} parts: "
            f"expected a multiple of {ranks * accumulate}"
        )
    return Shard(size, rank, ranks)


def extra_shard(share: float, batch_size: int, accumulate: int, rank: int, ranks: int) -> Shard:
    """A rank's shard of further examples, so many that they are ``share`` of a step's, rounded up to share evenly."""
    parts = ranks * accumulate
    size = max(1, math.ceil(share / (1 - share) * batch_size / parts - 1e-9))
    return Shard(size, rank, ranks)
