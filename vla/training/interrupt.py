"""Ctrl-C as a request: the run saves a checkpoint and returns."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """While it is entered, the first Ctrl-C (or SIGTERM) is a request to stop; the second does what it usually does."""

    def __init__(self):
        self._asked = threading.Event()
        self._usual: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._usual = {number: signal.getsignal(number) for number in _SIGNALS}
            self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    @property
    def asked(self) -> bool:
        """Whether somebody wants the run to stop."""
        return self._asked.is_set()

    @contextmanager
    def usual(self) -> Iterator[None]:
        """In the block a signal does what it usually does: for work that nothing is lost of."""
        self._restore()
        try:
            yield
        finally:
            if not self.asked:
                self._listen()

    def _listen(self) -> None:
        for number in self._usual:
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self._asked.set()
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
