"""How far a long pass is: told to whoever asked, and a line in the log now and then."""

import logging
import time

from vla.protocols import Progress

_EVERY = 10.0  # seconds between lines
logger = logging.getLogger(__name__)


class Meter:
    """Counts up to a total.

    Args:
        what: for the log.
        total: units of work.
        told: called after each step; None if nobody asked.
    """

    def __init__(self, what: str, total: int, told: Progress | None):
        self._what, self._total, self._told, self._done = what, total, told, 0
        self._said = time.monotonic()

    def step(self, units: int = 1) -> None:
        """So much more is done."""
        self._done += units
        if self._told is not None:
            self._told(self._done, self._total)
        if time.monotonic() - self._said > _EVERY:
            logger.info("%s: %d of %d", self._what, self._done, self._total)
            self._said = time.monotonic()
