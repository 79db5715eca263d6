"""One trial with everything on one clock: the same loop, driver, desk, servo and rules, but no sockets."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from faults_kinds import (
    BRAKING,
    KINDS,
    PERIOD,
    FaultyBody,
    FaultyNetwork,
    ServerGone,
    Wander,
    mislead,
    spoil,
)
from faults_meter import MeteredPanda, read, violations

from vla.chunking import synchronous
from vla.embodiments.panda_arm import LIMITS
from vla.robot_driver.mujoco_arm import Config, MujocoArm
from vla.robot_driver.mujoco_arm_lockstep import LockStep, LockStepLink
from vla.robot_driver.mujoco_arm_servo import ServoLimits
from vla.runtime import Pace, run_episode
from vla.safety import SafeBody
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
        now = self.lockstep.now
        self.lockstep.run((np.floor(now / PERIOD + 1e-9) + 1) * PERIOD)


def trial(kind: str, seed: int, world: MeteredPanda, *, limits: bool = True) -> dict[str, Any]:
    """Run it; what happened as JSON values.

    Args:
        kind: of the fault.
        seed: decides the rest.
        world: the arm, which is used again.
        limits: whether safety is on, on both sides.
    """
    rng = np.random.default_rng([seed, *kind.encode()])
    promise = KINDS[kind]
    safe = limits and (not promise.bare or bool(rng.random() < 0.7))
    begins = float(rng.uniform(0.3, 0.9))
    pause = float(rng.uniform(SILENT, 3.0))
    deaf = bool(rng.random() < 0.3)  # kinds with two ways to happen
    lockstep = LockStep(world, ServoLimits(joints=limits, max_speed=1.7 if limits else 1e9))
    world.clock, world.found[-1] = lockstep.clock, 0.0
    network = FaultyNetwork(rng, kind, np.inf, float(rng.uniform(0.3, 1.0)))
    links: list[LockStepLink] = []

    def link(role: Any) -> LockStepLink:
        links.append(LockStepLink(lockstep, role, network=network))
        return links[-1]

    arm = MujocoArm(Config(), links=link)
    senses = FaultyBody(arm)
    body = SafeBody(senses, LIMITS, clock=lockstep.clock) if safe else senses
    outer = FaultyBody(body)  # spoils what the policy's side is told, past the checks of the chunk
    wander = Wander(arm.spec, rng)
    policy = ServerGone(wander, lambda: lockstep.wait(float(rng.uniform(0.0, 1.0))))
    joints = np.clip(FIRST + rng.normal(0.0, 0.1, 7), LOW, HIGH)
    task = arm.task({"joints": joints.tolist()})
    fault_at, paused = [np.inf], []

    def happen() -> None:
        fault_at[0] = lockstep.now
        if kind.startswith("packets"):
            network.begins = lockstep.now
        elif kind in ("policy NaN", "policy huge") and deaf:
            outer.bad = spoil(kind, rng, arm.spec.action.size, first=True)
        elif kind.startswith("policy"):
            wander.bad = spoil(kind, rng, arm.spec.action.size)
        elif kind == "server killed":
            policy.gone = True
        elif kind == "clock jump" and deaf:
            lockstep.arm_clock_off = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 5.0))
        elif kind.startswith(("camera", "state", "clock")):
            senses.fault = mislead(kind, rng)
        elif kind == "gripper jam":
            world.found[-1] = 1.0
        elif kind == "operator e-stop":
            if isinstance(body, SafeBody):
                body.estop()
            else:
                arm.estop("the operator pressed it")
        elif kind == "process paused" and deaf:
            lockstep.arm_stands_until = lockstep.now + 1.1 + pause
            fault_at[0] = lockstep.arm_stands_until
        elif kind == "process paused":
            lockstep.wait(pause)
            # it stood meanwhile; what it does now, it does until the run ends
            paused.append(world.found[8] - fault_at[0])
            fault_at[0] = np.inf
        elif kind == "client killed":
            for one in links:
                if not deaf:
                    one.close()
                one.cut = True
            raise Killed

    def finish() -> None:
        for one in links:
            one.close()

    over = begins + (1.0 if promise.effect == "clamped" else promise.declared + 2.5)
    lockstep.at(begins, happen)
    status = "ended"
    try:
        world_steps = Limited(task, over, lockstep)
        outcome = run_episode(
            outer, world_steps, policy, seed=seed, executor=synchronous(None), pace=LockStepPace(lockstep)
        )
        status = outcome.error.split(":")[0] or outcome.status
        ended = lockstep.now
    except Killed:
        status, ended = "killed", lockstep.now
    if promise.effect == "clamped" or paused:
        fault_at[0] = ended
    lockstep.run(max(lockstep.now, fault_at[0]) + promise.declared + BRAKING + AFTER)
    found = read(world.found)
    since = max(fault_at[0], found["goal_at"]) if promise.obeyed else fault_at[0]
    stop = max(0.0, found["moving_at"] - since, *paused)
    telemetry = lockstep.servo.telemetry()
    return {
        "kind": kind,
        "mode": "lock-step",
        "seed": seed,
        "limits": limits,
        "safe_body": safe,
        "status": status,
        "stop_s": round(stop, 4),
        "declared_s": round(promise.declared + BRAKING, 4),
        "stands": bool(telemetry["mode"] == "holding" and stop <= promise.declared + BRAKING),
        "violations": violations(found),
        "policy_side": dict(Counter(event.rule for event in body.events)) if isinstance(body, SafeBody) else {},
        "arm_side": telemetry["rules"],
        "steps": int(found["steps"]),
        "peaks": {name: round(value, 4) for name, value in found.items() if name.startswith("joint_")},
    }


SILENT = 0.8
"""Shortest pause: longer than the arm takes to stop [s]."""

LOW, HIGH = FIRST - 0.3, FIRST + 0.3


@dataclass
class Limited:
    """The arm's task, over when the trial's time is."""

    task: Any
    over: float
    lockstep: LockStep

    @property
    def instruction(self) -> str:
        """The arm's."""
        return self.task.instruction

    @property
    def max_steps(self) -> int:
        """More than there is time for."""
        return 10_000

    def reset(self) -> None:
        """The arm's."""
        self.task.reset()

    def succeeded(self) -> bool:
        """Whether the time is over; nobody is asked."""
        return self.lockstep.now >= self.over
