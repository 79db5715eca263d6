"""A policy server in a thread of the test's own process, and a policy simple enough to know its answers."""

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.errors import PolicyFault
from vla.experience import ActionChunk, Observation
from vla.serving import PolicyServer, ServerOptions

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

    def act(self, seen):
        self.asked += 1
        return self._answer(seen, seen.instruction or self.instruction, self.seed, self.asked - 1)

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


@contextlib.contextmanager
def served(policy, **options):
    """The server, with ``address`` to connect to; gone when the block ends."""
    server = PolicyServer(policy, ServerOptions(**{"port": 0, **options}), checkpoint="c0ffee")
    started, found = threading.Event(), {}

    async def run():
        found["stop"], found["loop"] = asyncio.Event(), asyncio.get_running_loop()
        try:
            await server.run(found["stop"], lambda host, port: (found.update(port=port), started.set()))
        finally:
            started.set()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(10) and "port" in found
    server.address = f"ws://127.0.0.1:{found['port']}"
    server.stop = lambda: found["loop"].call_soon_threadsafe(found["stop"].set)
    try:
        yield server
    finally:
        with contextlib.suppress(RuntimeError):  # the test stopped it already
            server.stop()
        thread.join(20)
        assert not thread.is_alive()
