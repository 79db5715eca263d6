"""LIBERO control steps per second: pictures when a policy looks, every 8th step, against the stock environment's.

Ours and the stock ``OffScreenRenderEnv`` (both cameras at 256 pixels in every step) run in turns in one process on the
same scene with the same actions. Prints one JSON line: steps per second of each (medians over the turns), the median of
the turns' ratios, also with undecimated meshes (``exact``), the load of the machine, and what it is.

``control_step_ms`` is a step without pictures, in processor time: ours; with robosuite's controller in the place of
ours, between the same halves of MuJoCo's step; as LIBERO steps; and MuJoCo alone, the torques kept. ``reset_ms``
is a scene set and settled, of which ten steps are a part.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vla.rows import Row
from vla.sim import libero_suites
from vla.sim.libero import Config
from vla.sim.libero_world import LiberoWorld, Render
from vla.sim.rendering import mujoco_binding

SUITE, TASK, SIZE, LOOK_EVERY = "libero_spatial", 0, 256, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24, help="control steps in a turn, a multiple of 8")
    arguments = parser.parse_args()
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (arguments.steps, 7))
    with contextlib.ExitStack() as stack:
        rendering = {"ours": ours("decimated", stack), "ours_exact": ours("exact", stack), "stock": stock(stack)}
        print(json.dumps(measure(arguments, actions, rendering) | control(arguments, actions, stack)))


def measure(
    arguments: argparse.Namespace, actions: np.ndarray, runs: dict[str, Callable[[np.ndarray], None]]
) -> dict[str, Any]:
    """Run them in turns; what the line says of them."""
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
    return {
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


def control(arguments: argparse.Namespace, actions: np.ndarray, stack: contextlib.ExitStack) -> dict[str, Any]:
    """Steps without pictures, in turns, and resets; processor time [ms], medians."""
    entry = libero_suites.tasks(SUITE)[TASK]
    world, plain = LiberoWorld(entry.bddl), LiberoWorld(entry.bddl, fused=False)
    for one in (world, plain):
        stack.callback(one.close)
        one.reset(entry.initial_states()[0], seed=0)
    mujoco, robot, sim = mujoco_binding.load(), world.env.robots[0], world.env.sim

    def robosuites(action: np.ndarray) -> None:
        sim.forward = lambda: None  # mj_step1 has done it
        for substep in range(25):
            mujoco.mj_step1(world.model, world.data)
            robot.control(action, policy_step=substep == 0)
            mujoco.mj_step2(world.model, world.data)
        del sim.forward

    def alone(action: np.ndarray) -> None:
        for _ in range(25):
            mujoco.mj_step1(world.model, world.data)
            mujoco.mj_step2(world.model, world.data)

    runs = {"ours": world.step, "robosuite_controller": robosuites, "stock": plain.step, "mujoco_alone": alone}
    times: dict[str, list[float]] = {name: [] for name in runs}
    resets: list[float] = []
    start = world.get_state()
    for _ in range(arguments.turns):
        for name, run in runs.items():
            world.restore(start)
            begin = time.process_time()
            for action in actions:
                run(action)
            times[name].append(1000 * (time.process_time() - begin) / len(actions))
        begin = time.process_time()
        world.reset(entry.initial_states()[0], seed=0)
        resets.append(1000 * (time.process_time() - begin))
    return {
        "control_step_ms": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "control_ratio": {
            name: round(statistics.median(a / b for a, b in zip(times[name], times["ours"], strict=True)), 2)
            for name in ("robosuite_controller", "stock")
        },
        "reset_ms": round(statistics.median(resets), 1),
    }


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
