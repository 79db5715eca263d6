"""Trials in real time with real processes: the arm, its client, the policy's server, signals, and a network that fails.

::

    this process ── spawn ─▶ arm (500 Hz, measured)  ◀── TCP ── proxy (here: loses, delays, repeats) ◀── TCP ── client
         │                                                                                                      │
         └── SIGSTOP, SIGKILL, e-stop, jam ─▶ any of them                               policy's server ◀── websocket
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from faults_client import Limited, client, draw
from faults_kinds import BRAKING, KINDS, FaultyNetwork, Wander
from faults_lockstep import AFTER, judged, start
from faults_meter import Factory, read, shared

from vla.chunking import synchronous
from vla.embodiments.panda_arm import panda_arm
from vla.errors import BodyFault
from vla.robot_driver.mujoco_arm import ArmMonitor, Config
from vla.robot_driver.mujoco_arm_process import ServerHandle, spawn
from vla.runtime import Pace, run_episode

SLACK = 0.2
"""What a client on a loaded machine may be late by [s]; and its control periods may be a quarter longer."""

_LONGEST = 60.0  # [s] for a process to start or to end


class Proxy:
    """A network between client and arm that loses, delays or repeats whole frames.

    Attributes:
        port: to connect to instead of the arm's.
        network: decides; None for a quiet one.
    """

    def __init__(self, target: tuple[str, int]):
        self._target = target
        self.network: FaultyNetwork | None = None
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait(_LONGEST)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = int(server.sockets[0].getsockname()[1])
        started.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_arm = await asyncio.open_connection(*self._target)
        await asyncio.gather(self._pump("out", reader, to_arm[1]), self._pump("back", to_arm[0], writer))

    async def _pump(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(4)
                frame = head + await reader.readexactly(struct.unpack(">I", head)[0])
                delays = self.network(direction, time.monotonic()) if self.network else (0.0,)
                for delay in delays:
                    self._loop.call_later(delay, _write, writer, frame)
        writer.close()


def _write(writer: asyncio.StreamWriter, frame: bytes) -> None:
    if not writer.is_closing():
        writer.write(frame)


def serve_policy(pipe: Any, seed: int) -> None:
    """Process: the wandering policy behind a websocket."""
    from vla.serving import PolicyServer
    from vla.serving_options import ServerOptions

    policy = Wander(panda_arm(), np.random.default_rng(seed))
    server = PolicyServer(policy, ServerOptions(port=0, max_batch=1), checkpoint="wander")

    async def run() -> None:
        await server.run(asyncio.Event(), lambda host, port: pipe.send(f"ws://{host}:{port}"))

    asyncio.run(run())


def run_client(pipe: Any, kind: str, seed: int, port: int, address: str) -> None:
    """Process: one run of a policy on the arm; tells when the fault began and how it ended."""
    drawn, rng = draw(kind, seed, True)
    arm = Config(port=port).make()
    remote = None
    if address:
        from vla.policies.remote import Config as Remote

        remote = Remote(address, timeout=1.0).make()
    side = client(arm, rng, safe=drawn.safe, clock=time.monotonic, policy=lambda wander: remote or wander)
    over = [np.inf]

    def fail() -> None:
        pipe.send(("fault", time.monotonic()))
        if kind == "operator e-stop":
            side.estop()
        else:
            side.fail(kind, rng, other=drawn.other)

    def begun() -> None:
        now = time.monotonic()
        over[0] = now + drawn.begins + (1.0 if KINDS[kind].effect == "clamped" else KINDS[kind].declared + 2.5)
        pipe.send(("begun", now))
        elsewhere = kind == "operator e-stop" and drawn.other
        if kind.startswith(("policy", "camera", "state", "clock", "operator")) and not elsewhere:
            timer = threading.Timer(drawn.begins, fail)
            timer.daemon = True
            timer.start()

    task = Limited(arm.task(start(rng)), lambda: time.monotonic() >= over[0], begun)
    outcome = run_episode(side.outer, task, side.policy, seed=seed, executor=synchronous(None), pace=Pace(20.0))
    pipe.send(("ended", time.monotonic(), outcome.error.split(":")[0] or outcome.status, side.rules()))
    arm.close()


def trials(todo: list[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Run them one after the other on one arm."""
    context = multiprocessing.get_context("forkserver")
    # so that the server of forks finds this module, whose imports each process then has
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    context.set_forkserver_preload(["faults_processes", "vla.serving", "vla.policies.remote"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meter"
        found = shared(path)
        with spawn(Factory(path)) as arm:
            for kind, seed in todo:
                yield _trial(context, arm, found, kind, seed)


def _trial(context: Any, arm: ServerHandle, found: np.ndarray, kind: str, seed: int) -> dict[str, Any]:
    (drawn, rng), promise = draw(kind, seed, True), KINDS[kind]
    found[-1] = 0.0
    monitor, proxy = ArmMonitor(Config(*arm.address)), Proxy(arm.address)
    rules_before = monitor.telemetry()["rules"]
    processes: list[Any] = []

    def process(target: Any, *arguments: Any) -> tuple[Any, Any]:
        ours, theirs = context.Pipe()
        started = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        started.start()
        theirs.close()
        processes.append(started)
        return started, ours

    try:
        address, server = "", None
        if kind == "server killed":
            server, server_pipe = process(serve_policy, seed)
            address = str(_told(server_pipe))
        runner, pipe = process(run_client, kind, seed, proxy.port, address)
        begun = _told(pipe, "begun")[1]
        time.sleep(max(0.0, begun + drawn.begins - time.monotonic()))
        fault_at, paused = time.monotonic(), []
        if kind.startswith("packets"):
            proxy.network = FaultyNetwork(rng, kind, fault_at, drawn.share)
        elif kind == "server killed" and server is not None:
            os.kill(server.pid, signal.SIGSTOP if drawn.other else signal.SIGKILL)
        elif kind == "gripper jam":
            found[-1] = 1.0
        elif kind == "operator e-stop" and drawn.other:
            monitor.estop("the operator pressed it, in a process of their own")
        elif kind == "client killed":
            os.kill(runner.pid, signal.SIGKILL)
        elif kind == "process paused":
            victim = arm.pid if drawn.other else runner.pid
            os.kill(victim, signal.SIGSTOP)
            time.sleep(drawn.pause + (1.1 if drawn.other else 0.0))
            if not drawn.other:
                paused.append(read(found)["moving_at"] - fault_at)
            os.kill(victim, signal.SIGCONT)
            fault_at = time.monotonic()
        elif not kind.startswith("server"):
            fault_at = _told(pipe, "fault")[1]
        ended, status, rules = time.monotonic(), "killed", {}
        if kind != "client killed":
            _, ended, status, rules = _told(pipe, "ended")
        if promise.effect == "clamped" or paused:
            fault_at = ended
        slack = SLACK + 0.25 * promise.declared
        until = max(time.monotonic(), fault_at + promise.declared + BRAKING + slack) + AFTER
        time.sleep(until - time.monotonic())
        telemetry = monitor.telemetry()
        acted = telemetry["rules"].items()
        telemetry["rules"] = {rule: n - rules_before.get(rule, 0) for rule, n in acted if n > rules_before.get(rule, 0)}
        row = {"kind": kind, "mode": "real time", "seed": seed, "limits": True, "safe_body": drawn.safe}
        row |= {"status": status, "slipped_s": round(telemetry["slipped"], 3)}
        return row | judged(kind, read(found), fault_at, telemetry, rules, paused, slack=slack)
    finally:
        for one in processes:
            if one.pid is not None and one.is_alive():
                one.kill()
            one.join(_LONGEST)
        with contextlib.suppress(BodyFault):
            monitor.release()
        monitor.close()
        proxy.close()


def _told(pipe: Any, what: str = "") -> Any:
    """The next thing that a process says, of that name.

    Raises:
        BodyFault: it says nothing, or has died.
    """
    end = time.monotonic() + _LONGEST
    try:
        while pipe.poll(max(0.0, end - time.monotonic())):
            told = pipe.recv()
            if not what or told[0] == what:
                return told
    except EOFError as error:
        raise BodyFault(f"a process of the trial died before it said {what!r}") from error
    raise BodyFault(f"a process of the trial did not say {what!r} within {_LONGEST:g} s")
