"""How the driver reaches the arm: a request goes out, its answer comes back, or the connection is over."""

import contextlib
import itertools
import socket
from collections.abc import Callable
from typing import Any, Literal, NoReturn, Protocol

from vla import wire
from vla.errors import BodyFault, PolicyFault
from vla.robot_driver.mujoco_arm_desk import VERSION

Role = Literal["control", "monitor"]


class Asks(Protocol):
    """A connection to an arm that asks and is answered; the first failure is its last.

    Attributes:
        hello: what the arm said first.
    """

    hello: dict[str, Any]

    @property
    def lost(self) -> bool:
        """Whether the connection has failed or was closed."""
        ...

    def ask(self, op: str, *, timeout: float | None = None, **fields: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            BodyFault: the arm is gone, does not answer in time, or refuses.
            PolicyFault: it refuses an action.
        """
        ...

    def fail(self, reason: str) -> NoReturn:
        """Give the connection up.

        Raises:
            BodyFault: always.
        """
        ...

    def close(self, reason: str = "the connection was closed") -> None:
        """Hang up; the arm stops by itself. Safe to call more than once."""
        ...


def understood(answer: dict[str, Any], where: str, close: Callable[[str], None]) -> dict[str, Any]:
    """An arm's answer, unless it says no.

    Args:
        answer: what came.
        where: the arm is.
        close: gives the connection up.

    Raises:
        BodyFault: it refuses; if it has hung up, so do we.
        PolicyFault: it refuses an action.
    """
    error = answer.get("error")
    if error is None:
        return answer
    message = f"{where}: {answer.get('message')}"
    if error == "refused":  # it has hung up
        close(message)
    raise PolicyFault(message) if error == "policy" else BodyFault(message)


class Link:
    """:class:`Asks` over TCP.

    Args:
        address: host and port.
        role: ``"monitor"`` may read and stop, not move.
        timeout: an arm that does not answer within this is gone [s].

    Raises:
        BodyFault: nobody listens there, or the arm refuses.
    """

    def __init__(self, address: tuple[str, int], role: Role, *, timeout: float):
        self._timeout, self._ids = timeout, itertools.count(1)
        self._where = f"the arm at {address[0]}:{address[1]}"
        self._lost = ""
        try:
            self._socket = socket.create_connection(address, timeout=timeout)
        except OSError as error:
            raise BodyFault(f"{self._where} cannot be reached: {error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.hello = self.ask("hello", role=role, version=VERSION)

    @property
    def lost(self) -> bool:
        """Whether the connection has failed or was closed."""
        return bool(self._lost)

    def ask(self, op: str, *, timeout: float | None = None, **fields: Any) -> dict[str, Any]:
        """Send one request and wait for its answer; see :class:`Asks`.

        Raises:
            BodyFault: the arm is gone, does not answer in time, or refuses.
            PolicyFault: it refuses an action.
        """
        if self._lost:
            raise BodyFault(f"{self._where} is gone: {self._lost}")
        wait, identity = self._timeout if timeout is None else timeout, next(self._ids)
        try:
            wire.send(self._socket, {"op": op, "id": identity, **fields}, timeout=wait)
            answer = wire.receive(self._socket, timeout=wait)
        except wire.WireError as error:
            self.fail(str(error))
        if answer.get("id") != identity and answer.get("error") != "refused":
            self.fail(f"its answer is to request {answer.get('id')!r}, not to {identity}")
        return understood(answer, self._where, self.close)

    def fail(self, reason: str) -> NoReturn:
        """Give the connection up.

        Raises:
            BodyFault: always.
        """
        self.close(reason)
        raise BodyFault(f"{self._where} is gone: {reason}")

    def close(self, reason: str = "the connection was closed") -> None:
        """Hang up; the arm stops by itself. Safe to call more than once."""
        self._lost = self._lost or reason
        with contextlib.suppress(OSError):  # wakes whoever waits for an answer in another thread
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
