"""A policy behind a websocket, for openpi's clients and for :mod:`vla.policies.remote`.

::

    connect      ◀─ metadata: embodiment, fingerprint, the dialects' fields
    observation  ─▶ queue ─▶ policy ─▶ {"actions", "server_timing", "time", "dt"}
    {"reset": {"instruction", "seed", "fingerprint"}} ─▶ {"reset": True}: an episode begins, in the policy's own units
    observation with "left" and "delay" ─▶ a chunk that goes on from what is planned (real-time chunking)
    GET /healthz, GET /metrics

Frames are binary and hold openpi's msgpack (:mod:`vla.wire_openpi`); a text frame is an error. A request that does not
fit is answered and the connection stays; one that is no message, or that never ends, is answered and the connection
closed. Nothing is allocated for what a client only announces, and the policy runs in a thread of its own
(:mod:`vla.serving_thread`), so that a slow client or a slow policy keeps nobody else waiting.
"""

import asyncio
import hmac
import http
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from vla.dialect import PLAN, PROTOCOL, Dialect, FieldError, Planned, dialects_for, read_plan
from vla.errors import ConfigError, PolicyFault, SpecMismatch
from vla.protocols import Policy
from vla.serving_metrics import ServingMetrics
from vla.serving_options import ServerOptions
from vla.serving_thread import Answer, PolicyThread, Session, batch_size, continues
from vla.transforms import Adapter, connect
from vla.wire import WireError
from vla.wire_openpi import pack, unpack

MAX_FRAGMENTS = 1024
"""Of one message: empty ones cost nothing on the wire."""

log = logging.getLogger("vla.serving")


@dataclass
class _Client:
    """One connection's episode and language."""

    session: Session
    dialect: Dialect
    adapter: Adapter
    last_s: float | None = None


class PolicyServer:
    """Serves one policy; see the module's docstring.

    Args:
        policy: used by this server alone until :meth:`run` is over.
        options: see there.
        name: of the policy, for people.
        checkpoint: fingerprint of its weights.
    """

    def __init__(self, policy: Policy, options: ServerOptions, *, name: str = "policy", checkpoint: str = ""):
        self.options, self.spec, self.metrics = options, policy.spec, ServingMetrics()
        self.dialects = dialects_for(policy.spec)
        self._adapters = {name: connect(dialect.spec, policy.spec) for name, dialect in self.dialects.items()}
        self._limit = max(dialect.max_bytes for dialect in self.dialects.values())
        batch = batch_size(policy, options.max_batch)
        self._places = options.max_clients if batch > 1 else 1
        self._policy, self._clients, self._running, self._stopping = policy, 0, 0, False
        self.metadata: dict[str, Any] = {
            "protocol": PROTOCOL,
            "policy": name,
            "checkpoint": checkpoint,
            "embodiment": policy.spec.to_json(),
            "fingerprint": policy.spec.fingerprint,
            "continues": continues(policy, batch),
            "fields": {name: dialect.describe() for name, dialect in self.dialects.items()},
        }

    async def run(self, stop: asyncio.Event, ready: Callable[[str, int], None] = lambda host, port: None) -> None:
        """Serve until ``stop`` is set; running questions are answered, then connections closed.

        Args:
            stop: ends it.
            ready: told the address, once it accepts connections.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        self._thread = PolicyThread(self._policy, max_batch=self.options.max_batch)
        patience = self.options.message_s
        try:
            server = await self._listen()
            host, port = next(iter(server.sockets)).getsockname()[:2]
            ready(host, port)
            await stop.wait()
            self._stopping, end = True, time.monotonic() + patience
            while self._running and time.monotonic() < end:
                await asyncio.sleep(0.01)
            server.close()
            await asyncio.wait_for(server.wait_closed(), patience)
        except TimeoutError:
            log.warning("the policy did not answer within %g s after the end; it is left to itself", patience)
        finally:
            await asyncio.to_thread(self._thread.close, patience)

    async def _listen(self) -> Server:
        options = self.options
        try:
            return await serve(
                self._handle,
                options.host,
                options.port,
                ssl=options.tls(),
                process_request=self._admit,
                origins=[None],  # browsers send one: no web page may talk to a robot's policy
                compression=None,
                max_size=self._limit,
                max_queue=1,
                open_timeout=options.handshake_s,
                ping_interval=options.ping_s,
                ping_timeout=options.ping_s,
                close_timeout=options.message_s,
                server_header=None,
            )
        except OSError as error:
            raise ConfigError(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from error

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers GETs, and turns away whoever has no token, before any frame is read."""
        if request.path == "/healthz":
            if self._thread.alive:
                return connection.respond(http.HTTPStatus.OK, "OK\n")
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "the policy is gone\n")
        if not self._authorized(request):
            self.metrics.refused.labels("token").inc()
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Api-Key ...\n")
        if request.path == "/metrics":
            self.metrics.waiting.set(self._thread.waiting)
            return connection.respond(http.HTTPStatus.OK, self.metrics.text())
        if self._clients >= self._places:
            self.metrics.refused.labels("full").inc()
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"busy: {self._full()}; come back later\n")
        return None

    def _full(self) -> str:
        return "one client at a time" if self._places == 1 else f"{self._places} clients are connected"

    def _authorized(self, request: Request) -> bool:
        if self.options.token is None:
            return True
        given = request.headers.get_all("Authorization")
        kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        known = kind.lower() in ("api-key", "bearer")
        return hmac.compare_digest(token.encode(), self.options.token.encode()) and known

    async def _handle(self, connection: ServerConnection) -> None:
        if self._clients >= self._places:  # another one was quicker
            await connection.close(CloseCode.TRY_AGAIN_LATER, self._full())
            return
        self._clients += 1
        self.metrics.clients.inc()
        name = next(iter(self.dialects))
        client = _Client(Session(seed=self.options.seed), self.dialects[name], self._adapters[name])
        try:
            await connection.send(pack(self.metadata))
            while await self._serve_one(connection, client):
                pass
        except ConnectionClosed:
            pass  # a client may go at any time
        except TimeoutError:
            await connection.close(CloseCode.POLICY_VIOLATION, "too slow")
        except WireError as error:
            await connection.close(CloseCode.POLICY_VIOLATION, str(error))
        finally:
            self._clients -= 1
            self.metrics.clients.dec()

    async def _serve_one(self, connection: ServerConnection, client: _Client) -> bool:
        """Read a request and answer it; whether the connection goes on."""
        data = await self._receive(connection)
        self._running += 1
        try:
            code = await self._reply(connection, client, data)
        finally:
            self._running -= 1
        if code is None and self._stopping:
            code = CloseCode.GOING_AWAY
        if code is not None:
            await connection.close(code, "see the last frame" if code != CloseCode.GOING_AWAY else "stopped")
        return code is None

    async def _reply(self, connection: ServerConnection, client: _Client, data: str | bytes) -> CloseCode | None:
        """Answer a request; why the connection has to be closed, if it has."""
        begin, code = time.perf_counter(), None
        try:
            if not isinstance(data, bytes):
                raise WireError("requests are binary frames, found text")
            reply: str | bytes = pack(await self._answer(client, unpack(data, limit=self._limit)))
        except (FieldError, PolicyFault, ConfigError) as error:
            reply = self._error(error)
        except SpecMismatch as error:
            reply, code = self._error(error), CloseCode.POLICY_VIOLATION
        except WireError as error:
            reply, code = self._error(error), CloseCode.INVALID_DATA
        except Exception as error:
            log.exception("a request failed")
            reply, code = f"InternalError: {type(error).__name__}", CloseCode.INTERNAL_ERROR
            self.metrics.errors.labels("internal").inc()
        await asyncio.wait_for(connection.send(reply), self.options.message_s)
        client.last_s = time.perf_counter() - begin
        return code

    async def _receive(self, connection: ServerConnection) -> str | bytes:
        """One message, its fragments counted and its end waited for only so long.

        Raises:
            TimeoutError: nothing came for long, or a message was begun and not ended.
            WireError: it has too many fragments.
        """
        fragments = aiter(connection.recv_streaming())
        parts = [await asyncio.wait_for(anext(fragments), self.options.idle_s)]
        async with asyncio.timeout(self.options.message_s):
            async for part in fragments:
                parts.append(part)
                if len(parts) > MAX_FRAGMENTS:
                    raise WireError(f"a message has at most {MAX_FRAGMENTS} fragments")
        return parts[0] if len(parts) == 1 else type(parts[0])().join(parts)  # pyright: ignore

    async def _answer(self, client: _Client, message: dict[str, Any]) -> dict[str, Any]:
        if "reset" in message:
            return self._reset(client, message)
        session, planned = client.session, self._planned(client, message)
        seen = {field: value for field, value in message.items() if planned is None or field not in PLAN}
        observation = client.dialect.observation(seen, instruction=session.instruction)
        observation = client.adapter.observation(observation)
        answer = await asyncio.wrap_future(self._thread.submit(session, observation, planned))
        self.metrics.answered(answer)
        chunk = client.adapter.chunk(answer.chunk)
        timing = _timing(answer) | ({} if client.last_s is None else {"prev_total_ms": 1000 * client.last_s})
        return {"actions": chunk.actions, "time": chunk.time, "dt": chunk.dt, "server_timing": timing}

    def _planned(self, client: _Client, message: dict[str, Any]) -> Planned | None:
        """What the chunk is to go on from, if that is said."""
        if client.dialect.name != "native" or not set(PLAN) & set(message):
            return None
        return read_plan(message, self.spec.action.size)

    def _reset(self, client: _Client, message: dict[str, Any]) -> dict[str, Any]:
        """An episode begins, for a client that speaks the policy's own units."""
        reset = message["reset"]
        if set(message) != {"reset"} or not isinstance(reset, dict):
            raise FieldError("reset: expected a map, and no other field beside it")
        if unknown := sorted(map(str, set(reset) - {"instruction", "seed", "fingerprint"})):
            raise FieldError(f"reset: unknown field {unknown[0]!r}; known: fingerprint, instruction, seed")
        instruction, seed, theirs = (reset.get(key) for key in ("instruction", "seed", "fingerprint"))
        if not isinstance(instruction, str) or type(seed) is not int or not 0 <= seed < 2**63:
            raise FieldError("reset: expected an instruction (str) and a seed (int from 0)")
        if theirs != self.spec.fingerprint:
            line = f"fingerprint {str(theirs)[:40]} there, {self.spec.fingerprint} ({self.spec.name}) here"
            raise SpecMismatch([line], have="the client", want="the served policy")
        client.dialect, client.adapter = self.dialects["native"], self._adapters["native"]
        client.session.reset(instruction, seed)
        return {"reset": True}

    def _error(self, error: Exception) -> str:
        self.metrics.errors.labels(type(error).__name__).inc()
        return f"{type(error).__name__}: {error}"


def _timing(answer: Answer) -> dict[str, float]:
    """In openpi's unit, milliseconds."""
    return {"infer_ms": 1000 * answer.infer_s, "queue_ms": 1000 * answer.queue_s, "batch": answer.batch}
