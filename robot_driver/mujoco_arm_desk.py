"""What a client of the arm may ask and what it is told: bytes of one request in, bytes of its answer out.

No sockets: :mod:`vla.robot_driver.mujoco_arm_server` carries the bytes over TCP, and
:mod:`vla.robot_driver.mujoco_arm_lockstep` over a network that is simulated with the arm.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vla import wire
from vla.errors import BodyFault, PolicyFault, VlaError
from vla.robot_driver.mujoco_arm_servo import Servo

VERSION = 2
"""Of the requests and answers below; a client of another version is refused."""

REQUEST_LIMIT = 2**20
"""Largest request [bytes]: actions and scenes are small, pictures only travel the other way."""

_MONITOR = ("hello", "telemetry", "trace", "events", "succeeded", "estop", "release")


@dataclass(eq=False)
class Session:
    """One client, from its hello on."""

    role: str = ""
    number: int = -1  # of its last command


class ArmDesk:
    """Answers the clients of one arm, of whom one controls.

    Args:
        servo: the arm.
    """

    def __init__(self, servo: Servo):
        self.servo = servo
        self._control: Session | None = None

    def answer(self, session: Session, payload: bytes) -> bytes:
        """The answer to one request; it carries the request's ``id``.

        Raises:
            WireError: the request breaks the protocol; this client is not listened to any further.
        """
        request = wire.unpack(payload, limit=REQUEST_LIMIT)
        name = request.get("op")
        handler = self._handlers.get(name) if isinstance(name, str) else None
        if handler is None:
            raise wire.WireError(f"unknown request {name!r}; known: {', '.join(self._handlers)}")
        if not session.role and name != "hello":
            raise wire.WireError(f"{name} before hello")
        if session.role == "monitor" and name not in _MONITOR:
            raise wire.WireError(f"a monitor may not ask for {name}")
        try:
            answer = handler(self, session, request)
        except PolicyFault as fault:
            answer = {"error": "policy", "message": str(fault)}
        except BodyFault as fault:
            answer = {"error": "body", "message": str(fault)}
        except wire.WireError:
            raise
        except VlaError as error:
            answer = {"error": "request", "message": f"{type(error).__name__}: {error}"}
        identity = request.get("id")
        return wire.pack(answer | ({"id": identity} if isinstance(identity, int) else {}))

    def leave(self, session: Session, reason: str) -> None:
        """A client is gone or is shown the door; if it controlled the arm, that brakes."""
        session.role = ""
        if self._control is session:
            self._control = None
            self.servo.brake(reason, "client")

    def _hello(self, session: Session, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("version") != VERSION:
            raise wire.WireError(f"this arm speaks version {VERSION}, the client {request.get('version')!r}")
        role = request.get("role")
        if role not in ("control", "monitor"):
            raise wire.WireError(f"role {role!r} is neither control nor monitor")
        if role == "control":
            if self._control is not None:
                raise wire.WireError("another client controls the arm; one at a time")
            self._control = session
            self.servo.forget_client()
        session.role = role
        return {"spec": self.servo.spec.to_json(), "time": self.servo.time, "pid": os.getpid(), **self._scene()}

    def _observe(self, _: Session, request: dict[str, Any]) -> dict[str, Any]:
        return self.servo.observe(images=request.get("images") is True)

    def _command(self, session: Session, request: dict[str, Any]) -> dict[str, Any]:
        number = request.get("number")
        if not isinstance(number, int) or number <= session.number:
            self.servo.note("order", f"command {number!r} came after command {session.number}")
            raise wire.WireError(f"commands count up: number {number!r} came after {session.number}")
        session.number = number
        return {"sent": self.servo.command(request.get("action"), request.get("after"))}

    def _stop(self, _: Session, request: dict[str, Any]) -> dict[str, Any]:
        self.servo.brake("stop was asked for", "client")
        return {}

    def _estop(self, session: Session, request: dict[str, Any]) -> dict[str, Any]:
        self.servo.estop(str(request.get("reason", "no reason given"))[:200])
        return {}

    def _release(self, _: Session, request: dict[str, Any]) -> dict[str, Any]:
        self.servo.release()
        return {}

    def _reset(self, _: Session, request: dict[str, Any]) -> dict[str, Any]:
        scene = request.get("scene")
        if not isinstance(scene, dict):
            raise wire.WireError(f"a scene is a map, found {type(scene).__name__}")
        self.servo.reset(scene)
        return {"time": self.servo.time, **self._scene()}

    def _scene(self) -> dict[str, Any]:
        return {"instruction": self.servo.world.instruction, "max_steps": self.servo.world.max_steps}

    _handlers: dict[str, Callable[["ArmDesk", Session, dict[str, Any]], dict[str, Any]]] = {  # noqa: RUF012
        "hello": _hello,
        "observe": _observe,
        "command": _command,
        "stop": _stop,
        "estop": _estop,
        "release": _release,
        "reset": _reset,
        "succeeded": lambda self, *_: {"succeeded": bool(self.servo.world.succeeded())},
        "telemetry": lambda self, *_: self.servo.telemetry(),
        "trace": lambda self, *_: self.servo.trace(),
        "events": lambda self, *_: {"events": list(self.servo.events)},
    }
