"""What is wrong with a data set but can be read around: reported precisely, and only read around when the user says so.

A reader collects :class:`Quirk` values while it opens a data set and hands them to :func:`admit` once. Damage that
cannot be read around is a :class:`~vla.errors.DataError` at once, and no quirk.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vla.errors import DataError

EVERY = "all"
"""In place of the kinds: read around whatever can be read around."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quirk:
    """One thing that is wrong.

    Attributes:
        kind: what the user names to have it read around, e.g. ``"missing-camera"``.
        file: path or URL.
        field: in it.
        expected: what the format asks for.
        found: what is there.
        remedy: what reading around it does, e.g. ``"the camera is left out"``.
    """

    kind: str
    file: str
    field: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.file}: {self.field}: expected {self.expected}, found {self.found}"


class QuirksFound(DataError):
    """Things are wrong that can be read around, and nobody said so; the message lists each of them and its kind.

    Args:
        quirks: those that were not tolerated, at least one.
    """

    def __init__(self, quirks: Sequence[Quirk]):
        self.quirks = tuple(quirks)
        first = self.quirks[0]
        super().__init__(first.file, first.field, expected=first.expected, found=first.found)
        lines = "".join(f"\n  - {quirk}; reading around it: {quirk.remedy}" for quirk in self.quirks)
        kinds = " ".join(dict.fromkeys(quirk.kind for quirk in self.quirks))
        self.args = (f"the data set has quirks:{lines}\nto read around them: --tolerate {kinds}",)

    def __reduce__(self):
        return QuirksFound, (self.quirks,)


def admit(quirks: Sequence[Quirk], tolerate: Collection[str]) -> tuple[Quirk, ...]:
    """The quirks if every kind of them is tolerated, each logged once.

    Args:
        quirks: what a reader found.
        tolerate: kinds to read around, or ``"all"``.

    Raises:
        QuirksFound: a kind is not among those tolerated.
    """
    if EVERY not in tolerate:
        refused = [quirk for quirk in quirks if quirk.kind not in tolerate]
        if refused:
            raise QuirksFound(refused)
    for quirk in quirks:
        logger.warning("%s; %s", quirk, quirk.remedy)
    return tuple(quirks)
