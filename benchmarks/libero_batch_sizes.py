"""Does it matter how many observations a policy answers at once, or how many simulators ask? The same rows each way.

Each batch size runs all rows in a folder of its own. Rounding depends on the size of a batch, so that single actions
may differ between sizes and a few rows may end differently; whether one size solves more is what the paired test (exact
McNemar) says. At one size nothing may differ at all: ``--repeat`` rows are run once more at the last size, by one
simulator and in reverse order, and every action is compared. Finished rows are not run again: the same command goes on
where it was stopped. Prints one JSON line.

    python benchmarks/libero_batch_sizes.py runs/quickstart/policy --tasks 0 --inits 50 --out runs/batch_sizes
"""

import argparse
import json
import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from vla.evaluate import run_rows
from vla.policies import vla_policy
from vla.results import Result, compare
from vla.rows import Row
from vla.sim import libero, libero_suites


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--suite", default="libero_spatial")
    parser.add_argument("--tasks", type=int, nargs="*", default=[], help="numbers; all if none is given")
    parser.add_argument("--inits", type=int, default=20, help="episodes of each task")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--workers", type=int, default=4, help="simulators")
    parser.add_argument("--execute", type=int, default=8)
    parser.add_argument("--max-steps", type=int, default=0, help="0 for the suite's limit")
    parser.add_argument("--repeat", type=int, default=20, help="rows that are run once more")
    arguments = parser.parse_args()
    tasks = [
        task for task in libero_suites.tasks(arguments.suite) if not arguments.tasks or task.number in arguments.tasks
    ]
    rows = [Row(arguments.suite, task.name, init, init) for init in range(arguments.inits) for task in tasks]
    policy = vla_policy.Config(arguments.checkpoint.resolve())
    benchmark = libero.Config(camera_size=policy.make().spec.cameras[0].height, max_steps=arguments.max_steps)
    begin = time.perf_counter()

    def run(name: str, rows: list[Row], batch: int, workers: int) -> list[Result]:
        options: dict[str, Any] = {"execute": arguments.execute, "batch": batch, "workers": workers, "name": name}
        return run_rows(rows, benchmark, policy, arguments.out / name, **options)

    found = {size: run(f"batch_{size}", rows, size, arguments.workers) for size in arguments.batches}
    line: dict[str, Any] = {"benchmark": "libero_batch_sizes", "rows": len(rows)}
    for first, second in pairwise(arguments.batches):
        line[f"{first}_against_{second}"] = (
            same(found[first], found[second]) | compare(found[first], found[second]).to_json()
        )
    if arguments.repeat:
        last = arguments.batches[-1]
        again = run(f"batch_{last}_again", rows[: arguments.repeat][::-1], last, 1)[::-1]
        line["again"] = {"batch": last, "rows": len(again), "simulators": [arguments.workers, 1]}
        line["again"] |= same(found[last][: arguments.repeat], again)
    line |= {"seconds": round(time.perf_counter() - begin), "cores": os.cpu_count()}
    print(json.dumps(line | {"load": [round(value, 1) for value in os.getloadavg()]}))


def same(first: list[Result], second: list[Result]) -> dict[str, float]:
    """Shares of the rows that are alike in status, in number of steps, and in every action."""
    pairs = list(zip(first, second, strict=True))
    return {
        f"same_{field}": round(sum(getattr(a, field) == getattr(b, field) for a, b in pairs) / len(pairs), 4)
        for field in ("status", "steps", "actions")
    }


if __name__ == "__main__":
    main()
