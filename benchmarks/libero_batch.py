"""A policy in every simulator's process, or one for all: control steps per second and per CPU second on this machine.

The same rows with the same checkpoint in turns: two processes with a policy each, then two and three simulators that
share one policy, two observations at a time. Starting processes is left out. Prints one JSON line with medians over the
turns; CPU time counts every process and is disturbed less by other work on the machine.
"""

import argparse
import contextlib
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from libero_eval_peers import cpu_seconds

from vla.episode_worker import EpisodeJob, HandlerFactory, Identify
from vla.policies import vla_policy
from vla.policy_process import PolicyProcess
from vla.rows import Row
from vla.sim import libero, libero_suites
from vla.workers import Crew

NOWHERE = Path(os.devnull)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--max-steps", type=int, default=60)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    arguments = parser.parse_args()
    policy = vla_policy.Config(arguments.checkpoint.resolve(), threads=1)
    size = policy.make().spec.cameras[0].height
    factory = HandlerFactory(libero.Config(camera_size=size, max_steps=arguments.max_steps), policy, "policy", 8)
    task = libero_suites.tasks("libero_spatial")[0].name
    jobs = [EpisodeJob(Row("libero_spatial", task, init, init)) for init in range(arguments.episodes)]
    rates: dict[str, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        crews = {
            "each": (stack.enter_context(Crew(factory, 2, log=NOWHERE)), None),
            **{f"shared_{n}": stack.enter_context(shared(factory, n, arguments.batch)) for n in (2, 3)},
        }
        for name, (crew, _) in crews.items():
            list(crew.run([Identify()] * crew.workers))
            list(crew.run(jobs[:1] * crew.workers))  # compiles the scene
            rates[name] = []
        for _ in range(arguments.turns):
            for name, (crew, process) in crews.items():
                pids = [worker.process.pid for worker in crew._crew] + ([process.pid] if process else [])
                cpu, wall = sum(cpu_seconds(pid) for pid in pids if pid), time.perf_counter()
                steps = sum(answer.value.steps for answer in crew.run(jobs))
                wall, cpu = time.perf_counter() - wall, sum(cpu_seconds(pid) for pid in pids if pid) - cpu
                rates[name].append((steps / wall, steps / cpu))
    found = {"benchmark": "libero_batch", "unit": "control steps per second", "batch": arguments.batch}
    for name, told in rates.items():
        found[name] = round(statistics.median(wall for wall, _ in told), 2)
        found[f"{name}_per_cpu_second"] = round(statistics.median(cpu for _, cpu in told), 2)
    for place, what in enumerate(("ratio", "cpu_ratio")):
        best = [max(rates[f"shared_{n}"][turn][place] for n in (2, 3)) for turn in range(arguments.turns)]
        found[what] = round(statistics.median(b / a[place] for a, b in zip(rates["each"], best, strict=True)), 3)
    print(json.dumps(found | {"cores": os.cpu_count(), "load": [round(value, 1) for value in os.getloadavg()]}))


@contextlib.contextmanager
def shared(factory: HandlerFactory, simulators: int, batch: int) -> Iterator[tuple[Crew, PolicyProcess]]:
    """One policy for several simulators."""
    with PolicyProcess(factory.policy, batch, log=NOWHERE) as policy:

        @contextlib.contextmanager
        def equipped() -> Iterator[HandlerFactory]:
            with policy.seat() as seat:
                yield replace(factory, policy=seat)

        with Crew(factory, simulators, log=NOWHERE, equip=equipped) as crew:
            yield crew, policy


if __name__ == "__main__":
    main()
