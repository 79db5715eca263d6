"""``vla data split``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from vla.commands.source import SourceOptions
from vla.commands.target import TargetOptions
from vla.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Deal the episodes out at random: RLDS gets splits, other formats a folder for each part."""

    source: SourceOptions
    target: TargetOptions
    parts: tuple[str, ...]
    """Names and shares, e.g. train=0.9 val=0.1; what they leave over is left out."""
    seed: int = 0
    """Names the order; the same seed gives the same parts."""

    def run(self, console: Console) -> dict[str, Any]:
        """Split."""
        from vla.datasets.views import Chosen

        source = self.source.open()
        dealt = deal(len(source), parse_shares(self.parts), self.seed)
        parts = {name: Chosen(source, episodes) for name, episodes in dealt.items()}
        return self.target.write(parts, (self.source.path,), console, folders=True)


def parse_shares(texts: Sequence[str]) -> dict[str, float]:
    """Shares by name.

    Raises:
        ConfigError: a text is not name=share, a name repeats, or the shares are not above 0 with a sum of at most 1.
    """
    shares: dict[str, float] = {}
    for text in texts:
        name, _, share = text.partition("=")
        try:
            value = float(share)
        except ValueError as error:
            raise ConfigError(f"parts are given as train=0.9, not as {text!r}") from error
        if not name.isidentifier() or name in shares or not value > 0:
            raise ConfigError(f"parts have different names and shares above 0, found {text!r}")
        shares[name] = value
    if not shares or sum(shares.values()) > 1 + 1e-9:
        raise ConfigError(f"parts have shares with a sum of at most 1, found {sum(shares.values()):g}")
    return shares


def deal(count: int, shares: Mapping[str, float], seed: int) -> dict[str, tuple[int, ...]]:
    """Numbers of the episodes of each part, each ascending.

    Raises:
        ConfigError: a part would have no episode.
    """
    order = np.random.default_rng(seed).permutation(count)
    ends = np.round(np.cumsum([0.0, *shares.values()]) * count).astype(int)
    parts = {
        name: tuple(sorted(order[first:last].tolist()))
        for name, first, last in zip(shares, ends[:-1], ends[1:], strict=True)
    }
    empty = [name for name, episodes in parts.items() if not episodes]
    if empty:
        raise ConfigError(f"part {empty[0]} would have none of the {count} episodes")
    return parts
