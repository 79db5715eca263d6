"""How do generated demonstrations compare with LIBERO's own, which people recorded?

For each suite a table: episode lengths, gripper, and for every channel of action and state the least, greatest, 1 % and
99 % quantile, mean and standard deviation; theirs from the published statistics in ``--reference`` (pooled per suite
from the public LeRobot set, quantiles of OpenVLA's; both without the steps in which nothing moved). At the end one JSON
line.

    python benchmarks/demo_statistics.py --reference data/libero_reference --per-task 5

What differs, and why (20 generated episodes of each suite, ``--per-task 2``):

- Episodes are about as long (libero_spatial 119 steps against 123, libero_object 122 against 148, libero_goal 130
  against 122, libero_10 228 against 268; theirs are counted without the pauses): the expert goes straight and fast
  between things, but comes down slowly and checks what it holds.
- People saturate at +-0.9375, the end stop of their SpaceMouse; the expert's largest translation is 1.
- Rotations about horizontal axes agree in libero_spatial and libero_object; in libero_goal and libero_10 the expert
  leans its hand to reach drawers, knobs and the microwave (standard deviation of drx 0.17 against 0.06, and 0.09
  against 0.04). About the vertical it turns up to 0.8 of the largest step at once and more often (0.12 against 0.06 in
  libero_spatial, 0.25 against 0.09 in libero_10), to grip across a thing; people leave the hand more as it is.
- The state's ranges agree to a few centimetres. The expert keeps the hand upright unless a grasp leans: rz, which is 0
  for every upright hand, varies by 0.05 rad in libero_spatial and libero_object, people's by 0.22 and 0.21.
- The gripper is closed for about as long in libero_spatial, for longer elsewhere (libero_object 0.65 against 0.54,
  libero_goal 0.67 against 0.37, libero_10 0.59 against 0.45): the expert pushes drawers, doors, knobs and the plate
  with closed fingers, people often with open ones; and what it carries it carries for a larger part of a shorter
  episode.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vla.embodiments.libero_panda import ACTION, RAW_ACTION, STATE
from vla.experience import Episode
from vla.sim import libero_suites
from vla.sim.expert.generate import GenerateConfig, generate
from vla.sim.expert.record import NONE, Disturbance
from vla.transforms import action_map

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
KINDS = ("min", "q01", "mean", "q99", "max", "std")
TO_RAW = action_map(ACTION, RAW_ACTION)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--suites", nargs="+", default=SUITES)
    parser.add_argument("--tasks", nargs="*", type=int, default=[], help="numbers; all if none is given")
    parser.add_argument("--per-task", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--clean", action="store_true", help="without disturbances")
    arguments = parser.parse_args()
    summary = {}
    for suite in arguments.suites:
        names = tuple(
            task.name for task in libero_suites.tasks(suite) if task.number in (arguments.tasks or [task.number])
        )
        config = GenerateConfig(
            suite=suite,
            tasks=names,
            episodes=arguments.per_task,
            camera_size=16,
            render="exact",  # nothing is drawn: no meshes to thin out
            images=False,
            disturbance=NONE if arguments.clean else Disturbance(),
            workers=arguments.workers,
        )
        ours, theirs = measured(list(generate(config))), published(arguments.reference, suite)
        show(suite, ours, theirs)
        lengths = {"ours": ours["length"]["mean"], "published": theirs["length"]["mean"]}
        summary[suite] = lengths | {"ratio": round(lengths["ours"] / lengths["published"], 3)}
    print(json.dumps({"benchmark": "demo_statistics", "mean_episode_length": summary}))


def measured(episodes: list[Episode]) -> dict[str, Any]:
    """Of generated episodes; actions as the environment takes them, [-1, 1], gripper -1 open."""
    actions = [np.stack([TO_RAW(action) for action in episode.action]) for episode in episodes]
    lengths = np.array([len(episode) for episode in episodes])
    closed = [action[:, 6] > 0 for action in actions]
    return {
        "episodes": len(episodes),
        "length": {"min": int(lengths.min()), "mean": float(lengths.mean()), "max": int(lengths.max())},
        "closed": float(np.concatenate(closed).mean()),
        "switches": float(np.mean([np.count_nonzero(np.diff(each.astype(int))) for each in closed])),
        "action": _numbers(np.concatenate(actions)),
        "state": _numbers(np.concatenate([episode.state for episode in episodes])),
    }


def published(folder: Path, suite: str) -> dict[str, Any]:
    """Of the public demonstrations of a suite, in the same form; what was not published is missing."""
    pooled = json.loads((folder / "pooled_per_suite_stats.json").read_text())[suite]
    openvla = json.loads((folder / "openvla_libero_no_noops_dataset_statistics.json").read_text())[f"{suite}_no_noops"]
    instructions = {task.instruction for task in libero_suites.tasks(suite)}
    rows = map(json.loads, (folder / "lerobot_v21_meta" / "episodes.jsonl").read_text().splitlines())
    lengths = np.array([row["length"] for row in rows if row["tasks"][0] in instructions])
    action, state = dict(pooled["actions"]), dict(pooled["state"])
    for kind in ("q01", "q99"):
        values = np.array(openvla["action"][kind])
        values[6] = 1 - 2 * values[6]  # theirs is 1 open
        action[kind] = values.tolist()
        if openvla["proprio"]:
            state[kind] = openvla["proprio"][kind]
    action["q01"][6], action["q99"][6] = sorted((action["q01"][6], action["q99"][6]))
    return {
        "episodes": pooled["episodes"],
        "length": {"min": int(lengths.min()), "mean": float(lengths.mean()), "max": int(lengths.max())},
        "closed": (1 + pooled["actions"]["mean"][6]) / 2,
        "action": action,
        "state": state,
    }


def show(suite: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Print both side by side."""
    print(f"\n{suite}: {ours['episodes']} generated, {theirs['episodes']} published episodes")
    print(f"{'':24s} {'generated':>28s}   {'published':>28s}")
    lengths = [
        f"{each['length']['min']} / {each['length']['mean']:.0f} / {each['length']['max']}" for each in (ours, theirs)
    ]
    print(f"{'length min/mean/max':24s} {lengths[0]:>28s}   {lengths[1]:>28s}")
    print(f"{'gripper closed':24s} {ours['closed']:>28.2f}   {theirs['closed']:>28.2f}")
    print(f"{'gripper switches':24s} {ours['switches']:>28.1f}   {'-':>28s}")
    for group, channels in (("action", ACTION.channels), ("state", STATE)):
        print(f"{group:14s} " + "  ".join(f"{kind:>15s}" for kind in KINDS) + "   (generated | published)")
        for index, channel in enumerate(channels):
            cells = [
                "|".join(
                    f"{float(each[group][kind][index]):7.3f}" if kind in each[group] else "      -"
                    for each in (ours, theirs)
                )
                for kind in KINDS
            ]
            print(f"  {channel.name:12s} " + "  ".join(cells))


def _numbers(values: np.ndarray) -> dict[str, list[float]]:
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    found = {
        "min": values.min(0),
        "q01": low,
        "mean": values.mean(0),
        "q99": high,
        "max": values.max(0),
        "std": values.std(0),
    }
    return {name: each.tolist() for name, each in found.items()}


if __name__ == "__main__":
    main()
