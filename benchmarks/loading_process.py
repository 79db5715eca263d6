"""Starts a contestant of ``loading.py``, gives it its turns, and watches what its processes hold and burn."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_FIELDS = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class Contestant:
    """A process with children; stopped (SIGSTOP) while it is not its turn.

    Args:
        name: in the result.
        command: to run.
        log: file for its standard error.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path):
        self.name, self.log = name, log
        begun = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                start_new_session=True,
            )
        self.peak: dict[str, float] = dict.fromkeys(_FIELDS, 0.0)
        self.rates: list[float] = []
        self.cpu: list[float] = []
        self._watching = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        self._watching.set()
        self.facts = self._answer()
        self.start_s = time.perf_counter() - begun
        self._pause(True)

    def turn(self, seconds: float) -> None:
        """Let it work for so long."""
        self._pause(False)
        before = self._cpu_seconds()
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.rates.append(answer["windows"] / answer["seconds"])
        # as many batches wait at the end of a turn as at its start, so all that were handed out were also made in it
        self.cpu.append((self._cpu_seconds() - before) / (answer["windows"] + answer["skipped"]))
        self._pause(True)

    def close(self) -> None:
        """End it and its children."""
        self._watching.clear()
        with contextlib.suppress(*_GONE):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended:\n{self.log.read_text()[-3000:]}")
        return json.loads(line) if line.startswith("{") else self._answer()

    def _pause(self, paused: bool) -> None:
        self._watching.clear() if paused else self._watching.set()
        with contextlib.suppress(*_GONE):
            os.killpg(self._process.pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def _watch(self) -> None:
        while self._process.poll() is None:
            self._watching.wait()
            now = memory(self._process.pid)
            self.peak = {key: max(value, now[key]) for key, value in self.peak.items()}
            time.sleep(0.5)

    def _cpu_seconds(self) -> float:
        ticks = 0
        for process in family(self._process.pid):
            with contextlib.suppress(*_GONE):
                fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])  # utime, stime
        return ticks / os.sysconf("SC_CLK_TCK")


def family(process: int) -> list[int]:
    """A process and all its descendants."""
    found = [process]
    for one in found:
        with contextlib.suppress(*_GONE):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def memory(process: int) -> dict[str, float]:
    """Proportional set size of a process and its descendants by kind [MiB]: shared pages count once."""
    total: dict[str, float] = dict.fromkeys(_FIELDS, 0.0)
    for one in family(process):
        with contextlib.suppress(*_GONE):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                key = line.split(":")[0]
                if key in total:
                    total[key] += int(line.split()[1]) / 1024
    return total
