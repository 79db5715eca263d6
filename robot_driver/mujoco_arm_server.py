"""A simulated arm behind a socket, as a robot's controller is: one thread, physics and requests in turn.

::

    loop ┬─ servo: physics that is due, at most 8 steps (16 ms) at a time
         ├─ requests that have arrived, each answered by the desk (:mod:`vla.robot_driver.mujoco_arm_desk`)
         └─ sleep until something is due

One client controls, a second one is refused; a few more may watch. The arm brakes at once when its client's
connection ends, and after ``command_timeout`` when the client lives and says nothing.

Pictures are taken when asked for: a policy that looks every eighth step needs 5 of the 40 pictures a second that two
free-running cameras would draw, and without a GPU one costs as much as 50 ms of physics. State and pictures of one
answer are of the same instant and carry its time.
"""

import multiprocessing.connection
import selectors
import socket
import time
from dataclasses import dataclass, field

from vla import wire
from vla.robot_driver.mujoco_arm_desk import REQUEST_LIMIT, ArmDesk, Session
from vla.robot_driver.mujoco_arm_servo import Servo

_MAX_CLIENTS = 8
_NAP = 0.004  # [s]; two physics steps: half the wake-ups of one


@dataclass(eq=False)
class _Client:
    """One connection: bytes in, bytes out, and what it may do."""

    connection: socket.socket
    frames: wire.FrameBuffer = field(default_factory=lambda: wire.FrameBuffer(REQUEST_LIMIT))
    out: bytearray = field(default_factory=bytearray)
    session: Session = field(default_factory=Session)
    closing: bool = False


class ArmServer:
    """Serves one arm over TCP until told to end.

    Args:
        servo: the arm.
        listener: bound and listening.
        parent: a pipe whose end means that whoever started this is gone; None to run until killed.
    """

    def __init__(
        self, servo: Servo, listener: socket.socket, parent: multiprocessing.connection.Connection | None = None
    ):
        self.servo, self._desk = servo, ArmDesk(servo)
        self._listener, self._parent = listener, parent
        self._selector = selectors.DefaultSelector()
        self._clients: set[_Client] = set()
        self._end = False
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        if parent is not None:
            self._selector.register(parent, selectors.EVENT_READ, self._orphaned)

    def run(self) -> None:
        """Simulate and answer; returns when the parent is gone and the arm stands."""
        last = float("inf")
        while not (self._end and (self.servo.mode == "holding" or time.monotonic() > last)):
            lag = self.servo.advance()
            for key, events in self._selector.select(0.0 if lag > _NAP else _NAP - max(lag, 0.0)):
                key.data(events)
            if self._end and last == float("inf"):
                last = time.monotonic() + 1.0
        for client in list(self._clients):
            self._drop(client, "the arm is switched off")
        self._selector.close()

    def _orphaned(self, _: int) -> None:
        self._end = True
        self._selector.unregister(self._parent)  # pyright: ignore[reportArgumentType]
        self.servo.brake("the process that started the arm is gone")

    def _accept(self, _: int) -> None:
        connection, _address = self._listener.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, lambda events: self._serve(client, events))
        if len(self._clients) > _MAX_CLIENTS:
            self._refuse(client, f"{_MAX_CLIENTS} connections are open already")

    def _serve(self, client: _Client, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(client)
            if events & selectors.EVENT_READ and not client.closing:
                data = client.connection.recv(2**16)
                if not data:
                    self._drop(client, "the client closed its connection")
                    return
                for count, payload in enumerate(client.frames.feed(data)):
                    if count or client.out:  # so that no client can make the servo wait for a pile of requests
                        raise wire.WireError("one request at a time: the last answer was not read yet")
                    self._send(client, self._desk.answer(client.session, payload))
        except wire.WireError as error:
            self._refuse(client, str(error))
        except OSError as error:
            self._drop(client, f"the connection is gone: {error}")

    def _send(self, client: _Client, answer: bytes) -> None:
        client.out += wire.frame(answer)
        self._flush(client)

    def _flush(self, client: _Client) -> None:
        while client.out:
            try:
                sent = client.connection.send(client.out)
            except BlockingIOError:
                break
            del client.out[:sent]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.out else 0)
        self._selector.modify(client.connection, wanted, self._selector.get_key(client.connection).data)
        if client.closing and not client.out:
            self._drop(client, "refused")

    def _refuse(self, client: _Client, reason: str) -> None:
        """Say why, then close; a client that is out of step with the protocol is not listened to any further."""
        self._desk.leave(client.session, f"the client was dropped: {reason}")
        client.closing = True
        try:
            self._send(client, wire.pack({"error": "refused", "message": reason}))
        except OSError:
            self._drop(client, reason)

    def _drop(self, client: _Client, reason: str) -> None:
        if client not in self._clients:
            return
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()
        self._desk.leave(client.session, reason)
