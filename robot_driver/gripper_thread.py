"""A gripper that is slow to answer, asked in a thread of its own, so that neither policy nor servo waits for it."""

import threading
from collections.abc import Callable

from vla.errors import BodyFault

_POLL = 0.05  # [s]


class GripperThread:
    """Reads a gripper again and again, and tells it the newest wish whenever that has changed.

    Args:
        name: for errors.
        read: its measured opening, 0 closed to 1 open.
        move: start to move to an opening.

    Whatever one of them raises, the gripper is lost then, and everybody who asks is told why: nobody is shown an old
    opening.

    Raises:
        BodyFault: of the first reading.
    """

    def __init__(self, name: str, read: Callable[[], float], move: Callable[[float], None]):
        self._read, self._move = read, move
        self._wanted: float | None = None
        self._lost = ""
        self._opening = read()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def opening(self) -> float:
        """Measured, 0 closed to 1 open.

        Raises:
            BodyFault: it no longer answers.
        """
        self._check()
        return self._opening

    def grip(self, opening: float) -> None:
        """Move to this, 0 closed to 1 open.

        Raises:
            BodyFault: it no longer answers.
        """
        self._check()
        self._wanted = min(1.0, max(0.0, opening))

    def close(self) -> None:
        """End the thread; the gripper stays as it is. Safe to call more than once."""
        self._over.set()
        self._thread.join(2.0)

    def _check(self) -> None:
        if self._lost:
            raise BodyFault(self._lost)

    def _run(self) -> None:
        told: float | None = None
        try:
            while not self._over.wait(_POLL):
                wanted = self._wanted
                if wanted is not None and wanted != told:
                    self._move(wanted)
                    told = wanted
                self._opening = self._read()
        except Exception as error:  # noqa: BLE001 - of a vendor's library; told to whoever asks next
            self._lost = str(error) if isinstance(error, BodyFault) else f"the gripper: {type(error).__name__}: {error}"
