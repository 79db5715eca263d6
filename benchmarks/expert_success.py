"""How often the scripted expert reaches the goal, from the benchmark's own initial states, acting only through actions.

One line of JSON for each row in ``--out``, appended as it is done; rows already there are not run again. At the end a
table per task and one JSON line with the suites' means. Nothing is drawn; the physics is that of an evaluation.

    python benchmarks/expert_success.py --suites libero_goal libero_10 --inits 0-4 --out sweep.jsonl
"""

import argparse
import json
import os
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla.errors import BodyFault
from vla.rows import Row
from vla.sim import libero_suites
from vla.sim.expert.record import Disturbance, record
from vla.sim.expert.solve import solve
from vla.sim.libero import Config, LiberoBody, LiberoTask
from vla.workers import Crash, Crew


@dataclass(frozen=True)
class Job:
    """One episode: a suite's name, a task's number, an initial state."""

    suite: str
    number: int
    init: int
    disturbed: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", required=True)
    parser.add_argument("--tasks", nargs="*", type=int, default=[], help="numbers; all if none is given")
    parser.add_argument("--inits", default="0-2", help="initial states, e.g. 0-4 or 0,10,20")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=np.inf, help="stop after so long; the same command resumes")
    parser.add_argument("--disturbed", action="store_true", help="with the disturbances of demonstrations")
    arguments = parser.parse_args()
    commit, begin = _commit(), time.monotonic()
    done = {_key(line) for line in _lines(arguments.out)}
    jobs = [
        Job(suite, task.number, init, arguments.disturbed)
        for suite in arguments.suites
        for task in libero_suites.tasks(suite)
        for init in _numbers(arguments.inits)
        if (not arguments.tasks or task.number in arguments.tasks)
        and (suite, task.number, init, arguments.disturbed) not in done
    ]
    with Crew(Runner, arguments.processes) as crew:
        for answer in crew.run(jobs, group=lambda job: (job.suite, job.number), timeout_s=600):
            job = answer.job
            line = {"suite": job.suite, "number": job.number, "task": libero_suites.tasks(job.suite)[job.number].name}
            line |= {"init": job.init, "disturbed": job.disturbed, "commit": commit}
            if isinstance(answer.value, Crash):
                line |= {"success": False, "steps": 0, "seconds": 0.0, "note": answer.value.error}
            else:
                line |= answer.value
            with arguments.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            if time.monotonic() - begin > 60 * arguments.minutes:
                break
    report([line for line in _lines(arguments.out) if line["suite"] in arguments.suites])


def report(lines: list[dict]) -> None:
    """Print the table and the summary."""
    by_task, by_suite = defaultdict(list), defaultdict(list)
    for line in lines:
        by_task[line["suite"], line["number"], line["task"]].append(line)
        by_suite[line["suite"]].append(line["success"])
    for (suite, number, task), rows in sorted(by_task.items()):
        steps = [row["steps"] for row in rows if row["success"]]
        mean = f"{np.mean(steps):5.0f}" if steps else "    -"
        print(f"{suite:22s} {number:3d} {sum(r['success'] for r in rows):3d}/{len(rows):<3d} {mean} steps  {task}")
    print(
        json.dumps(
            {
                "benchmark": "expert_success",
                **{name: f"{sum(v)}/{len(v)} = {np.mean(v):.3f}" for name, v in by_suite.items()},
            }
        )
    )


class Runner:
    """What a process does: keeps a compiled scene and answers jobs."""

    def __init__(self):
        self._benchmark = Config(camera_size=16, render="exact").make()  # nothing is drawn: no meshes to thin out

    def __call__(self, job: Job) -> dict:
        """Act until the goal holds, the steps are used up or nothing is left to try."""
        begin, note = time.monotonic(), ""
        name = libero_suites.tasks(job.suite)[job.number].name
        body, task = self._benchmark.open(Row(job.suite, name, job.init, seed=0))
        try:
            success, steps = _disturbed(body, task) if job.disturbed else _clean(body, task)
        except BodyFault as fault:
            success, steps, note = False, 0, str(fault)
        return {"success": success, "steps": steps, "seconds": round(time.monotonic() - begin, 2), "note": note}

    def close(self) -> None:
        """Give back the scene."""
        self._benchmark.close()


def _clean(body: LiberoBody, task: LiberoTask) -> tuple[bool, int]:
    """Whether the goal is reached and in how many steps, through the environment's actions alone."""
    task.reset()
    rng = np.random.default_rng([task.row.seed, task.number, task.row.init + 1])
    steps = 0
    for step in solve(body.world, rng):
        body.world.step(step.raw)
        steps += 1
        if task.succeeded() or steps >= task.max_steps:
            break
    return task.succeeded(), steps


def _disturbed(body: LiberoBody, task: LiberoTask) -> tuple[bool, int]:
    """The same as a demonstration is made: from another first pose of the arm, with pushes."""
    episode = record(body, task, Disturbance(), images=False)
    return episode is not None, len(episode) if episode is not None else 0


def _numbers(text: str) -> list[int]:
    """``0-2,10`` is 0, 1, 2 and 10."""
    parts = [part.partition("-") for part in text.split(",")]
    return [number for first, _, last in parts for number in range(int(first), int(last or first) + 1)]


def _commit() -> str:
    """Of the code that ran; a plus says that files had been changed since."""
    here = Path(__file__).parent
    git = [
        subprocess.run(["git", *command], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "../sim", "../vla"])
    ]
    return git[0] + ("+" if git[1] else "")


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _key(line: dict) -> tuple:
    return line["suite"], line["number"], line["init"], line["disturbed"]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
