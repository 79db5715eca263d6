"""A whole evaluation that is killed on the way: is every row there once at the end, and how long does it take?

Starts ``vla eval`` on the four suites, 50 initial states a task, 2,000 rows in all. At the given times everything it
started is killed with SIGKILL and the same command is given again. At the end the files must hold each row exactly
once, and each result that was complete at a kill unchanged. Prints one JSON line; the exit code is 1 if a row is lost,
doubled or changed, or if the run was over before it could be killed. Options that are not listed go to ``vla eval``::

    python benchmarks/libero_campaign.py runs/nano --out runs/campaign --kill-at 600 2400 --workers 2

The command never deletes anything: ``--out`` has to be new.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla.results import Result, read_results
from vla.rows import Row
from vla.sim import libero_suites

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
GONE_S = 30.0  # within which all processes of a killed run have ended


@dataclass
class Campaign:
    """The commands given so far.

    Attributes:
        command: that is given again and again.
        folder: that holds ``rows.jsonl``.
        kept: lines that were complete at some kill.
        kills: what is told of each.
    """

    command: list[str]
    folder: Path
    kept: list[str] = field(default_factory=list)
    kills: list[dict[str, float]] = field(default_factory=list)

    def run(self, kill_at: list[float]) -> float:
        """Run to the end, killed at those seconds; how many seconds it took.

        Raises:
            SystemExit: the command failed by itself.
        """
        begin = time.monotonic()
        for moment in [*sorted(kill_at), None]:
            child = subprocess.Popen(self.command, start_new_session=True)
            try:
                left = None if moment is None else max(0.0, begin + moment - time.monotonic())
                if code := child.wait(left):
                    raise SystemExit(f"vla eval ended with code {code}")
                break
            except subprocess.TimeoutExpired:
                self._kill(child, time.monotonic() - begin)
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
        return time.monotonic() - begin

    def _kill(self, child: "subprocess.Popen[bytes]", after: float) -> None:
        family = members(child.pid)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        end = time.monotonic() + GONE_S
        while any(map(alive, family)) and time.monotonic() < end:
            time.sleep(0.1)
        self.kept = complete_lines(self.folder)
        survivors = sum(map(alive, family))
        self.kills.append({"after_s": round(after), "rows": len(self.kept), "survivors": survivors})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--suites", nargs="+", default=SUITES)
    parser.add_argument("--tasks", nargs="*", type=int, default=[], help="numbers; all if none is given")
    parser.add_argument("--inits", type=int, default=50, help="episodes of each task")
    parser.add_argument("--kill-at", nargs="*", type=float, default=[900.0, 2700.0], help="seconds after the start")
    parser.add_argument("--name", default="trained", help="of the run: a policy by name has its own")
    arguments, others = parser.parse_known_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists")
    wanted = [
        Row(suite, task.name, init, init)
        for suite in arguments.suites
        for task in libero_suites.tasks(suite)
        if not arguments.tasks or task.number in arguments.tasks
        for init in range(arguments.inits)
    ]
    vla = [sys.executable, "-m", "vla.cli", "eval", arguments.checkpoint, "--out", str(arguments.out)]
    chosen = ["--suite", ",".join(arguments.suites), "--inits", str(arguments.inits)]
    tasks = ["--tasks", *map(str, arguments.tasks)] if arguments.tasks else []
    unseen = ["--videos", "0", "--recordings", "0"]
    campaign = Campaign([*vla, *chosen, *tasks, *unseen, *others], arguments.out / arguments.name)
    wall = campaign.run(arguments.kill_at)
    found = verdict(campaign, wanted)
    line: dict[str, Any] = {"benchmark": "libero_campaign", "rows": len(wanted), "minutes": round(wall / 60, 2)}
    line |= {"rows_per_minute": round(60 * len(wanted) / wall, 2), "kills": campaign.kills} | found
    print(json.dumps(line | {"cores": os.cpu_count(), "load": [round(value, 1) for value in os.getloadavg()]}))
    wrong = found["lost"] + found["doubled"] + found["strange"] + found["changed"]
    return int(bool(wrong) or len(campaign.kills) < len(arguments.kill_at))


def verdict(campaign: Campaign, wanted: list[Row]) -> dict[str, Any]:
    """Rows of the files against those that were wanted: lost, doubled, of nobody, or not as they were at a kill."""
    lines = complete_lines(campaign.folder)
    counts = Counter(Result.from_json(json.loads(line)).row for line in lines)
    results = read_results(campaign.folder)
    told = Counter(result.row for result in results)
    return {
        "statuses": dict(Counter(result.status for result in results)),
        "retried": sum(result.attempts > 1 for result in results),
        "lost": sum(counts[row] == 0 or told[row] == 0 for row in wanted),
        "doubled": sum(counts[row] > 1 or told[row] > 1 for row in wanted),
        "strange": len((counts.keys() | told.keys()) - set(wanted)),
        "changed": len(set(campaign.kept) - set(lines)),
        "mean_steps": round(sum(result.steps for result in results) / len(results), 1),
    }


def complete_lines(folder: Path) -> list[str]:
    """Of ``rows.jsonl``; a line that a kill has cut is none."""
    path = folder / "rows.jsonl"
    text = path.read_text() if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def members(session: int) -> list[int]:
    """Processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)):
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


def alive(pid: int) -> bool:
    """Whether a process runs: one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    sys.exit(main())
