"""Trainings in processes of their own, one or several ranks, that tests wait for or kill."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("training_worker.py")
Training = tuple[Path, dict[str, Any], bool]
"""A run's folder, changes of the settings, whether it is resumed."""


def start_ranks(trainings: Sequence[Training], cache: Path, count: int = 2) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    work = json.dumps([[str(out), str(cache), changes, resume] for out, changes, resume in trainings])
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, str(WORKER), work],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(count)
    ]


def finish(children: Sequence[subprocess.Popen]) -> None:
    for child in children:
        _, said = child.communicate(timeout=240)
        assert child.returncode == 0, said.decode()[-3000:]


def kill_at(children: Sequence[subprocess.Popen], metrics: Path, line: int) -> bool:
    """Kill all as soon as the metrics have so many lines; False if they ended by themselves."""
    end = time.monotonic() + 120
    while all(child.poll() is None for child in children) and time.monotonic() < end:
        if metrics.exists() and metrics.read_text().count("\n") >= line:
            break
        time.sleep(0.001)
    alive = all(child.poll() is None for child in children)
    for child in children:
        child.kill()
        child.communicate()
    return alive
