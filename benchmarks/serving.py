"""What does serving a policy cost beyond the policy's own time, and is anybody starved when 50 clients ask at once?

A policy that sleeps for a fixed time stands behind our server and behind openpi's own (``openpi-server`` from PyPI with
its pinned NumPy 1, in an environment made with uv on first use), each in a process of its own. The same client asks
both in turns with LIBERO's observation (two pictures of 224 pixels, openpi's field names):

* one client: round trip minus the ``infer_ms`` that the server reports; medians over the rounds of p50 and p99;
* 50 clients for some seconds: answers a client (fewest, median, most) and, for ours, the time in the queue apart from
  the overhead. openpi's server answers one at a time and does not measure its queue; ours answers up to 8 together.

All run at real-time priority where that is allowed, or whoever else uses the machine would be measured.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import connect

from vla.embodiments.libero_panda import libero_panda
from vla.experience import ActionChunk
from vla.wire_openpi import pack, unpack

TAKES_S = 0.02
ROUNDS, ASKED, WARM = 7, 150, 20
CLIENTS, LASTS_S = 50, 8.0
REQUEST = pack(
    {
        "observation/image": np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8),
        "observation/wrist_image": np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8),
        "observation/state": np.zeros(8),
        "prompt": "pick up the black bowl",
    }
)


class Sleeper:
    """A policy that takes a fixed time for any number of questions."""

    spec = libero_panda(224)

    def reset(self, instruction: str, *, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Any) -> ActionChunk:
        """A chunk of zeros."""
        time.sleep(TAKES_S)
        return ActionChunk(np.zeros((16, 7), np.float32), observation.time, 0.05)

    def act_many(self, queries: Any, size: int) -> list[ActionChunk]:
        """Chunks of zeros."""
        time.sleep(TAKES_S)
        return [ActionChunk(np.zeros((16, 7), np.float32), query.observation.time, 0.05) for query in queries]


def serve() -> None:
    """The process with our server."""
    from vla.serving import PolicyServer
    from vla.serving_options import ServerOptions

    server = PolicyServer(Sleeper(), ServerOptions(port=0))
    asyncio.run(server.run(asyncio.Event(), lambda host, port: print(port, flush=True)))


def openpi_python() -> Path:
    """The interpreter of an environment with openpi's client and server."""
    environment = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vla-stack" / "openpi"
    python = environment / "bin" / "python"
    if not python.exists():
        base = Path(sys.base_prefix) / "bin" / "python3"
        subprocess.run(["uv", "venv", "-q", "--clear", "--python", str(base), str(environment)], check=True)
        packages = ["openpi-client==0.1.2", "openpi-server==0.1.0"]
        subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), *packages], check=True)
    return python


@contextmanager
def running(*command: str) -> Iterator[str]:
    """A server process, as an address."""
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as server:
        try:
            assert server.stdout
            yield f"ws://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def one_client(address: str) -> np.ndarray:
    """Overheads of one round [ms]."""
    overheads = []
    with _patiently(address) as connection:
        connection.recv()
        for _ in range(WARM + ASKED):
            begin = time.perf_counter()
            connection.send(REQUEST)
            answer = unpack(_bytes(connection.recv()), limit=2**20)
            overheads.append(1000 * (time.perf_counter() - begin) - answer["server_timing"]["infer_ms"])
    return np.array(overheads[WARM:])


def _patiently(address: str) -> Any:
    for _ in range(50):  # the peer prints its port before it listens
        try:
            return connect(address, compression=None, max_size=None, proxy=None)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise TimeoutError(address)


async def many_clients(address: str) -> dict[str, Any]:
    """Clients that each ask again as soon as they are answered."""
    counts, queued, overheads = [0] * CLIENTS, [], []
    end = time.monotonic() + LASTS_S

    async def client(number: int) -> None:
        async with connect_async(address, compression=None, max_size=None, proxy=None) as connection:
            await connection.recv()
            while time.monotonic() < end:
                begin = time.perf_counter()
                await connection.send(REQUEST)
                timing = unpack(_bytes(await connection.recv()), limit=2**20)["server_timing"]
                counts[number] += 1
                if "queue_ms" in timing:
                    queued.append(timing["queue_ms"])
                    took = 1000 * (time.perf_counter() - begin)
                    overheads.append(took - timing["queue_ms"] - timing["infer_ms"])

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    result: dict[str, Any] = {"answers": sum(counts), "fewest": min(counts), "most": max(counts)}
    result["median"] = statistics.median(counts)
    if queued:
        result["queue_ms"] = _quantiles(np.array(queued))
        result["overhead_ms"] = _quantiles(np.array(overheads))
    return result


def _bytes(data: str | bytes) -> bytes:
    if isinstance(data, str):
        raise RuntimeError(data)
    return data


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {name: round(float(np.percentile(values, at)), 2) for name, at in (("p50", 50), ("p99", 99), ("max", 100))}


def take_priority() -> str:
    """Ask for real-time scheduling, which processes started from here inherit; says what it is now."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return "normal"
    return "real time"


def main() -> None:
    here = Path(__file__)
    priority = take_priority()
    peer = [str(openpi_python()), str(here.parent / "serving_peer.py"), str(TAKES_S)]
    with running(sys.executable, str(here), "serve") as ours, running(*peer) as theirs:
        rounds: dict[str, list[dict[str, float]]] = {ours: [], theirs: []}
        for number in range(ROUNDS + 1):
            for address in (ours, theirs) if number % 2 else (theirs, ours):
                found = _quantiles(one_client(address))
                if number:  # the first one warms up
                    rounds[address].append(found)
        crowds = {address: asyncio.run(many_clients(address)) for address in (ours, theirs)}
    medians = {
        address: {name: round(statistics.median(found[name] for found in kept), 2) for name in ("p50", "p99")}
        for address, kept in rounds.items()
    }
    result = {
        "question": "overhead of serving a policy, and fairness to 50 clients",
        "priority": priority,
        "policy_ms": 1000 * TAKES_S,
        "ours_overhead_ms": medians[ours],
        "openpi_overhead_ms": medians[theirs],
        "ratio_p99": round(statistics.median(b["p99"] / a["p99"] for a, b in zip(*rounds.values(), strict=True)), 2),
        f"ours_{CLIENTS}_clients": crowds[ours],
        f"openpi_{CLIENTS}_clients": crowds[theirs],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
