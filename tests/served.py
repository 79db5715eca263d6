"""A policy server in a thread of the test's own process, a policy simple enough to know its answers, a bare client."""

import asyncio
import contextlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vla.dialect import native
from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.errors import PolicyFault
from vla.experience import ActionChunk, Observation
from vla.serving import PolicyServer
from vla.serving_options import ServerOptions
from vla.wire_openpi import pack, unpack

SPEC = EmbodimentSpec(
    "slider",
    (Channel("x", "m", "position"), Channel("y", "m", "position")),
    None,
    ActionSpec(
        (Channel("dx", "m", "position"), Channel("gripper", "1", "gripper", 0.0, 1.0)),
        "delta",
        "base",
        None,
        Gripper(),
        20.0,
    ),
    (CameraSpec("front", 8, 6), CameraSpec("hand", 4, 4)),
)

NATIVE = native(SPEC)
RESET = {"reset": {"instruction": "go", "seed": 3, "fingerprint": SPEC.fingerprint}}


def observation(x: float = 0.5, instruction: str = "go right", spec: EmbodimentSpec = SPEC, time: float = 1.25):
    images = {
        camera.name: np.arange(camera.height * camera.width * 3, dtype=np.uint8).reshape(camera.height, camera.width, 3)
        for camera in spec.cameras
    }
    return Observation(images, np.full(len(spec.state), x, np.float32), instruction, time)


@dataclass
class Known:
    """Answers with numbers that follow from the seed, the count of chunks, and what is seen; NaN where x is 13."""

    spec: EmbodimentSpec = SPEC
    horizon: int = 3
    takes: float = 0.0
    instruction: str = ""
    seed: int = 0
    asked: int = 0
    batches: list[int] = field(default_factory=list)

    def reset(self, instruction, *, seed):
        self.instruction, self.seed, self.asked = instruction, seed, 0

    def act(self, observation):
        self.asked += 1
        return self._answer(observation, observation.instruction or self.instruction, self.seed, self.asked - 1)

    def _answer(self, seen, instruction, seed, asked):
        if seen.state[0] == 13:
            raise PolicyFault("the policy returned nan in step 0, channel 0")
        if seen.state[0] == 14:
            raise ZeroDivisionError("a bug")
        random = np.random.default_rng([seed, asked, len(instruction)])
        actions = random.normal(size=(self.horizon, self.spec.action.size)).astype(np.float32)
        actions[:, 0] += seen.state[0] + sum(int(image.sum()) for image in seen.images.values()) / 1e4
        return ActionChunk(actions, seen.time, 1 / self.spec.action.rate)


class KnownTogether(Known):
    """The same for several at once."""

    def act_many(self, queries, size):
        assert 0 < len(queries) <= size
        self.batches.append(len(queries))
        time.sleep(self.takes)
        return [self._one(query) for query in queries]

    def _one(self, query):
        try:
            return self._answer(query.observation, query.observation.instruction, query.seed, query.number)
        except PolicyFault as fault:
            return fault


class Running:
    """A server in a thread.

    Attributes:
        address: to connect to.
    """

    def __init__(self, policy: Any, options: dict[str, Any]):
        self.server = PolicyServer(policy, ServerOptions(**{"port": 0, **options}), checkpoint="c0ffee")
        self.address, self._started = "", threading.Event()
        self.thread = threading.Thread(target=asyncio.run, args=(self._run(),))
        self.thread.start()
        assert self._started.wait(10) and self.address

    def stop(self) -> None:
        """Tell it to end."""
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _run(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        try:
            await self.server.run(self._stop, self._ready)
        finally:
            self._started.set()

    def _ready(self, host: str, port: int) -> None:
        self.address = f"ws://{host}:{port}"
        self._started.set()


@contextlib.contextmanager
def served(policy: Any, **options: Any) -> Iterator[Running]:
    """A running server; gone when the block ends."""
    running = Running(policy, options)
    try:
        yield running
    finally:
        with contextlib.suppress(RuntimeError):  # the test stopped it already
            running.stop()
        running.thread.join(20)
        assert not running.thread.is_alive()


class Client:
    """A websocket client that knows nothing of ours."""

    def __init__(self, server, **options):
        self.socket = connect(server.address, compression=None, proxy=None, close_timeout=2, **options).__enter__()
        self.metadata = self.read()

    def read(self) -> Any:
        data = self.socket.recv(timeout=10)
        return data if isinstance(data, str) else unpack(data, limit=2**24)

    def ask(self, message):
        self.socket.send(message if isinstance(message, bytes | str) else pack(message))
        return self.read()

    def closed(self):
        with pytest.raises(ConnectionClosed) as end:
            self.socket.recv(timeout=10)
        return end.value.rcvd.code if end.value.rcvd else None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()


def get(server, path, **headers):
    request = urllib.request.Request(server.address.replace("ws:", "http:") + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
