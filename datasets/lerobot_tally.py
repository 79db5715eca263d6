"""Collects what is wrong with a data set: each thing is one :class:`~vla.quirks.Quirk` however often it occurs."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from vla.quirks import Quirk

_SHOWN = 4  # episodes that a quirk lists by number


@dataclass
class Tally:
    """What was found so far, by kind and field; the first case speaks for all."""

    _first: dict[tuple[str, str], Quirk] = field(default_factory=dict)
    _episodes: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(
        self, kind: str, file: Path, where: str, *, expected: str, found: str, remedy: str, episode: int | None = None
    ) -> None:
        """One case.

        Args:
            kind: see :class:`~vla.quirks.Quirk`.
            file: where it is.
            where: field in it; cases of one kind and field become one quirk.
            expected: what the format asks for.
            found: what is there.
            remedy: what reading around it does.
            episode: number of the episode, if it is about one.
        """
        key = (kind, where)
        self._first.setdefault(key, Quirk(kind, str(file), where, expected, found, remedy))
        if episode is not None:
            self._episodes.setdefault(key, []).append(episode)

    def quirks(self) -> tuple[Quirk, ...]:
        """Each with the episodes that it concerns."""
        return tuple(replace(quirk, found=quirk.found + self._of(key)) for key, quirk in self._first.items())

    def _of(self, key: tuple[str, str]) -> str:
        episodes = sorted(self._episodes.get(key, ()))
        if not episodes:
            return ""
        shown = ", ".join(map(str, episodes[:_SHOWN]))
        more = f" and {len(episodes) - _SHOWN} more" if len(episodes) > _SHOWN else ""
        return f" (episode {shown}{more})"
