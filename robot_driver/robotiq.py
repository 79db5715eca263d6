"""A Robotiq 2F gripper on a UR's wrist, through the text protocol that its URCap serves on port 63352.

**Not run on hardware.** Protocol: Robotiq, "2F-85 and 2F-140 Instruction Manual", control over the URCap's socket:
``SET name value`` is answered ``ack``, ``GET name`` is answered ``name value``; position 0 is open, 255 closed.
"""

import socket
import time

from vla.errors import BodyFault

PORT = 63352
_ACTIVE = 3


class Robotiq:
    """The gripper.

    Args:
        host: of the UR.
        speed: 0 slow to 255 fast.
        force: 0 weak to 255 strong.

    Raises:
        BodyFault: it does not answer, or does not become active within 10 s.
    """

    def __init__(self, host: str, *, speed: int = 128, force: int = 32):
        self._where = f"the gripper at {host}:{PORT}"
        try:
            self._socket = socket.create_connection((host, PORT), timeout=1.0)
        except OSError as error:
            raise BodyFault(f"{self._where} cannot be reached: {error}") from error
        self._lines = self._socket.makefile("rb")
        try:
            self._activate(speed, force)
        except BodyFault:
            self.close()
            raise

    def read(self) -> float:
        """Measured opening, 0 closed to 1 open.

        Raises:
            BodyFault: it no longer answers.
        """
        return 1.0 - self._get("POS") / 255

    def move(self, opening: float) -> None:
        """Start to move to this, 0 closed to 1 open.

        Raises:
            BodyFault: it no longer answers.
        """
        self._set(f"POS {round((1.0 - opening) * 255)}")

    def close(self) -> None:
        """Hang up; the gripper stays as it is. Safe to call more than once."""
        self._lines.close()
        self._socket.close()

    def _activate(self, speed: int, force: int) -> None:
        if self._get("STA") != _ACTIVE:
            self._set("ACT 0")
            self._set("ACT 1")
        end = time.monotonic() + 10.0
        while self._get("STA") != _ACTIVE:
            if time.monotonic() > end:
                raise BodyFault(f"{self._where} does not become active")
            time.sleep(0.1)
        self._set(f"GTO 1 SPE {speed} FOR {force}")

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
