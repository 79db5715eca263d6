"""One trial with everything on one clock: the same loop, driver, desk, servo and rules, but no sockets."""

from typing import Any

import numpy as np
from faults_client import Limited, client, draw
from faults_kinds import BRAKING, KINDS, PERIOD, FaultyNetwork, ServerGone
from faults_meter import MeteredPanda, read, violations

from vla.chunking import synchronous
from vla.robot_driver.mujoco_arm import Config, MujocoArm
from vla.robot_driver.mujoco_arm_lockstep import LockStep, LockStepLink
from vla.robot_driver.mujoco_arm_servo import ServoLimits
from vla.runtime import Pace, run_episode
from vla.sim.panda_model import FIRST

AFTER = 0.25
"""How long the arm is watched after it should stand [s]."""


class Killed(BaseException):
    """The client's process is gone: nothing of it runs any more."""


class LockStepPace(Pace):
    """The control rate on the trial's clock."""

    def __init__(self, lockstep: LockStep):
        self.period, self.lockstep = PERIOD, lockstep

    def wait(self) -> None:
        """Until the next tick."""
        self.lockstep.run((np.floor(self.lockstep.now / PERIOD + 1e-9) + 1) * PERIOD)


def start(rng: np.random.Generator) -> dict[str, Any]:
    """The scene: the arm near its first pose."""
    return {"joints": (FIRST + np.clip(rng.normal(0.0, 0.1, 7), -0.3, 0.3)).tolist()}


def trial(kind: str, seed: int, world: MeteredPanda, *, limits: bool = True) -> dict[str, Any]:
    """Run it; what happened as JSON values.

    Args:
        kind: of the fault.
        seed: decides the rest.
        world: the arm, which is used again.
        limits: whether safety is on, on both sides.
    """
    (drawn, rng), promise = draw(kind, seed, limits), KINDS[kind]
    lockstep = LockStep(world, ServoLimits(joints=limits, max_speed=1.7 if limits else 1e9))
    world.clock, world.found[-1] = lockstep.clock, 0.0
    network = FaultyNetwork(rng, kind, share=drawn.share)
    links: list[LockStepLink] = []

    def link(role: Any) -> LockStepLink:
        links.append(LockStepLink(lockstep, role, network=network))
        return links[-1]

    def unanswered(wander: Any) -> ServerGone:
        return ServerGone(wander, lambda: lockstep.wait(float(rng.uniform(0.0, 1.0))))

    side = client(MujocoArm(Config(), links=link), rng, safe=drawn.safe, clock=lockstep.clock, policy=unanswered)
    fault_at, paused = [np.inf], []

    def happen() -> None:
        fault_at[0] = lockstep.now
        if kind.startswith("packets"):
            network.begins = lockstep.now
        elif kind == "clock jump" and drawn.other:
            lockstep.arm_clock_off = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 5.0))
        elif kind == "gripper jam":
            world.found[-1] = 1.0
        elif kind == "operator e-stop":
            side.estop()
        elif kind == "process paused" and drawn.other:  # the arm's
            fault_at[0] = lockstep.arm_stands_until = lockstep.now + 1.1 + drawn.pause
        elif kind == "process paused":
            lockstep.wait(drawn.pause)
            # it stood meanwhile; what it does now, it does until the run ends
            paused.append(world.found[8] - fault_at[0])
            fault_at[0] = np.inf
        elif kind == "client killed":
            for one in links:
                if not drawn.other:  # else its cable went with it, and nobody is told
                    one.close()
                one.cut = True
            raise Killed
        else:
            side.fail(kind, rng, other=drawn.other)

    over = drawn.begins + (1.0 if promise.effect == "clamped" else promise.declared + 2.5)
    lockstep.at(drawn.begins, happen)
    task = Limited(side.arm.task(start(rng)), lambda: lockstep.now >= over)
    try:
        outcome = run_episode(
            side.outer, task, side.policy, seed=seed, executor=synchronous(None), pace=LockStepPace(lockstep)
        )
        status = outcome.error.split(":")[0] or outcome.status
    except Killed:
        status = "killed"
    if promise.effect == "clamped" or paused:
        fault_at[0] = lockstep.now
    lockstep.run(max(lockstep.now, fault_at[0]) + promise.declared + BRAKING + AFTER)
    row = {"kind": kind, "mode": "lock-step", "seed": seed, "limits": limits, "safe_body": drawn.safe, "status": status}
    return row | judged(
        kind, read(world.found), fault_at[0], lockstep.servo.telemetry(), side.rules(), paused, slack=0.0
    )


def judged(
    kind: str,
    found: dict[str, float],
    fault_at: float,
    telemetry: dict[str, Any],
    rules: dict[str, int],
    paused: list[float],
    *,
    slack: float,
) -> dict[str, Any]:
    """Whether the promise was kept.

    Args:
        kind: of the fault.
        found: by the meter.
        fault_at: when it began [s].
        telemetry: of the arm, at the end.
        rules: that acted on the policy's side.
        paused: times to the stop that were seen already [s].
        slack: what the machine may be late by [s].
    """
    promise = KINDS[kind]
    since = max(fault_at, found["goal_at"]) if promise.obeyed else fault_at
    stop, declared = max(0.0, found["moving_at"] - since, *paused), promise.declared + BRAKING + slack
    return {
        "stop_s": round(stop, 4),
        "declared_s": round(declared, 4),
        "stands": bool(telemetry["mode"] == "holding" and stop <= declared),
        "violations": violations(found),
        "policy_side": rules,
        "arm_side": telemetry["rules"],
        "steps": int(found["steps"]),
        "peaks": {
            name: round(value, 4) for name, value in found.items() if name.startswith(("joint_", "grip", "tool"))
        },
    }
