"""Does a servo keep its deadlines while the policy's process infers: in a process of its own, or in a thread of it?

The servo of a :class:`~vla.robot_driver.streamed_arm.StreamedArm`, 500 Hz, seven joints, over a link that is where it
was told to be. The policy's process asks the ``nano`` policy (random weights, two cameras, one thread) for chunks
without pause, and ten times a second it observes and commands between two of them. In turns, several rounds.

``missed`` are deadlines in whose period no tick began, in all rounds; ``late`` is a tick's lateness, ``call`` an
observation and a command together: the price of the way to the other process. Medians of the rounds; ``max`` is the
largest of all.

Give a number of seconds for each turn (default 10), and of rounds (default 5).
"""

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from servo_jitter import inference

from vla.arm_channels import arm
from vla.robot_driver.arm_link import Measured
from vla.robot_driver.vendor_arm import joint_motion, open_arm

RATE, ACTIONS = 500, 10.0
RANGES = ((-2.8, 2.8),) * 7
KINDS = ("process", "thread")


class Obedient:
    """A link to an arm that is where it was told to be."""

    tool = None

    def __init__(self):
        self.joints = np.zeros(7)

    def read(self) -> Measured:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        return Measured(time.monotonic(), self.joints, np.eye(4))

    def send_tool(self, pose: np.ndarray) -> None:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        raise NotImplementedError("joints are commanded")

    def send_joints(self, positions: np.ndarray) -> None:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""
        self.joints = positions

    def grip(self, opening: float) -> None:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""

    def halt(self) -> None:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""

    def close(self) -> None:
        """See :class:`~vla.robot_driver.arm_link.ArmLink`."""


def turn(kind: str, seconds: float, infer: Callable[[], Any]) -> dict[str, Any]:
    """Figures of one turn."""
    spec = arm("obedient", RANGES, joints=True, gripper=False, rate=ACTIONS)
    motion = joint_motion(RANGES, 1.0)
    calls: list[float] = []
    body = open_arm(Obedient, spec, motion, rate=RATE, cameras=(), process=kind == "process")
    with contextlib.closing(body):
        begin = due = time.monotonic()
        while (now := time.monotonic()) < begin + seconds:
            if now >= due:
                due += 1 / ACTIONS
                body.observe(images=False)
                body.command(0.5 * np.sin(now - begin + np.arange(7)).astype(np.float32))
                calls.append(time.monotonic() - now)
            infer()
        report = body.report()
    late = report["late_us"]
    call = {"p50": float(np.median(calls)) * 1e6, "max": max(calls) * 1e6}
    return {"missed": report["missed"], "deadlines": report["ticks"] + report["missed"], "late": late, "call": call}


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the rounds of one kind."""
    found: dict[str, Any] = {name: sum(one[name] for one in rounds) for name in ("missed", "deadlines")}
    for name in ("late", "call"):
        found[f"{name}_us"] = {
            which: round((max if which == "max" else statistics.median)(one[name][which] for one in rounds), 1)
            for which in rounds[0][name]
        }
    return found


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    import torch

    torch.set_num_threads(1)
    infer = inference()
    infer()
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            results[kind].append(turn(kind, seconds, infer))
            one = results[kind][-1]
            print(f"  {kind:8} missed {one['missed']} of {one['deadlines']}", file=sys.stderr, flush=True)
    pairs = zip(results["thread"], results["process"], strict=True)
    result = {
        "question": f"deadlines of a {RATE} Hz servo while the policy's process infers",
        "seconds_a_turn": seconds,
        "rounds": rounds,
        **{kind: summary(found) for kind, found in results.items()},
        "late_p99_thread_over_process": round(
            statistics.median(a["late"]["p99"] / b["late"]["p99"] for a, b in pairs), 2
        ),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
