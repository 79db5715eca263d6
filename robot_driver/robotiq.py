"""A Robotiq 2F gripper on a UR's wrist, through the text protocol that its URCap serves on port 63352.

**Not run on hardware.** Protocol: Robotiq, "2F-85 and 2F-140 Instruction Manual", control over the URCap's socket:
``SET name value`` is answered ``ack``, ``GET name`` is answered ``name value``; position 0 is open, 255 closed.
"""

import socket
import threading
import time

from vla.errors import BodyFault

PORT = 63352
_ACTIVE = 3
_POLL = 0.05  # [s]


class Robotiq:
    """The gripper; asked in a thread of its own, so that nobody waits for it.

    Args:
        host: of the UR.
        speed: 0 slow to 255 fast.
        force: 0 weak to 255 strong.

    Raises:
        BodyFault: it does not answer, or does not become active within 10 s.
    """

    def __init__(self, host: str, *, speed: int = 128, force: int = 32):
        self._where = f"the gripper at {host}:{PORT}"
        self._wanted: int | None = None
        self._told: int | None = None
        self._closed: float = 0.0
        self._lost = ""
        self._over = threading.Event()
        try:
            self._socket = socket.create_connection((host, PORT), timeout=1.0)
        except OSError as error:
            raise BodyFault(f"{self._where} cannot be reached: {error}") from error
        self._lines = self._socket.makefile("rb")
        self._activate(speed, force)
        self._thread = threading.Thread(target=self._run, name="gripper", daemon=True)
        self._thread.start()

    @property
    def opening(self) -> float:
        """Measured, 0 closed to 1 open.

        Raises:
            BodyFault: it no longer answers.
        """
        self._check()
        return 1.0 - self._closed

    def grip(self, opening: float) -> None:
        """Move to this, 0 closed to 1 open.

        Raises:
            BodyFault: it no longer answers.
        """
        self._check()
        self._wanted = round((1.0 - min(1.0, max(0.0, opening))) * 255)

    def close(self) -> None:
        """Hang up; the gripper stays as it is. Safe to call more than once."""
        self._over.set()
        self._thread.join(2.0)
        self._lines.close()
        self._socket.close()

    def _activate(self, speed: int, force: int) -> None:
        try:
            if self._get("STA") != _ACTIVE:
                self._set("ACT 0")
                self._set("ACT 1")
            end = time.monotonic() + 10.0
            while self._get("STA") != _ACTIVE:
                if time.monotonic() > end:
                    raise BodyFault(f"{self._where} does not become active")
                time.sleep(0.1)
            self._set(f"GTO 1 SPE {speed} FOR {force}")
            self._closed = self._get("POS") / 255
        except BodyFault:
            self._lines.close()
            self._socket.close()
            raise

    def _check(self) -> None:
        if self._lost:
            raise BodyFault(self._lost)

    def _run(self) -> None:
        try:
            while not self._over.wait(_POLL):
                wanted = self._wanted
                if wanted is not None and wanted != self._told:
                    self._set(f"POS {wanted}")
                    self._told = wanted
                self._closed = self._get("POS") / 255
        except BodyFault as error:
            self._lost = str(error)

    def _set(self, words: str) -> None:
        answer = self._ask(f"SET {words}")
        if answer != "ack":
            raise BodyFault(f"{self._where}: SET {words} was answered {answer!r}")

    def _get(self, name: str) -> int:
        answer = self._ask(f"GET {name}")
        given, _, value = answer.partition(" ")
        if given != name or not value.isdecimal():
            raise BodyFault(f"{self._where}: GET {name} was answered {answer!r}")
        return int(value)

    def _ask(self, words: str) -> str:
        try:
            self._socket.sendall(f"{words}\n".encode("ascii"))
            line = self._lines.readline(200)
        except OSError as error:
            raise BodyFault(f"{self._where} does not answer: {error}") from error
        if not line:
            raise BodyFault(f"{self._where} has hung up")
        return line.decode("ascii", "replace").strip()
