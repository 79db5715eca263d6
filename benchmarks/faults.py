"""Is any limit of the arm ever violated, whatever fails around it, and does it stop as soon as is declared?

Seeded trials of 15 kinds of faults on a Panda in MuJoCo behind its server's own code, measured inside the simulator at
every physics step (500 Hz): ``lock-step`` with everything on one clock, ``real time`` with real processes, sockets and
signals. One row for each trial is appended to a file; a run that was broken off goes on where it was. With
``--no-limits`` the same trials run with safety off: it then *must* find violations, or it could not have found any.

    python benchmarks/faults.py --trials 2000 --out faults.jsonl
    python benchmarks/faults.py --trials 0 --real-time 100 --out faults.jsonl
    python benchmarks/faults.py --trials 150 --no-limits --out faults_off.jsonl

Prints a table and one JSON line; exit code 1 if a limit was violated or the arm stopped too late (with limits), or if
nothing was found (without).
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from faults_kinds import KINDS


def plan(trials: int) -> list[tuple[str, int]]:
    """Kinds in turn, with the seeds of each counting up."""
    names = list(KINDS)
    return [(names[place % len(names)], place // len(names)) for place in range(trials)]


def rows(path: Path) -> list[dict[str, Any]]:
    """What is in the file; a last line that was broken off is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def run(path: Path, mode: str, trials: int, *, limits: bool, skip: int = 0) -> None:
    """Run what is not in the file yet."""
    text = path.read_text() if path.exists() else ""
    if text and not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1])
    done = {(row["kind"], row["seed"]) for row in rows(path) if row["mode"] == mode and row["limits"] == limits}
    todo = [item for item in plan(trials)[skip:] if item not in done]
    if not todo:
        return
    if mode == "lock-step":
        from faults_lockstep import trial
        from faults_meter import MeteredPanda

        from vla.sim.panda_arm import MakePandaArm

        world = MeteredPanda(MakePandaArm(), time.monotonic)
        results: Iterable[dict[str, Any]] = (trial(kind, seed, world, limits=limits) for kind, seed in todo)
    else:
        from faults_processes import trials as in_processes

        results = in_processes(todo)
    with path.open("a", buffering=1) as file:
        for row in results:
            print(json.dumps(row), file=file)
            wrong = row["violations"] or not row["stands"]
            if wrong and limits:
                print(f"! {row['kind']} {row['seed']}: {row}", file=sys.stderr)


def table(found: list[dict[str, Any]]) -> str:
    """One line for each kind and mode."""
    head = f"{'fault':<18} {'mode':<9} trials violations late  stop [s] p50   worst  declared  rules that acted"
    lines = [head, "-" * len(head)]
    for mode in ("lock-step", "real time"):
        for kind in KINDS:
            mine = [row for row in found if row["kind"] == kind and row["mode"] == mode]
            if not mine:
                continue
            stops = sorted(row["stop_s"] for row in mine)
            acted: Counter[str] = Counter()
            for row in mine:
                acted.update({f"{rule}*" for rule in row["policy_side"]} | set(row["arm_side"]))
            rules = ", ".join(f"{rule} {count}" for rule, count in acted.most_common())
            lines.append(
                f"{kind:<18} {mode:<9} {len(mine):6d} {sum(bool(row['violations']) for row in mine):10d} "
                f"{sum(not row['stands'] for row in mine):4d} {stops[len(stops) // 2]:13.3f} {stops[-1]:7.3f} "
                f"{mine[0]['declared_s']:9.3f}  {rules}"
            )
    return "\n".join([*lines, "* on the policy's side; counts are trials in which a rule acted"])


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON line."""
    peaks: dict[str, float] = {}
    for row in found:
        for name, value in row["peaks"].items():
            peaks[name] = max(peaks.get(name, value), value)
    return {
        "trials": dict(Counter(row["mode"] for row in found)),
        "kinds": len({row["kind"] for row in found}),
        "measured_steps": sum(row["steps"] for row in found),
        "violations": sum(bool(row["violations"]) for row in found),
        "violated": dict(Counter(name for row in found for name in row["violations"])),
        "late": sum(not row["stands"] for row in found),
        "worst_stop_s": max((row["stop_s"] for row in found if row["stands"]), default=None),
        "peaks": peaks,
    }


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description="Is any limit of the arm ever violated?")
    parser.add_argument("--trials", type=int, default=2000, help="in lock-step")
    parser.add_argument("--skip", type=int, default=0, help="so many of these, which another process runs")
    parser.add_argument("--real-time", type=int, default=0, help="with real processes")
    parser.add_argument("--no-limits", action="store_true", help="safety off: violations must be found")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one for each trial; appended to")
    options = parser.parse_args()
    limits = not options.no_limits
    run(options.out, "lock-step", options.trials, limits=limits, skip=options.skip)
    if limits:
        run(options.out, "real time", options.real_time, limits=True)
    found = [row for row in rows(options.out) if row["limits"] == limits]
    total = summary(found)
    print(table(found), file=sys.stderr)
    print(json.dumps({"limits": limits} | total))
    if limits:
        return 1 if total["violations"] or total["late"] else 0
    return 0 if total["violations"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
