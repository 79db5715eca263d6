"""A Universal Robots controller without the robot, for ur-rtde and whatever else speaks RTDE: try a set-up at a desk.

::

    30004  RTDE version 2: protocol version, controller version, output and input recipes, start, pause, data packages
    29999  dashboard: version, serial number, remote control, program state, stop, protective stops
    30003  scripts (30002 too): ur-rtde's control script is recognised and acted for, see ``ur_emulated_arm``
    63352  a Robotiq gripper's text protocol

    python -m vla.robot_driver.ur_emulator --host 127.0.0.2

Ports are the controller's own, because clients do not ask for others; several emulators take several addresses of
127.0.0.0/8. It shows that a client and its driver work together, not how an arm moves: no dynamics, no collisions.

Protocol: Universal Robots, "Real-Time Data Exchange (RTDE) Guide"; dashboard: "Dashboard Server e-Series".
"""

import argparse
import selectors
import socket
import struct
import time
from dataclasses import dataclass, field

import numpy as np

from vla.errors import BodyFault
from vla.robot_driver import rtde_format
from vla.robot_driver.ur_emulated_arm import PERIOD, PLAYING, EmulatedArm
from vla.robot_driver.ur_kinematics import LENGTHS

RTDE, DASHBOARD, SCRIPTS, GRIPPER = 30004, 29999, (30003, 30002), 63352
VERSION = (5, 12, 0, 0)
"""Of the PolyScope it says it is."""

_MAX_SCRIPT = 2**20
_MAX_OUT = 2**18  # a client that reads nothing for a second is dropped


@dataclass(eq=False)
class _Client:
    """One connection to one of the ports."""

    connection: socket.socket
    port: int
    data: bytearray = field(default_factory=bytearray)
    out: bytearray = field(default_factory=bytearray)
    inputs: list[list[str]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    every: int = 1
    started: bool = False


class UrEmulator:
    """Serves one emulated arm on one address.

    Args:
        host: address to listen on; everybody who reaches it can move the (emulated) arm.
        arm: what stands behind.
        gripper: serve a gripper too.

    Raises:
        BodyFault: a port is in use.
    """

    def __init__(self, host: str = "127.0.0.1", arm: EmulatedArm | None = None, *, gripper: bool = True):
        self.arm = arm or EmulatedArm()
        self._selector = selectors.DefaultSelector()
        self._clients: set[_Client] = set()
        self._ticks = 0
        self._listeners: list[socket.socket] = []
        for port in (RTDE, DASHBOARD, *SCRIPTS, *([GRIPPER] if gripper else [])):
            try:
                listener = socket.create_server((host, port))
            except OSError as error:
                self.close()
                raise BodyFault(f"the emulator cannot listen on {host}:{port}: {error.strerror}") from error
            listener.setblocking(False)
            self._listeners.append(listener)
            self._selector.register(listener, selectors.EVENT_READ, port)

    def run(self, seconds: float = np.inf) -> None:
        """Serve in real time for so long [s]."""
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < seconds:
            behind = now - self._ticks * PERIOD
            if behind > 1.0:  # the machine stood still: as with a real controller, that time is gone
                begin += behind
                continue
            for _ in range(min(25, int(behind / PERIOD))):
                self._tick()
            self._serve(max(0.0, self._ticks * PERIOD + PERIOD - (time.monotonic() - begin)))

    def close(self) -> None:
        """Hang up everywhere. Safe to call more than once."""
        for client in list(self._clients):
            self._drop(client)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _tick(self) -> None:
        self.arm.step()
        self._ticks += 1
        due = [each for each in self._clients if each.started and self._ticks % each.every == 0]
        if due:
            values = self.arm.outputs()
            for client in due:
                self._say(client, rtde_format.encode("U", b"\x01" + rtde_format.packed(client.outputs, values)))

    def _serve(self, wait: float) -> None:
        for key, _ in self._selector.select(wait):
            if isinstance(key.data, _Client):
                self._hear(key.data)
            else:
                connection, _ = key.fileobj.accept()  # pyright: ignore[reportAttributeAccessIssue]
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client = _Client(connection, key.data)
                self._clients.add(client)
                self._selector.register(connection, selectors.EVENT_READ, client)
                if client.port == DASHBOARD:
                    self._say(client, b"Connected: Universal Robots Dashboard Server\n")

    def _hear(self, client: _Client) -> None:
        try:
            data = client.connection.recv(2**16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.data += data
        try:
            if client.port == RTDE:
                self._packages(client)
            elif client.port in SCRIPTS:
                self._script(client)
            else:
                self._lines(client)
        except (struct.error, UnicodeDecodeError, ValueError):
            self._drop(client)  # not the protocol: a controller hangs up as well

    def _packages(self, client: _Client) -> None:
        while len(client.data) >= 3:
            size, kind = struct.unpack_from(">HB", client.data)
            if not 3 <= size <= rtde_format.MAX_PACKAGE:
                raise ValueError(f"a package of {size} bytes")
            if len(client.data) < size:
                return
            body = bytes(client.data[3:size])
            del client.data[:size]
            answer = self._answer(client, chr(kind), body)
            if answer is not None:
                self._say(client, rtde_format.encode(chr(kind), answer))

    def _answer(self, client: _Client, kind: str, body: bytes) -> bytes | None:
        if kind == "V":
            return struct.pack("?", struct.unpack(">H", body)[0] == 2)
        if kind == "v":
            return struct.pack(">4I", *VERSION)
        if kind == "O":
            (rate,) = struct.unpack_from(">d", body)
            if not 1.0 <= rate <= 1 / PERIOD:
                raise ValueError(f"{rate} Hz")
            client.outputs, client.every = rtde_format.names_in(body[8:]), round(1 / PERIOD / rate)
            return b"\x01" + rtde_format.types_of(client.outputs)
        if kind == "I":
            client.inputs.append(rtde_format.names_in(body))
            return bytes([len(client.inputs)]) + rtde_format.types_of(client.inputs[-1])
        if kind in "SP":
            client.started = kind == "S" and bool(client.outputs)
            return struct.pack("?", client.started or kind == "P")
        if kind == "U":
            if not body or not 1 <= body[0] <= len(client.inputs):
                raise ValueError("values of a recipe that was not agreed on")
            self._write(client.inputs[body[0] - 1], body[1:])
        return None

    def _write(self, names: list[str], body: bytes) -> None:
        for name, values in zip(names, rtde_format.unpacked(names, body), strict=True):
            kind = rtde_format.TYPES[name]
            if kind == "INT32":
                self.arm.integers[name] = values[0]
            elif kind == "DOUBLE":
                self.arm.doubles[name] = values[0]
        self.arm.fed()

    def _script(self, client: _Client) -> None:
        text = client.data.decode("utf-8", "replace")
        if len(text) > _MAX_SCRIPT:
            raise ValueError("a script without an end")
        # a program ends with an unindented "end"; anything without "def" is a single line
        if text.rstrip("\r\n ").endswith("\nend") or ("def " not in text and text.endswith("\n")):
            client.data.clear()
            self.arm.upload(text)

    def _lines(self, client: _Client) -> None:
        while b"\n" in client.data:
            line, _, rest = bytes(client.data).partition(b"\n")
            client.data[:] = rest
            words = line.decode("ascii").strip()
            say = self._dashboard(words.lower()) if client.port == DASHBOARD else self._gripper(words)
            self._say(client, (say + "\n").encode("ascii"))
        if len(client.data) > rtde_format.MAX_PACKAGE:
            raise ValueError("a line without an end")

    def _dashboard(self, words: str) -> str:
        if words == "stop":
            self.arm.stop_program()
        if words == "unlock protective stop":
            self.arm.protective = False
        return {
            "polyscopeversion": "URSoftware " + ".".join(map(str, VERSION)),
            "get serial number": "20260000001",
            "get robot model": self.arm.model.upper(),
            "is in remote control": "true",
            "robotmode": "Robotmode: RUNNING",
            "safetystatus": f"Safetystatus: {'PROTECTIVE_STOP' if self.arm.protective else 'NORMAL'}",
            "running": f"Program running: {str(self.arm.runtime == PLAYING).lower()}",
            "programstate": "PLAYING rtde_control" if self.arm.runtime == PLAYING else "STOPPED rtde_control",
            "stop": "Stopped",
            "unlock protective stop": "Protective stop releasing",
            "quit": "Disconnected",
        }.get(words, f"could not understand: '{words[:60]}'")

    def _gripper(self, words: str) -> str:
        """Robotiq 2F: position 0 is open, 255 closed."""
        parts = words.split()
        if parts[:1] == ["SET"]:
            settings = dict(zip(parts[1::2], parts[2::2], strict=True))
            if "POS" in settings:
                self.arm.grip = 1 - min(255, max(0, int(settings["POS"]))) / 255
            return "ack"
        if parts[:1] == ["GET"] and len(parts) == 2:
            moves = abs(self.arm.grip - self.arm.opening) > 1e-3
            place = round((1 - self.arm.opening) * 255)
            known = {"POS": place, "STA": 3, "ACT": 1, "GTO": 1, "FLT": 0, "OBJ": 0 if moves else 3}
            if parts[1] in known:
                return f"{parts[1]} {known[parts[1]]}"
        return "?"

    def _say(self, client: _Client, data: bytes) -> None:
        client.out += data
        try:
            del client.out[: client.connection.send(client.out)]
        except BlockingIOError:
            if len(client.out) > _MAX_OUT:
                self._drop(client)
        except OSError:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client.connection)
            client.connection.close()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m vla.robot_driver.ur_emulator", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--model", default="ur5e", choices=sorted(LENGTHS))
    options = parser.parse_args()
    emulator = UrEmulator(options.host, EmulatedArm(options.model))
    print(
        f"an emulated {options.model} at {options.host}: vla robot check --robot ur --host {options.host}", flush=True
    )
    try:
        emulator.run()
    except KeyboardInterrupt:
        emulator.close()


if __name__ == "__main__":
    main()
