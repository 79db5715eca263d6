"""The policy's side of a trial: a policy on an arm within limits, and what can be made to go wrong there."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from faults_kinds import KINDS, FaultyBody, ServerGone, Wander, mislead, spoil

from vla.embodiments.panda_arm import LIMITS
from vla.robot_driver.mujoco_arm import MujocoArm
from vla.safety import SafeBody


@dataclass(frozen=True)
class Draw:
    """What the seed decides, the same in lock-step and in real time.

    Attributes:
        safe: whether the policy's side of safety is there; without it the arm's own must do.
        begins: when the fault does [s after the run].
        pause: of a process [s].
        other: the second of two ways to go wrong, where there are two.
        share: of packets that it happens to.
    """

    safe: bool
    begins: float
    pause: float
    other: bool
    share: float


def draw(kind: str, seed: int, limits: bool) -> tuple[Draw, np.random.Generator]:
    """The trial's dice, and what they have shown so far."""
    rng = np.random.default_rng([seed, *kind.encode()])
    safe = limits and (not KINDS[kind].bare or bool(rng.random() < 0.7))
    shown = rng.uniform((0.3, 0.8, 0.0, 0.3), (0.9, 3.0, 1.0, 1.0))
    return Draw(safe, float(shown[0]), float(shown[1]), bool(shown[2] < 0.3), float(shown[3])), rng


@dataclass
class Client:
    """A policy and a body, with hooks for faults.

    Attributes:
        arm: the driver.
        senses: around it.
        body: within limits, if there are any.
        outer: around that: what the policy's commands go through, past the checks of a chunk.
        wander: the policy itself.
        policy: what the run asks.
    """

    arm: MujocoArm
    senses: FaultyBody
    body: SafeBody | FaultyBody
    outer: FaultyBody
    wander: Wander
    policy: Any

    def fail(self, kind: str, rng: np.random.Generator, *, other: bool) -> None:
        """Something goes wrong here; what goes wrong elsewhere is the caller's."""
        size = self.arm.spec.action.size
        if kind in ("policy NaN", "policy huge") and other:
            self.outer.bad = spoil(kind, rng, size, first=True)
        elif kind.startswith("policy"):
            self.wander.bad = spoil(kind, rng, size)
        elif kind.startswith(("camera", "state", "clock")):
            self.senses.fault = mislead(kind, rng)
        elif kind == "server killed" and isinstance(self.policy, ServerGone):
            self.policy.gone = True

    def estop(self) -> None:
        """The operator's key, on the policy's side if safety is there."""
        if isinstance(self.body, SafeBody):
            self.body.estop()
        else:
            self.arm.estop("the operator pressed it")

    def rules(self) -> dict[str, int]:
        """What acted here."""
        return dict(Counter(event.rule for event in self.body.events)) if isinstance(self.body, SafeBody) else {}


def client(
    arm: MujocoArm,
    rng: np.random.Generator,
    *,
    safe: bool,
    clock: Callable[[], float],
    policy: Callable[[Wander], Any] = lambda wander: wander,
) -> Client:
    """Put together."""
    senses = FaultyBody(arm)
    body = SafeBody(senses, LIMITS, clock=clock) if safe else senses
    wander = Wander(arm.spec, rng)
    return Client(arm, senses, body, FaultyBody(body), wander, policy(wander))


@dataclass
class Limited:
    """The arm's task, over when the trial's time is.

    Attributes:
        task: the arm's.
        over: whether it is.
        begun: told when the scene is set.
    """

    task: Any
    over: Callable[[], bool]
    begun: Callable[[], None] = lambda: None

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
        self.begun()

    def succeeded(self) -> bool:
        """Whether the time is over; nobody is asked."""
        return self.over()
