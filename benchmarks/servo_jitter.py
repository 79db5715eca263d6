"""How late does a 500 Hz servo loop tick while every core computes, and which way of waiting keeps the deadlines?

Each loop runs in a process of its own, with the servo's real work in it (a path of 7 joints, bounded motion), while as
many other processes as there are cores compute without pause: one asks the ``nano`` policy (random weights, two
cameras) for chunks, the others multiply matrices; one thread each, all of ordinary priority. The loops:

* ``ours``: :class:`~vla.robot_driver.pacing.Pacer`, absolute deadlines, ordinary priority;
* ``ours_realtime``: the same after ``prefer_this_thread`` (what the system granted is in the result);
* ``sleep``: the plain loop, ``time.sleep(period - elapsed)``;
* ``lerobot``: the same with ``lerobot.utils.robot_utils.precise_sleep``, as its control loops wait.

In turns, several rounds. A tick's lateness is counted against the grid of deadlines from the first tick on for ours;
for the others, that have no grid, against the tick before it and one period: their drift counts only in ``missed``,
the deadlines of a 500 Hz grid over the whole time in whose period no tick began. ``interval`` is the time between two
ticks less the period, for all alike. Medians of the rounds in microseconds; ``max`` is the largest of all.

Give a number of seconds for each turn (default 10), and of rounds (default 5).
"""

import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from vla.robot_driver.motion import Motion, MotionLimits
from vla.robot_driver.pacing import Pacer, freeze_garbage, prefer_this_thread
from vla.robot_driver.trajectory import JointPath

RATE = 500
PERIOD = 1 / RATE
PRIORITY = 80
LOOPS = ("ours", "ours_realtime", "sleep", "lerobot")
LIMITS = MotionLimits((-2.8,) * 7, (2.8,) * 7, (2.1,) * 7, (10.0,) * 7, (1000.0,) * 7)


def load(place: int, ready: Any) -> None:
    """Compute until killed."""
    import torch

    torch.set_num_threads(1)
    work = inference() if place == 0 else matrices()
    work()
    ready.release()
    while True:
        work()


def inference() -> Callable[[], Any]:
    """Asks a policy for a chunk."""
    from dataclasses import replace

    import torch

    from vla.model.backbone import Inputs
    from vla.model.config import BodyShape
    from vla.model.presets import preset
    from vla.model.vla_model import build

    config = replace(preset("nano"), bodies=(BodyShape("arm", 8, 7),), cameras=("primary", "wrist"))
    model = build(config).eval()
    inputs = Inputs(
        torch.randint(0, 256, (1, 2, 128, 128, 3), dtype=torch.uint8),
        None,
        torch.ones(1, 2, dtype=torch.bool),
        torch.randint(3, 200, (1, 12)),
        torch.ones(1, 12, dtype=torch.bool),
        torch.randn(1, 8),
        torch.zeros(1, dtype=torch.long),
    )
    noise = torch.randn(1, config.horizon, 7)
    return lambda: model.sample(inputs, 10, noise=noise)


def matrices() -> Callable[[], Any]:
    """Multiplies two."""
    import torch

    one = torch.randn(512, 512)
    return lambda: one @ one


@contextmanager
def loaded(processes: int) -> Iterator[None]:
    """So many processes compute inside."""
    context = multiprocessing.get_context("spawn")
    ready = context.Semaphore(0)
    loads = [context.Process(target=load, args=(place, ready), daemon=True) for place in range(processes)]
    for process in loads:
        process.start()
    for process in loads:
        while not ready.acquire(timeout=1.0):
            if not process.is_alive():
                raise SystemExit(f"a load ended with code {process.exitcode}")
    try:
        yield
    finally:
        for process in loads:
            process.kill()
            process.join()


def loop(kind: str, seconds: float, answer: Any) -> None:
    """Tick for some seconds; answers with each tick's time, lateness and work [s], what was granted, and was missed."""
    motion = Motion(LIMITS, PERIOD, np.zeros(7))
    knots = np.linspace(0, seconds + 1, round(20 * seconds) + 20)
    path = JointPath(knots, np.sin(knots[:, None] + np.arange(7)))
    times = np.zeros(round(2 * RATE * seconds))
    late, spent = np.zeros_like(times), np.zeros_like(times)
    granted: dict[str, bool] = {}
    if kind == "lerobot":
        from lerobot.utils.robot_utils import precise_sleep as wait
    else:
        wait = time.sleep
    freeze_garbage()
    if kind == "ours_realtime":
        granted = prefer_this_thread(PRIORITY)
    pacer = Pacer(PERIOD) if kind.startswith("ours") else None
    count, begin = 0, time.monotonic()
    while True:
        now = pacer.wait() if pacer else time.monotonic()
        if now - begin > seconds:
            break
        target = path.at(now - begin)
        if target is not None:
            motion.step(*target)
        times[count], spent[count] = now, time.monotonic() - now
        late[count] = pacer.late if pacer else now - times[count - 1] - PERIOD if count else 0.0
        count += 1
        if pacer is None:
            wait(max(0.0, PERIOD - (time.monotonic() - now)))
    slots = np.unique(np.floor((times[:count] - begin) / PERIOD + 1e-3))  # of the grid that begins with the loop
    missed = pacer.missed if pacer else round(seconds * RATE) - len(slots)
    answer.send((times[:count], late[:count], spent[:count], granted, missed))


def turn(kind: str, seconds: float) -> dict[str, Any]:
    """Figures of one turn [us]."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=loop, args=(kind, seconds, theirs), daemon=True)
    process.start()
    times, late, spent, granted, missed = ours.recv()
    process.join()
    intervals = np.abs(np.diff(times) - PERIOD)
    figures = {"missed": missed, "deadlines": round(seconds * RATE), "granted": granted}
    for name, values in (("late", late), ("interval", intervals), ("work", spent)):
        p50, p99 = np.percentile(1e6 * values, [50, 99])
        figures[name] = {"p50": float(p50), "p99": float(p99), "max": float(1e6 * values.max())}
    return figures


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the rounds of one loop."""
    found: dict[str, Any] = {
        "missed": sum(one["missed"] for one in rounds),
        "deadlines": sum(one["deadlines"] for one in rounds),
    }
    for name in ("late", "interval", "work"):
        found[f"{name}_us"] = {
            which: round((max if which == "max" else statistics.median)(one[name][which] for one in rounds), 1)
            for which in ("p50", "p99", "max")
        }
    if rounds[0]["granted"]:
        found["granted"] = rounds[0]["granted"]
    return found


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in LOOPS}
    with loaded(cores):
        for _ in range(rounds):
            for kind in LOOPS:
                results[kind].append(turn(kind, seconds))
                late = results[kind][-1]["late"]
                print(f"  {kind:14} late p99 {late['p99']:9.1f} max {late['max']:9.1f} us", file=sys.stderr, flush=True)
    table = {kind: summary(found) for kind, found in results.items()}
    for kind, row in table.items():
        late, interval = row["late_us"], row["interval_us"]
        print(
            f"{kind:14} late p50 {late['p50']:8.1f} p99 {late['p99']:9.1f} max {late['max']:9.1f} us; interval p99 "
            f"{interval['p99']:9.1f} us; missed {row['missed']} of {row['deadlines']}",
            file=sys.stderr,
        )

    def ratio(other: str, ours: str) -> float:
        pairs = zip(results[other], results[ours], strict=True)
        return round(statistics.median(a["interval"]["p99"] / b["interval"]["p99"] for a, b in pairs), 2)

    result = {
        "question": f"lateness of a {RATE} Hz loop while {cores} cores compute",
        "seconds_a_turn": seconds,
        "rounds": rounds,
        "loops": table,
        "interval_p99_sleep_over_ours": ratio("sleep", "ours"),
        "interval_p99_lerobot_over_ours": ratio("lerobot", "ours"),
        "interval_p99_lerobot_over_ours_realtime": ratio("lerobot", "ours_realtime"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
