"""What the expert is doing at each step, said by the expert itself while it acts.

::

    raw actions of one motion ──during(subtask, ·)──▶ steps ──spans──▶ [[0, "reach", "bowl", "plate"], ...]
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

LABELS = (
    *("reach", "grasp", "lift", "carry", "place", "retreat"),
    *("touch", "drag", "open", "close", "turn on", "turn off"),
)


@dataclass(frozen=True)
class Subtask:
    """A part of a plan that a person would give one name.

    Attributes:
        label: one of :data:`LABELS`.
        object: name of what is moved or operated, as in the task's description.
        target: name of where it goes; empty where it goes nowhere.
    """

    label: str
    object: str
    target: str = ""


@dataclass(frozen=True)
class Step:
    """One raw action and what it is part of."""

    raw: Float64[np.ndarray, "7"]
    subtask: Subtask


type Steps = Generator[Step, None, bool]


def during(subtask: Subtask, actions: Iterable[Float64[np.ndarray, "7"]]) -> Iterator[Step]:
    """The actions as steps of a subtask."""
    for raw in actions:
        yield Step(raw, subtask)


def spans(subtasks: Sequence[Subtask]) -> list[list[Any]]:
    """Where each subtask begins, as JSON values: ``[first step, label, object, target]``.

    Args:
        subtasks: of every step.
    """
    begun = [index for index, now in enumerate(subtasks) if index == 0 or now != subtasks[index - 1]]
    return [[index, subtasks[index].label, subtasks[index].object, subtasks[index].target] for index in begun]


def keyframes(subtasks: Sequence[Subtask]) -> list[int]:
    """The last step of each subtask: the poses that a coarse policy would predict."""
    return [index for index, now in enumerate(subtasks) if index + 1 == len(subtasks) or now != subtasks[index + 1]]
