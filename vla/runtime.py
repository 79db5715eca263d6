"""Runs one episode of a policy on a body, simulated or real, watched by observers. There is no ``if sim`` here."""

import time
from collections.abc import Sequence
from dataclasses import replace

from vla.anchoring import Anchor, anchored
from vla.chunking import MakeExecutor, synchronous
from vla.errors import BodyFault, PolicyFault
from vla.protocols import Body, Observer, Outcome, Policy, Step, Task
from vla.transforms import connect


class Pace:
    """Keeps a loop at a rate on the wall clock; a late tick is not made up for by hurrying the next ones."""

    def __init__(self, rate: float):
        self.period = 1.0 / rate
        self._next = time.perf_counter() + self.period

    def wait(self) -> None:
        """Sleep until the next tick."""
        now = time.perf_counter()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(self._next, now) + self.period


def run_episode(
    body: Body,
    task: Task,
    policy: Policy,
    *,
    seed: int,
    execute: int | None = None,
    executor: MakeExecutor | None = None,
    observers: Sequence[Observer] = (),
    pace: Pace | None = None,
    anchor: Anchor = "target",
) -> Outcome:
    """Set the task's scene, then observe, ask, command until the task is solved or its steps are used up.

    Args:
        body: what moves.
        task: sets the scene and knows the goal.
        policy: connected to the body by the conversions that :func:`~vla.transforms.connect` finds.
        seed: of the policy's noise.
        execute: rows of each chunk to execute before asking again; None for all.
        executor: decides instead when to ask and which row is next (:mod:`vla.asynchronous`).
        observers: told of every step; pictures are taken at every step only if one of them wants that.
        pace: the wall clock's rate for a body that runs by itself; None for a simulator that waits.
        anchor: what a chunk's deltas count from, on a body that holds a target (:mod:`vla.anchoring`).

    Returns:
        the outcome; a fault of the policy or the body ends the episode with status "error", the body stopped.

    Raises:
        SpecMismatch: policy and body do not fit; nothing has moved.
        ConfigError: the body does not measure the anchor.
    """
    make = executor or synchronous(execute)
    chunks = anchored(make(policy, connect(body.spec, policy.spec)), body, body.spec, anchor)
    always = any(observer.wants_images for observer in observers)
    status, error, steps, begin = "failure", "", 0, time.perf_counter()
    started: list[Observer] = []
    try:
        task.reset()
        chunks.begin(task.instruction, seed=seed)
        for observer in observers:
            observer.start(body.spec, task.instruction)
            started.append(observer)
        while steps < task.max_steps:
            observation = replace(body.observe(images=chunks.looks() or always), instruction=task.instruction)
            decision = chunks.step(observation)
            if decision.action is None:
                body.stop()  # no action in time: hold still until there is one; nothing was done that could be recorded
            else:
                sent = body.command(decision.action)
                for observer in observers:
                    observer.step(Step(steps, observation, decision.chunk, sent, decision.latency, decision.human))
            steps += 1
            if task.succeeded():
                status = "success"
                break
            if pace:
                pace.wait()
    except (PolicyFault, BodyFault) as fault:
        status, error = "error", f"{type(fault).__name__}: {fault}"
    except BaseException as crash:
        status, error = "error", f"{type(crash).__name__}: {crash}"
        raise
    finally:
        try:
            body.stop()
        finally:  # a body that cannot be told is no reason to lose the policy's thread or the recording
            try:
                chunks.close()
            finally:
                outcome = Outcome(status, steps, time.perf_counter() - begin, error, chunks.report())
                for observer in started:
                    observer.finish(outcome)
    return outcome
