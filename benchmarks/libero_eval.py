"""Episodes per minute in LIBERO: ours, a plain loop over the stock environment, and lerobot's own evaluation.

All run the same rows with the same policy and the same actions for each look, in turns: ours (two processes, pictures
of the policy's size when it looks, decimated meshes), the loop of openpi's and OpenVLA's scripts (both pictures at 256
pixels in every step), and lerobot's rollout over its vector of ``LiberoEnv`` (360 pixels, two processes, the policy
asked for both at once). Starting processes and importing is left out; making environments, resets and settling count.
A policy in each of two processes has one thread; one that the simulators wait for has all cores. Prints one JSON line:
episodes per minute (medians over the turns), the ratios to ours by time and by CPU time, which other work on the
machine disturbs less.

By default two episodes of 60 steps, which take minutes; resets weigh more in them than in whole episodes
(``--max-steps 0``), and the line says how many steps they had.

``--agreement FOLDER`` is another question, with a line of its own: does ours give the stock environment's results? All
rows (``--tasks`` times ``--inits``) run as ours is by default, and drawn and stepped exactly; the paired test compares
the two. That the exact way is the stock loop's is shown row by row and action by action on ``--stock-rows`` of them,
spread evenly, because the stock loop takes a minute for each; 0 runs it on all. Rows of libero_spatial's bowl in a
drawer may differ: there the stock scene depends on what ran before. It goes on where it was stopped::

    python benchmarks/libero_eval.py --checkpoint runs/spatial --tasks 10 --inits 20 --agreement runs/agreement
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libero_eval_peers as peers

from vla.commands.named_policy import NamedPolicy
from vla.episode_worker import EpisodeJob, HandlerFactory, Identify
from vla.evaluate import run_rows
from vla.policies import vla_policy
from vla.results import Result, compare
from vla.rows import Row
from vla.runtime import run_episode
from vla.sim import libero, libero_suites
from vla.workers import Crash, Crew

PROCESSES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="a policy; without one the arm holds still to the end")
    parser.add_argument("--suite", default="libero_spatial")
    parser.add_argument("--tasks", type=int, default=1)
    parser.add_argument("--inits", type=int, default=2, help="episodes of each task; an even number")
    parser.add_argument("--ours-inits", type=int, default=0, help="more of them for ours, which is faster; 0: as many")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--max-steps", type=int, help="0 for the suite's limit; by default 60, for an agreement 0")
    parser.add_argument("--execute", type=int, default=8)
    parser.add_argument("--without", nargs="*", default=[], choices=["stock", "lerobot"])
    parser.add_argument("--agreement", type=Path, help="folder for its results")
    parser.add_argument("--stock-rows", type=int, default=24, help="of an agreement's, with the stock loop; 0 for all")
    arguments = parser.parse_args()
    if arguments.max_steps is None:
        arguments.max_steps = 0 if arguments.agreement else 60
    if arguments.inits % PROCESSES and not arguments.agreement:
        parser.error(f"--inits {arguments.inits}: lerobot runs {PROCESSES} episodes of a task at a time")
    line = agreement(arguments) if arguments.agreement else speed(arguments)
    machine = {"cores": os.cpu_count(), "load": [round(value, 1) for value in os.getloadavg()]}
    print(json.dumps(line | machine | {"machine": platform.machine()}))


def make_policy(arguments: argparse.Namespace, threads: int | None) -> Any:
    """A factory of the policy, which computes with so many threads."""
    if arguments.checkpoint is None:
        return NamedPolicy("hold", (("horizon", arguments.execute),))
    return vla_policy.Config(arguments.checkpoint.resolve(), threads=threads)


def make_rows(arguments: argparse.Namespace, inits: int) -> list[Row]:
    """The first initial states of the first tasks."""
    tasks = libero_suites.tasks(arguments.suite)[: arguments.tasks]
    return [Row(arguments.suite, task.name, init, init) for task in tasks for init in range(inits)]


@dataclass(frozen=True)
class Timing:
    """Of one turn: episodes, seconds, CPU seconds."""

    episodes: int
    wall: float
    cpu: float


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run everything in turns."""
    runs: dict[str, Callable[[argparse.Namespace], Timing]] = {"ours": ours, "stock": stock, "lerobot": lerobot}
    runs = {name: run for name, run in runs.items() if name not in arguments.without}
    timings: dict[str, list[Timing]] = {name: [] for name in runs}
    for _ in range(arguments.turns):
        for name, run in runs.items():
            timings[name].append(run(arguments))
    found: dict[str, Any] = {"benchmark": "libero_eval", "unit": "episodes per minute"}
    for name, told in timings.items():
        found[name] = round(statistics.median(60 * one.episodes / one.wall for one in told), 3)
    for name, told in timings.items():
        found[f"{name}_cpu_s_per_episode"] = round(statistics.median(one.cpu / one.episodes for one in told), 2)
    for peer in [name for name in runs if name != "ours"]:
        pairs = list(zip(timings["ours"], timings[peer], strict=True))
        faster = statistics.median((a.episodes / a.wall) / (b.episodes / b.wall) for a, b in pairs)
        cheaper = statistics.median((b.cpu / b.episodes) / (a.cpu / a.episodes) for a, b in pairs)
        found |= {f"ratio_{peer}": round(faster, 1), f"cpu_ratio_{peer}": round(cheaper, 1)}
    policy = "hold" if arguments.checkpoint is None else "checkpoint"
    return found | {"policy": policy, "execute": arguments.execute, "max_steps": arguments.max_steps}


@dataclass(frozen=True)
class Imported:
    """Imports LIBERO when the benchmark is made, as the peers have before their clocks start; not at the first row."""

    config: libero.Config

    def make(self) -> libero.LiberoBenchmark:
        """The benchmark."""
        libero_suites.import_libero()
        return self.config.make()


def ours(arguments: argparse.Namespace) -> Timing:
    """This project's engine."""
    rows = make_rows(arguments, arguments.ours_inits or arguments.inits)
    policy = make_policy(arguments, threads=1)
    size = policy.make().spec.cameras[0].height
    benchmark = Imported(libero.Config(camera_size=size, max_steps=arguments.max_steps))
    factory = HandlerFactory(benchmark, policy, "policy", arguments.execute)
    with Crew(factory, PROCESSES, log=Path(os.devnull)) as crew:
        list(crew.run([Identify()] * PROCESSES))  # starts and imports
        pids = [worker.process.pid for worker in crew._crew]
        before = time.process_time() + sum(peers.cpu_seconds(pid) for pid in pids if pid)
        begin = time.perf_counter()
        answers = list(crew.run([EpisodeJob(row) for row in rows], group=lambda job: job.row.init % PROCESSES))
        wall = time.perf_counter() - begin
        cpu = time.process_time() + sum(peers.cpu_seconds(pid) for pid in pids if pid) - before
    failed = [answer for answer in answers if isinstance(answer.value, Crash) or answer.value.status == "error"]
    assert not failed, failed
    return Timing(len(rows), wall, cpu)


def stock(arguments: argparse.Namespace) -> Timing:
    """One process, one environment, one episode after the other."""
    rows, policy = make_rows(arguments, arguments.inits), make_policy(arguments, os.cpu_count()).make()
    libero_suites.import_libero()
    benchmark = peers.StockConfig(max_steps=arguments.max_steps).make()
    wall, cpu = time.perf_counter(), time.process_time()
    for row in rows:
        body, task = benchmark.open(row)
        outcome = run_episode(body, task, policy, seed=row.seed, execute=arguments.execute)
        assert outcome.status != "error", outcome
    timing = Timing(len(rows), time.perf_counter() - wall, time.process_time() - cpu)
    benchmark.close()
    return timing


def lerobot(arguments: argparse.Namespace) -> Timing:
    """Lerobot's rollout; the limit of steps is ours, so that all do the same work."""
    rows = make_rows(arguments, arguments.inits)
    limit = arguments.max_steps or libero_suites.max_steps(arguments.suite)
    policy = make_policy(arguments, os.cpu_count()).make()
    _, wall, cpu = peers.lerobot_run(rows, policy, arguments.execute, limit, PROCESSES)
    return Timing(len(rows), wall, cpu)


def agreement(arguments: argparse.Namespace) -> dict[str, Any]:
    """The three ways, all at 256 pixels; finished rows are not run again."""
    rows, policy, out = make_rows(arguments, arguments.inits), make_policy(arguments, threads=1), arguments.agreement
    few = min(arguments.stock_rows or len(rows), len(rows))
    chosen = [rows[place * len(rows) // few] for place in range(few)]
    steps = arguments.max_steps
    ways = {
        "fast": (rows, libero.Config(max_steps=steps)),
        "exact": (rows, libero.Config(max_steps=steps, render="exact", fused=False)),
        "stock": (chosen, peers.StockConfig(max_steps=steps)),
    }
    found: dict[str, dict[Row, Result]] = {}
    line: dict[str, Any] = {"benchmark": "libero_eval_agreement", "rows": len(rows), "stock_rows": len(chosen)}
    for name, (asked, way) in ways.items():
        if name in arguments.without:
            continue
        begin = time.perf_counter()
        told = run_rows(asked, way, policy, out / name, workers=PROCESSES, execute=arguments.execute, name=name)
        found[name] = {result.row: result for result in told}
        line[f"{name}_s"] = round(time.perf_counter() - begin)
    for first, second in (("exact", "stock"), ("fast", "exact"), ("fast", "stock")):
        if first not in found or second not in found:
            continue
        pairs = [(found[first][row], other) for row, other in found[second].items()]
        line[f"{first}_{second}"] = {
            "same_status": sum(a.status == b.status for a, b in pairs),
            "same_steps": sum(a.steps == b.steps for a, b in pairs),
            "same_actions": sum(a.actions == b.actions for a, b in pairs),
        } | compare([a for a, _ in pairs], [b for _, b in pairs]).to_json()
    return line


if __name__ == "__main__":
    main()
