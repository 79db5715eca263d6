"""Thousands of hostile frames and handshakes: always an answer or a close, memory bounded, others served meanwhile."""

import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hostile import MESSAGES, UPGRADE, Attacker, broken, good, handshakes
from served import Known, observation

from vla.policies.remote import Config

PATIENCE = 15.0  # the server's own limits are 1 s, twice that for pings


def peak_mb(pid: int) -> float:
    """Largest memory that a process ever had [MiB]."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def attack(frames: int, transports: int) -> Counter:
    """Run a campaign against a server of its own; what it answered."""
    folder = Path(__file__).parent
    server = subprocess.Popen(
        [sys.executable, str(folder / "fuzz_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PYTHONPATH": str(folder)},
    )
    try:
        assert server.stdout
        host, port = server.stdout.readline().split()
        address, seen, random = f"ws://{host}:{port}", Counter(), np.random.default_rng(0)
        friend, local = Config(address, timeout=30.0).make(), Known()
        for policy in (friend, local):
            policy.reset("go", seed=1)
        attacker, silent = Attacker(address), [socket.create_connection((host, int(port))) for _ in range(20)]
        for number, connection in enumerate(silent):  # each says a little and then nothing
            connection.sendall((UPGRADE + b"\x82\xfe\x10\x00mask")[: 5 + number * 10])
        before = 0.0
        for number in range(frames):
            kind = MESSAGES[int(random.integers(len(MESSAGES)))]
            answer = attacker.send(kind(random))
            seen[answer] += 1
            assert kind is not good or answer == "reply"
            if number == frames // 10:
                before = peak_mb(server.pid)
            if number % 100 == 0:  # somebody else's episode goes on as if alone
                assert np.array_equal(friend.act(observation()).actions, local.act(observation()).actions)
        with ThreadPoolExecutor(16) as pool:
            ends = pool.map(
                lambda data: broken(host, int(port), data, PATIENCE), [handshakes(random) for _ in range(transports)]
            )
            assert all(ends), "a connection was never ended"
        seen["ended"] += transports
        for connection in silent:
            connection.settimeout(PATIENCE)
            assert broken_off(connection), "a silent connection was never ended"
            seen["ended"] += 1
        assert server.poll() is None, "the server crashed"
        assert np.array_equal(friend.act(observation()).actions, local.act(observation()).actions)
        assert peak_mb(server.pid) - before < 64
        attacker.close()
        friend.close()
        assert server.stdin
        server.stdin.close()
        assert server.wait(20) == 0
        return seen
    finally:
        server.kill()
        server.wait()


def broken_off(connection: socket.socket) -> bool:
    with connection:
        try:
            while connection.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
    return True


def test_hostile_clients():
    seen = attack(frames=400, transports=25)
    assert sum(seen.values()) == 445 and seen["error"] > 100 and seen["reply"] > 10
    assert any(kind.startswith("closed 1009") for kind in seen)


@pytest.mark.slow
def test_ten_thousand_hostile_frames():
    seen = attack(frames=10_000, transports=300)
    print(dict(seen))
    assert sum(seen.values()) == 10_320
