"""Choices that several commands share: tasks by name or number, and rows of an evaluation."""

from collections.abc import Sequence

from vla.errors import ConfigError, UnknownName
from vla.rows import Row

EVALUATION_SEEDS = 1_000_000
"""Evaluation rows use seeds below this, demonstrations seeds from there on: no sampled scene is in both."""


def task_names(suite: str, chosen: Sequence[str]) -> list[str]:
    """Names of a LIBERO suite's tasks, given by name or by number; all of them if none is given.

    Raises:
        UnknownName: there is no such suite or task.
    """
    from vla.sim.libero_suites import tasks

    known = [entry.name for entry in tasks(suite)]
    names = []
    for choice in chosen or known:
        if choice.isdecimal():
            if int(choice) >= len(known):
                raise UnknownName(f"task of {suite}", choice, (str(number) for number in range(len(known))))
            choice = known[int(choice)]
        if choice not in known:
            raise UnknownName(f"task of {suite}", choice, known)
        names.append(choice)
    return list(dict.fromkeys(names))


def make_rows(suite: str, tasks: Sequence[str], *, inits: int, sampled: int, widen: float, seed: int) -> list[Row]:
    """The rows of an evaluation: for each task the first ``inits`` of its own initial states, or sampled scenes.

    Args:
        suite: of the tasks.
        tasks: their names.
        inits: how many of the benchmark's initial states; not used if ``sampled`` is above 0.
        sampled: how many scenes with places sampled anew.
        widen: factor for the regions these are sampled from.
        seed: of the first scene; the following ones count up.

    Raises:
        ConfigError: no row comes out, or a seed belongs to the demonstrations.
    """
    count = sampled or inits
    if count < 1:
        raise ConfigError("an evaluation needs at least one row a task")
    if not 0 <= seed <= EVALUATION_SEEDS - count:
        raise ConfigError(f"seeds must be between 0 and {EVALUATION_SEEDS - 1}, found {seed} to {seed + count - 1}")
    if sampled:
        return [Row(suite, task, -1, seed + number, widen) for task in tasks for number in range(sampled)]
    return [Row(suite, task, init, seed + init) for task in tasks for init in range(inits)]
