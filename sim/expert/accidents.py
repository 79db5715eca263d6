"""What now and then goes wrong in a demonstration on purpose, so that the expert shows how to recover from it.

::

    slip   while something is carried, the gripper opens for some steps: it falls, is found where it lies, gripped again
    bump   while the hand comes down on something, it is pushed aside: it comes back, or misses and tries again
"""

from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.embodiments.libero_panda import STEP_M
from vla.sim.expert.subtasks import Subtask

SLIP_STEPS, BUMP_STEPS = 10, 6  # in 5 steps the fingers open too little for most things to fall
BUMP = 0.8  # of the largest translation
WITHIN = 12  # steps of the subtask, one of which it happens at


class Accidents:
    """Changes what is sent at a few steps of an episode, at most one slip and one bump.

    Attributes:
        happened: ``[first step, "slip" or "bump", steps]`` of each, as JSON values.

    Args:
        slips: probability of a slip in an episode.
        bumps: probability of a bump in an episode.
        rng: draws whether, when and where to; of its own, so that the rest of an episode does not depend on it.
    """

    def __init__(self, slips: float, bumps: float, rng: np.random.Generator):
        self.happened: list[list[Any]] = []
        angle = rng.uniform(0, 2 * np.pi)
        self._aside = BUMP * STEP_M * np.array([np.cos(angle), np.sin(angle), 0.0], dtype=np.float32)
        waits = {"carry": int(rng.integers(2, WITHIN)), "grasp": int(rng.integers(2, WITHIN))}
        drawn = {"carry": rng.random() < slips, "grasp": rng.random() < bumps}
        self._waits = {label: wait for label, wait in waits.items() if drawn[label]}
        self._left = {"carry": 0, "grasp": 0}

    def befall(self, action: Float32[np.ndarray, "7"], subtask: Subtask, step: int) -> Float32[np.ndarray, "7"]:
        """What is sent instead of a canonical action (gripper 1 open)."""
        label = subtask.label
        if label in self._waits:
            self._waits[label] -= 1
            if self._waits[label] == 0:
                del self._waits[label]
                kind, steps = ("slip", SLIP_STEPS) if label == "carry" else ("bump", BUMP_STEPS)
                self._left[label] = steps
                self.happened.append([step, kind, steps])
        changed = action.copy()
        if self._left["carry"]:
            self._left["carry"] -= 1
            changed[6] = 1.0
        if self._left["grasp"]:
            self._left["grasp"] -= 1
            changed[:3] += self._aside
        return changed
