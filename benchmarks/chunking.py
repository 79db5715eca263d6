"""What does slow inference do to a moving arm, and which way of executing chunks hides it best?

The task and its exact two-way policy are in ``chunking_task.py``. Inference takes 0, 100, 200 or 400 ms of the world's
time. Four ways to execute its chunks of 16 actions at 20 Hz, on the same seeds:

* synchronous: 8 actions, then the arm waits for the next chunk;
* asynchronous: the next chunk is made meanwhile, and counts from when it is there;
* ensembling: all chunks that are there are averaged (ACT's weights);
* real-time chunking: the flow is guided to go on from what is planned.

The last three ask again as soon as they are answered, as Black et al. 2025 compare them (an execution horizon of
``max(delay, 1)`` actions).

``jump`` is the change of the commanded velocity where one chunk gives way to the next (root mean square, [m/s]);
``inside`` the same within chunks. ``jerk`` is that of the point's measured way within 3 periods of such a border,
[m/s3]. ``success`` is the share of episodes in which the point was within 2.5 cm of its place beside the target for
60 % of the time. Intervals are 95 %: Wilson's for shares, the bootstrap over episodes for the rest.
"""

import json
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from chunking_task import GAIN, PERIOD_S, Escort, TwoWays, WorldClock

from vla.asynchronous import asynchronous, asynchronous_ensembling, realtime
from vla.chunking import synchronous
from vla.intervals import wilson
from vla.protocols import Outcome, Step
from vla.runtime import run_episode

DELAYS_MS = (0, 100, 200, 400)
METHODS = ("synchronous", "asynchronous", "ensembling", "real-time chunking")
EXECUTE = 8
EPISODES = 60


@dataclass
class Watcher:
    """Notes commands, and when they came from a new chunk."""

    body: Escort
    wants_images: bool = False
    commands: list[np.ndarray] = field(default_factory=list)
    periods: list[int] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)

    def start(self, spec: Any, instruction: str) -> None:
        """Nothing to prepare."""

    def step(self, step: Step) -> None:
        """One command."""
        self.commands.append(step.action[:2] * GAIN)
        self.periods.append(self.body.periods)
        self.fresh.append(step.chunk is not None)

    def finish(self, outcome: Outcome) -> None:
        """Keep what the executor measured."""
        self.outcome = outcome


def episode(method: str, delay_ms: int, seed: int) -> dict[str, float]:
    """One episode's figures."""
    body, periods = Escort(seed), round(delay_ms / 1000 / PERIOD_S)
    waits = method == "synchronous"
    policy = TwoWays(slow=(lambda: body.wait(periods)) if waits else lambda: None)

    def worker() -> WorldClock:
        return WorldClock(body, periods)

    make = {
        "synchronous": synchronous(EXECUTE),
        "asynchronous": asynchronous(worker=worker),
        "ensembling": asynchronous_ensembling(worker=worker),
        "real-time chunking": realtime(worker=worker),
    }[method]
    watcher = Watcher(body)
    outcome = run_episode(body, body, policy, seed=seed, executor=make, observers=[watcher])
    if outcome.status == "error":
        raise RuntimeError(outcome.error)
    fresh = np.array(watcher.fresh[1:])
    changes = np.linalg.norm(np.diff(watcher.commands, axis=0), axis=1)
    jerk = np.linalg.norm(np.diff(body.places, 3, axis=0), axis=1) / PERIOD_S**3
    borders = np.array(watcher.periods[1:])[fresh]
    near = np.unique(np.concatenate([np.arange(border - 3, border + 3) for border in borders]))
    near = near[(near >= 0) & (near < len(jerk))]
    return {
        "jump": _rms(changes[fresh]),
        "inside": _rms(changes[~fresh]) if (~fresh).any() else float("nan"),
        "jerk": _rms(jerk[near]),
        "error": float(np.mean(body.errors[40:])),
        "success": float(body.good),
        "stopped": float(outcome.info.get("stopped_steps", 0)),
    }


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def cell(method: str, delay_ms: int, episodes: int) -> dict[str, Any]:
    """Figures of all episodes of a method with a delay."""
    found = [episode(method, delay_ms, seed) for seed in range(episodes)]
    result: dict[str, Any] = {"method": method, "delay_ms": delay_ms}
    successes = int(sum(one["success"] for one in found))
    result["success"] = [round(value, 2) for value in (successes / episodes, *wilson(successes, episodes))]
    random = np.random.default_rng(0)
    for name, digits in (("jump", 4), ("inside", 4), ("jerk", 2), ("error", 4), ("stopped", 1)):
        values = np.array([one[name] for one in found])
        if np.isnan(values).all():
            continue
        means = np.nanmean(values[random.integers(0, episodes, (1000, episodes))], axis=1)
        spread = np.percentile(means, [2.5, 97.5])
        result[name] = [round(float(value), digits) for value in (np.nanmean(values), *spread)]
    return result


def main() -> None:
    episodes = int(sys.argv[1]) if len(sys.argv) > 1 else EPISODES
    table = [cell(method, delay, episodes) for delay in DELAYS_MS for method in METHODS]
    titles = f"{'success':>8} {'95 %':>8} {'jump':>8} {'inside':>8} {'jerk':>6} {'95 %':>12} {'error':>7}"
    print(f"{'delay':>6} {'method':19} {titles}", file=sys.stderr)
    for row in table:
        inside = row.get("inside", [float("nan")])[0]
        share, low, high = (round(100 * value) for value in row["success"])
        jerk, least, most = row["jerk"]
        print(
            f"{row['delay_ms']:3} ms {row['method']:19} {share:6} % {f'{low}-{high}':>8} {row['jump'][0]:8.4f} "
            f"{inside:8.4f} {jerk:6.2f} {f'{least:.2f}-{most:.2f}':>12} {row['error'][0]:7.4f}",
            file=sys.stderr,
        )
    slowest = {row["method"]: row for row in table if row["delay_ms"] == max(DELAYS_MS)}
    behind, ahead = slowest["asynchronous"], slowest["real-time chunking"]
    result = {"question": "jumps between chunks and success with slow inference", "episodes": episodes, "table": table}
    ratios = {
        f"{name}_asynchronous_over_realtime": round(behind[name][0] / ahead[name][0], 2) for name in ("jump", "jerk")
    }
    print(json.dumps(result | {f"at_{max(DELAYS_MS)}_ms": ratios}))


if __name__ == "__main__":
    main()
