"""The expert: from a scene's goal to the raw actions that reach it, from the simulator's true state.

::

    goal ─ goals ─▶ subgoals ─┬─ on, in ──────────── carry ───────┐
                              └─ open, close, turn ─ articulated ─┴─▶ motion ─ servo ─▶ one step at a time

The state is only read. Whatever happens to an action on its way is seen before the next one, and what failed is planned
again from how things lie then.
"""

from collections.abc import Iterator

import numpy as np

from vla.sim.expert.articulated import operate
from vla.sim.expert.carry import put
from vla.sim.expert.goals import PUT, subgoals
from vla.sim.expert.motion import Arm
from vla.sim.expert.servo import hand_pose
from vla.sim.expert.solids import Solids
from vla.sim.expert.subtasks import Step
from vla.sim.libero_world import LiberoWorld

ROUNDS = 3  # over all subgoals: a later one may have undone an earlier one
SPEEDS = (0.8, 1.0)  # that are drawn from where demonstrations shall differ


def solve(world: LiberoWorld, rng: np.random.Generator, jitter: float = 0.0) -> Iterator[Step]:
    """Raw actions that solve the scene's goal, and what each is part of; ends when it holds or nothing is left to try.

    Args:
        world: the scene, ready.
        rng: draws jitter, speed and ties between plans.
        jitter: largest displacement of the points in the air that are passed on the way [m].

    Raises:
        ConfigError: the goal is not one the expert knows.
    """
    arm = Arm(world, Solids(world), rng, jitter, float(rng.uniform(*SPEEDS)) if jitter else 1.0, hand_pose(world))
    for _ in range(ROUNDS):
        for subgoal in subgoals(world):
            predicate = list(subgoal.predicate)
            if arm.satisfied(predicate):
                continue
            if predicate[0] in PUT:
                yield from put(arm, predicate, subgoal.part, subgoal.parts)
            else:
                yield from operate(arm, predicate)
        if world.succeeded():
            return
