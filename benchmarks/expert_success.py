"""How often the scripted expert reaches the goal, from the benchmark's own initial states, acting only through actions.

One line of JSON for each row in ``--out``, appended as it is done; rows already there are not run again. At the end a
table per task and one JSON line with the suites' means. Nothing is drawn; the physics is that of an evaluation.

    python benchmarks/expert_success.py --suites libero_goal libero_10 --inits 0-4 --out sweep.jsonl
"""

import argparse
import json
import multiprocessing
import os
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from vla.errors import BodyFault
from vla.rows import Row
from vla.sim import libero_suites
from vla.sim.expert.record import Disturbance, record
from vla.sim.expert.solve import solve
from vla.sim.libero import Config, LiberoBody, LiberoTask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", required=True)
    parser.add_argument("--tasks", nargs="*", type=int, default=[], help="numbers; all if none is given")
    parser.add_argument("--inits", default="0-2", help="initial states, e.g. 0-4 or 3")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--disturbed", action="store_true", help="with the disturbances of demonstrations")
    arguments = parser.parse_args()
    first, _, last = arguments.inits.partition("-")
    inits = range(int(first), int(last or first) + 1)
    done = {_key(line) for line in _lines(arguments.out)}
    jobs = []
    for suite in arguments.suites:
        for task in libero_suites.tasks(suite):
            missing = [init for init in inits if (suite, task.number, init, arguments.disturbed) not in done]
            if missing and (not arguments.tasks or task.number in arguments.tasks):
                jobs.append((suite, task.number, missing, arguments.disturbed, arguments.out))
    with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=8) as pool:
        for _ in pool.imap_unordered(_run, jobs):
            pass
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


def _run(job: tuple[str, int, list[int], bool, Path]) -> None:
    """All asked initial states of one task; a line is appended for each."""
    suite, number, inits, disturbed, out = job
    task = libero_suites.tasks(suite)[number]
    benchmark = Config(camera_size=16, render="exact").make()  # nothing is drawn: thinning meshes would be wasted
    for init in inits:
        begin = time.monotonic()
        note = ""
        body, opened = benchmark.open(Row(suite, task.name, init, seed=0))
        try:
            success, steps = _disturbed(body, opened) if disturbed else _clean(body, opened)
        except BodyFault as fault:
            success, steps, note = False, 0, str(fault)
        line = {"suite": suite, "number": number, "task": task.name, "init": init, "disturbed": disturbed}
        line |= {"success": success, "steps": steps, "seconds": round(time.monotonic() - begin, 2), "note": note}
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")
    benchmark.close()


def _clean(body: LiberoBody, task: LiberoTask) -> tuple[bool, int]:
    """Whether the goal is reached and in how many steps, through the environment's actions alone."""
    task.reset()
    rng = np.random.default_rng([task.row.seed, task.number, task.row.init + 1])
    steps = 0
    for raw in solve(body.world, rng):
        body.world.step(raw)
        steps += 1
        if task.succeeded() or steps >= task.max_steps:
            break
    return task.succeeded(), steps


def _disturbed(body: LiberoBody, task: LiberoTask) -> tuple[bool, int]:
    """The same as a demonstration is made: from another first pose of the arm, with pushes."""
    episode = record(body, task, Disturbance(), images=False)
    return episode is not None, len(episode) if episode is not None else 0


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _key(line: dict) -> tuple:
    return line["suite"], line["number"], line["init"], line["disturbed"]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
