"""A policy that runs elsewhere, behind :mod:`vla.serving`, as a policy."""

import contextlib
import os
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_connection

from vla.dialect import PLAN, PROTOCOL, native
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk, Observation
from vla.wire import MAX_MESSAGE, WireError
from vla.wire_openpi import pack, unpack

TOKEN_VARIABLE = "VLA_TOKEN"
"""Environment variable with a server's token, for both sides: unlike an option, other users do not see it."""


class ServerLost(PolicyFault):
    """The server cannot be reached, did not answer in time, or closed the connection; a new episode connects again."""


class RemotePolicy:
    """Asks a server for chunks, in the units of the policy behind it; the same as that policy, bit for bit.

    An episode is bound to its connection: one that breaks ends the episode with :class:`ServerLost`, and the next
    :meth:`reset` connects anew.

    Args:
        config: see there.

    Raises:
        ServerLost: nobody answers.
        ConfigError: the address is none, the token is refused, or the server is none of ours.
        PolicyFault: what the server says first is no message.
    """

    def __init__(self, config: "Config"):
        self.config = config
        self._connection: ClientConnection | None = None
        self._until_closed = contextlib.ExitStack()
        self.metadata: dict[str, Any] = {}
        self.timing: dict[str, float] = {}
        self._connect()
        try:
            self._spec = EmbodimentSpec.from_json(self.metadata["embodiment"])
        except ConfigError:
            self.close()
            raise
        self._dialect = native(self._spec)

    @property
    def spec(self) -> EmbodimentSpec:
        """Of the policy behind the server."""
        return self._spec

    @property
    def fingerprint(self) -> str:
        """Of the weights behind the server."""
        return self.metadata["checkpoint"]

    @property
    def continues(self) -> bool:
        """Whether the policy behind the server does, and is served to one client at a time."""
        return self.metadata.get("continues") is True

    def reset(self, instruction: str, *, seed: int) -> None:
        """Begin an episode there, connecting again if need be.

        Raises:
            ServerLost: nobody answers.
            ConfigError: other weights are served there now.
            PolicyFault: a policy of another embodiment is.
        """
        reset = {"instruction": instruction, "seed": seed, "fingerprint": self._spec.fingerprint}
        if self._connection is not None:
            try:
                self._ask({"reset": reset})
                return
            except ServerLost:
                pass  # it was lost between two episodes: nothing is
        before = self.fingerprint
        self._connect()
        if self.fingerprint != before:
            raise ConfigError(
                f"{self.config.address}: checkpoint {before} before, {self.fingerprint} after reconnecting"
            )
        self._ask({"reset": reset})

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk from the server.

        Raises:
            ServerLost: the connection broke, or no answer came in time.
            PolicyFault: the observation does not fit, or the policy failed.
        """
        return self._chunk(self._dialect.message(observation))

    def act_continuing(self, observation: Observation, left: Float32[np.ndarray, "k a"], delay: int) -> ActionChunk:
        """A chunk that goes on from a plan; see :class:`~vla.asynchronous.ContinuingPolicy`.

        Raises:
            ServerLost: as :meth:`act`.
            PolicyFault: as :meth:`act`; the served policy cannot do that, or is shared between clients.
        """
        return self._chunk(self._dialect.message(observation) | dict(zip(PLAN, (left, delay), strict=True)))

    def _chunk(self, message: dict[str, Any]) -> ActionChunk:
        answer = self._ask(message)
        try:
            actions, self.timing = answer["actions"], answer.get("server_timing", {})
            if actions.dtype != np.float32 or actions.shape[1:] != (self._spec.action.size,):
                raise TypeError(f"actions are {actions.dtype} {list(actions.shape)}")
            return ActionChunk(actions.copy(), float(answer["time"]), float(answer["dt"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PolicyFault(f"{self.config.address}: the answer holds no chunk: {error}") from error

    def close(self) -> None:
        """Disconnect. Safe to call more than once."""
        self._connection = None
        self._until_closed.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        address, timeout = self.config.address, self.config.timeout
        if self._connection is None:
            raise ServerLost(f"{address}: the connection was lost; it is opened again when an episode begins")
        data = pack(message)
        try:
            self._connection.send(data)
            reply = self._connection.recv(timeout=timeout)
        except TimeoutError as error:
            self.close()  # its answer would be taken for that to the next question
            raise ServerLost(f"{address}: no answer within {timeout:g} s") from error
        except (ConnectionClosed, OSError) as error:
            self.close()
            raise ServerLost(f"{address}: the connection was lost: {error}") from error
        except BaseException:
            self.close()  # Ctrl-C while it was waited for: the same
            raise
        if isinstance(reply, str):
            raise PolicyFault(f"{address}: {reply}")
        return self._unpack(reply)

    def _unpack(self, data: bytes) -> dict[str, Any]:
        try:
            return unpack(data, limit=MAX_MESSAGE)
        except WireError as error:
            self.close()
            raise PolicyFault(f"{self.config.address}: the answer is malformed: {error}") from error

    def _connect(self) -> None:
        """Open the connection, trying again until the time for it is over, and read who is there."""
        self.close()
        end = time.monotonic() + self.config.connect_timeout
        while True:
            try:
                self._connection = self._open(max(0.1, end - time.monotonic()))
                break
            except InvalidStatus as error:
                self._refused(error, end)
            except (OSError, InvalidHandshake, EOFError) as error:  # a time-out is an OSError
                if time.monotonic() >= end or isinstance(error, ssl.SSLError):
                    raise ServerLost(f"{self.config.address}: cannot connect: {error}") from error
            time.sleep(min(0.2, max(0.0, end - time.monotonic())))
        try:
            first = self._connection.recv(timeout=self.config.connect_timeout)
        except (TimeoutError, ConnectionClosed, OSError) as error:
            self.close()
            raise ServerLost(f"{self.config.address}: connected, but nobody introduced itself: {error}") from error
        self.metadata = self._unpack(first) if isinstance(first, bytes) else {}
        found, kinds = self.metadata.get("protocol", "none"), {"embodiment": dict, "checkpoint": str}
        missing = [key for key, kind in kinds.items() if not isinstance(self.metadata.get(key), kind)]
        if found != PROTOCOL or missing:
            self.close()
            found = found if found != PROTOCOL else f"one that does not say its {missing[0]}"
            raise ConfigError(
                f"{self.config.address}: expected a server of vla serve, protocol {PROTOCOL}, found {found}"
            )

    def _open(self, timeout: float) -> ClientConnection:
        config = self.config
        trust = None
        if config.certificate is not None:
            try:
                trust = ssl.create_default_context(cafile=str(config.certificate))
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{config.certificate}: {error}") from error
        token = config.token or os.environ.get(TOKEN_VARIABLE)
        headers = {"Authorization": f"Api-Key {token}"} if token else None
        try:
            opened = open_connection(
                config.address,
                ssl=trust,
                additional_headers=headers,
                compression=None,
                max_size=MAX_MESSAGE,
                open_timeout=timeout,
                close_timeout=1.0,
                proxy=None,
            )
            return self._until_closed.enter_context(opened)
        except InvalidURI as error:
            raise ConfigError(f"{config.address} is no address; expected ws://host:port or wss://host:port") from error

    def _refused(self, error: InvalidStatus, end: float) -> None:
        """Tell apart who will never be let in and who has to wait."""
        status = error.response.status_code
        said = (error.response.body or b"").decode(errors="replace").strip()
        if status in (401, 403):
            raise ConfigError(f"{self.config.address}: refused: {said}") from error
        if time.monotonic() >= end:
            raise ServerLost(f"{self.config.address}: refused with status {status}: {said}") from error


@dataclass(frozen=True)
class Config:
    """A policy behind ``vla serve``.

    Attributes:
        address: ``ws://host:port``, or ``wss://`` for TLS.
        token: that the server asks for; None for what the environment has as ``VLA_TOKEN``.
        certificate: PEM file of who signed the server's, if that is nobody known.
        timeout: for an answer [s].
        connect_timeout: for a connection, tried again and again meanwhile [s].
    """

    address: str
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    timeout: float = 10.0
    connect_timeout: float = 10.0

    def make(self) -> RemotePolicy:
        """Connect.

        Raises:
            ServerLost: nobody answers.
            ConfigError: a setting is out of range, the token is refused, or the server is none of ours.
            PolicyFault: what the server says first is no message.
        """
        if not (self.timeout > 0 and self.connect_timeout > 0):
            raise ConfigError("time limits are above 0 s")
        return RemotePolicy(self)
