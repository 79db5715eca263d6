"""Choices that several commands share: tasks by name or number, and rows of an evaluation."""

from collections.abc import Sequence

from vla.errors import ConfigError, UnknownName
from vla.protocol_libero import SeedRule
from vla.rows import EVALUATION_SEEDS, Row


def task_names(suite: str, chosen: Sequence[str]) -> list[str]:
    """Names of a LIBERO suite's tasks, given by name or by number; all of them if none is given.

    Raises:
        UnknownName: there is no such suite or no task of that name.
        ConfigError: there is no task of that number.
    """
    from vla.sim.libero_suites import tasks

    return chosen_tasks(suite, [entry.name for entry in tasks(suite)], chosen)


def chosen_tasks(suite: str, known: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Names of tasks, given by name or by number; all of them if none is given.

    Args:
        suite: for the error.
        known: names of its tasks in their order.
        chosen: names and numbers.

    Raises:
        UnknownName: there is no task of that name.
        ConfigError: there is no task of that number.
    """
    names = []
    for choice in chosen or known:
        if choice not in known and choice.isdecimal():
            if int(choice) >= len(known):
                raise ConfigError(f"{suite} has no task {choice}: its tasks are 0 to {len(known) - 1}, or their names")
            choice = known[int(choice)]
        if choice not in known:
            raise UnknownName(f"task of {suite}", choice, known)
        names.append(choice)
    return list(dict.fromkeys(names))


def suite_names(chosen: str) -> list[str]:
    """Names of LIBERO suites, given with commas between them.

    Raises:
        UnknownName: one of them is none, or has no description or initial states of its own in the wheel.
    """
    from vla.sim.libero_suites import tasks

    names = [name.strip() for name in chosen.split(",")]
    for name in names:
        tasks(name)
    return list(dict.fromkeys(names))


def check_rows(rows: Sequence[Row]) -> None:
    """See that LIBERO has the scene of every row, before the first one runs.

    Raises:
        UnknownName: there is no such suite or task, or the wheel has no description or initial states for it.
        ConfigError: there is no such initial state.
    """
    from vla.sim.libero_suites import find_task

    last: dict[tuple[str, str], int] = {}
    for row in rows:
        last[row.suite, row.task] = max(row.init, last.get((row.suite, row.task), -1))
    for (suite, task), init in last.items():
        count = len(find_task(suite, task).initial_states())
        if init >= count:
            raise ConfigError(f"{suite}/{task} has initial states 0 to {count - 1}, asked for {init}")


def make_rows(
    suite: str,
    tasks: Sequence[str],
    *,
    inits: int,
    sampled: int,
    widen: float,
    seed: int,
    seed_rule: SeedRule = "counting",
) -> list[Row]:
    """The rows of an evaluation: for each task the first ``inits`` of its own initial states, or sampled scenes.

    Args:
        suite: of the tasks.
        tasks: their names.
        inits: how many of the benchmark's initial states; not used if ``sampled`` is above 0.
        sampled: how many scenes with places sampled anew.
        widen: factor for the regions these are sampled from.
        seed: of the first scene.
        seed_rule: ``counting``: the following ones count up; ``fixed``: all have the same.

    Raises:
        ConfigError: no row comes out, or a seed belongs to the demonstrations.
    """
    count = sampled or inits
    if count < 1:
        raise ConfigError(f"an evaluation needs at least one initial state or sampled scene a task, found {count}")
    if not 0 <= seed <= EVALUATION_SEEDS - count:
        raise ConfigError(f"seeds must be between 0 and {EVALUATION_SEEDS - 1}, found {seed} to {seed + count - 1}")
    if seed_rule == "fixed":
        if sampled:
            raise ConfigError("sampled scenes need a seed each, and this protocol has one for all rows")
        return [Row(suite, task, init, seed) for task in tasks for init in range(inits)]
    if sampled:
        return [Row(suite, task, -1, seed + number, widen) for task in tasks for number in range(sampled)]
    return [Row(suite, task, init, seed + init) for task in tasks for init in range(inits)]
