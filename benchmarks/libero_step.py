"""LIBERO control steps per second: pictures when a policy looks, every 8th step, against the stock environment's.

Ours and the stock ``OffScreenRenderEnv`` (both cameras at 256 pixels in every step) run in turns in one process on the
same scene with the same actions. Prints one JSON line: steps per second of each (medians over the turns), the median of
the turns' ratios, also with undecimated meshes (``exact``), the load of the machine, and what it is.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np

from vla.rows import Row
from vla.sim import libero_suites
from vla.sim.libero import Config
from vla.sim.libero_world import Render

SUITE, TASK, SIZE, LOOK_EVERY = "libero_spatial", 0, 256, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24, help="control steps in a turn, a multiple of 8")
    arguments = parser.parse_args()
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (arguments.steps, 7))
    with contextlib.ExitStack() as stack:
        measure(
            arguments,
            actions,
            {"ours": ours("decimated", stack), "ours_exact": ours("exact", stack), "stock": stock(stack)},
        )


def measure(arguments: argparse.Namespace, actions: np.ndarray, runs: dict[str, Callable[[np.ndarray], None]]) -> None:
    """Run them in turns and print the line."""
    for run in runs.values():
        run(actions[:LOOK_EVERY])  # compile, upload
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.turns):
        for name, run in runs.items():
            begin = time.perf_counter()
            run(actions)
            rates[name].append(len(actions) / (time.perf_counter() - begin))
    ratio = {
        name: statistics.median(a / b for a, b in zip(rates[name], rates["stock"], strict=True))
        for name in ("ours", "ours_exact")
    }
    result = {
        "benchmark": "libero_step",
        "unit": "control steps per second",
        **{name: round(statistics.median(values), 2) for name, values in rates.items()},
        "ratio": round(ratio["ours"], 2),
        "ratio_exact": round(ratio["ours_exact"], 2),
        "turns": arguments.turns,
        "steps": arguments.steps,
        "look_every": LOOK_EVERY,
        "load": [round(value, 2) for value in os.getloadavg()],
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(json.dumps(result))


def ours(render: Render, stack: contextlib.ExitStack) -> Callable[[np.ndarray], None]:
    """This project's body, looking once for every eight actions."""
    benchmark = Config(camera_size=SIZE, render=render).make()
    stack.callback(benchmark.close)
    body, task = benchmark.open(Row(SUITE, benchmark.tasks(SUITE)[TASK], init=0, seed=0))
    task.reset()

    def run(actions: np.ndarray) -> None:
        for step, action in enumerate(actions):
            body.observe(images=step % LOOK_EVERY == 0)
            body.world.step(action)

    return run


def stock(stack: contextlib.ExitStack) -> Callable[[np.ndarray], None]:
    """LIBERO's own environment as its evaluations use it: both pictures come with every step."""
    entry = libero_suites.tasks(SUITE)[TASK]
    libero_suites.import_libero()
    from libero.libero.envs import OffScreenRenderEnv

    with libero_suites.quiet():
        env = OffScreenRenderEnv(bddl_file_name=str(entry.bddl), camera_heights=SIZE, camera_widths=SIZE)
        stack.callback(env.close)
        env.seed(0)
        env.reset()
        env.set_init_state(entry.initial_states()[0])

    def run(actions: np.ndarray) -> None:
        for action in actions:
            env.step(action)

    return run


if __name__ == "__main__":
    main()
