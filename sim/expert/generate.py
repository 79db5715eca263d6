"""Demonstrations in parallel processes, the same episodes in the same order however many there are.

::

    jobs 0 1 2 3 4 5 ...          job i belongs to worker i mod n, which waits until its episode is taken before it
    worker 0 ─ 0 ─ 2 ─ 4 ─▶       begins the next: one episode in memory for each worker
    worker 1 ─ 1 ─ 3 ─ 5 ─▶
"""

import contextlib
import dataclasses
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import numpy as np

from vla.child_process import cores
from vla.errors import BodyFault, ConfigError
from vla.experience import Episode
from vla.rows import EVALUATION_SEEDS, Row
from vla.sim import libero, libero_suites, simulator_version
from vla.sim.expert.paraphrases import paraphrases
from vla.sim.expert.record import Disturbance, record
from vla.sim.expert.workers import Crashed, Worker
from vla.sim.libero_world import Render

TRIES = 5  # scenes for one episode, each with its own seed, until the expert solves one


@dataclass(frozen=True)
class GenerateConfig:
    """What to demonstrate.

    Attributes:
        suite: a LIBERO suite.
        tasks: names of its tasks; empty for all.
        episodes: for each task.
        first: number of the first episode; another run continues at the number where this one ends.
        widen: the smallest and largest factor for the regions that objects are placed in, drawn evenly between.
        camera_size: height and width of the pictures [pixels].
        render: as in :class:`vla.sim.libero.Config`.
        disturbance: what makes the episodes differ.
        paraphrase: give each episode one of its instruction's wordings, the original among them.
        images: take pictures; without, episodes have no cameras' columns and are only good for counting.
        workers: processes; 0 for one for each CPU core.
        allow_simulator_drift: as in :class:`vla.sim.libero.Config`; the episodes' source says it.
    """

    suite: str = "libero_spatial"
    tasks: tuple[str, ...] = ()
    episodes: int = 30
    first: int = 0
    widen: tuple[float, float] = (1.0, 1.0)
    camera_size: int = 128
    render: Render = "decimated"
    disturbance: Disturbance = field(default_factory=Disturbance)
    paraphrase: bool = False
    images: bool = True
    workers: int = 0
    allow_simulator_drift: bool = False

    def __post_init__(self):
        if self.episodes < 1 or self.first < 0 or self.workers < 0:
            raise ConfigError(f"episodes {self.episodes}, first {self.first}, workers {self.workers}: too small")
        if not 0 < self.widen[0] <= self.widen[1]:
            raise ConfigError(f"widen {self.widen}: expected the smallest factor, above 0, then the largest")


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: episodes that were solved.
        failed: tries that were not, or whose process crashed.
        total: episodes asked for.
        lost: episodes given up after all tries.
        reason: of the last failure; empty if there was none.
    """

    done: int
    failed: int
    total: int
    lost: int
    reason: str = ""


@dataclass(frozen=True)
class Job:
    """One episode to make: a task's name and the episode's number."""

    task: str
    number: int


@dataclass(frozen=True)
class Answer:
    """A job's episode, or None, and why its unsuccessful tries were so."""

    episode: Episode | None
    failures: tuple[str, ...]


def generate(
    config: GenerateConfig, progress: Callable[[Progress], None] | None = None, *, after: Job | None = None
) -> Generator[Episode]:
    """Solved episodes, task by task, in the order of their numbers.

    Args:
        config: what to demonstrate.
        progress: told after each job.
        after: the job of the last episode of an earlier run, which this one goes on from; :func:`job_of` tells it.

    Raises:
        UnknownName: there is no such suite or task; before any process is started.
        ConfigError: LIBERO's numbers do not hold for the installed simulator, and that was not allowed; or ``after``
            is no job of these.
        BodyFault: no episode could be made, nor was one before.
        VlaError: what a worker raised on purpose, e.g. that there is no OpenGL.
    """
    simulator_version.check(allow_drift=config.allow_simulator_drift)  # not first in each process
    jobs = jobs_after(config, after)
    count = min(config.workers or cores(), len(jobs))
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(_Maker, config, share=count)) for _ in range(count)]
        for index, job in enumerate(jobs[:count]):
            workers[index].send(job)
        done = failed = lost = 0
        reason = ""
        for index, job in enumerate(jobs):
            worker = workers[index % count]
            try:
                answer = worker.receive()
            except Crashed as crash:
                answer = Answer(None, (f"{job.task} episode {job.number}: {crash}",))
            if index + count < len(jobs):
                worker.send(jobs[index + count])
            failed += len(answer.failures)
            reason = answer.failures[-1] if answer.failures else reason
            done += answer.episode is not None
            lost += answer.episode is None
            if progress:
                progress(Progress(done, failed, len(jobs), lost, reason))
            if answer.episode is not None:
                yield answer.episode
        if not done and after is None:
            raise BodyFault(f"none of {len(jobs)} demonstrations succeeded; the last failure: {reason}")


def make_episode(config: GenerateConfig, job: Job, benchmark: libero.LiberoBenchmark) -> Answer:
    """The episode of a job, from the first of its scenes that the expert solves."""
    failures = []
    for attempt in range(TRIES):
        seed = EVALUATION_SEEDS + job.number * TRIES + attempt
        factor = np.random.default_rng([seed, 1]).uniform(*config.widen)
        row = Row(config.suite, job.task, init=-1, seed=seed, widen=float(factor))
        try:
            episode = record(*benchmark.open(row), config.disturbance, images=config.images)
        except (BodyFault, ConfigError) as fault:
            failures.append(f"{job.task} seed {seed}: {fault}")
            continue
        if episode is not None:
            if config.paraphrase:
                episode = _said(episode, np.random.default_rng([seed, 2]))
            if benchmark.drift:
                episode = dataclasses.replace(episode, source=f"{episode.source}, simulator drift: {benchmark.drift}")
            return Answer(episode, tuple(failures))
        failures.append(f"{job.task} seed {seed}: not solved")
    return Answer(None, tuple(failures))


def _said(episode: Episode, rng: np.random.Generator) -> Episode:
    """The episode with one of its instruction's wordings; which one, and the original, is in its info."""
    wordings = paraphrases(episode.instruction)
    chosen = int(rng.integers(len(wordings)))
    info = {**episode.info, "original_instruction": episode.instruction, "wording": chosen}
    return dataclasses.replace(episode, instruction=wordings[chosen], info=info)


class _Maker:
    """What a worker process does: keeps one compiled scene and answers jobs."""

    def __init__(self, config: GenerateConfig):
        self._config = config
        self._benchmark = libero.Config(
            camera_size=config.camera_size,
            render=config.render,
            allow_simulator_drift=config.allow_simulator_drift,
        ).make()

    def __call__(self, job: Job) -> Answer:
        return make_episode(self._config, job, self._benchmark)

    def close(self) -> None:
        self._benchmark.close()


def jobs_after(config: GenerateConfig, after: Job | None) -> list[Job]:
    """What is to be made, in order: all of it, or what comes after a job.

    Raises:
        UnknownName: there is no such suite or task.
        ConfigError: ``after`` is no job of these.
    """
    known = libero_suites.tasks(config.suite)
    names = config.tasks or tuple(entry.name for entry in known)
    for name in names:
        libero_suites.find_task(config.suite, name)
    numbers = range(config.first, config.first + config.episodes)
    jobs = [Job(name, number) for name in names for number in numbers]
    if after is None:
        return jobs
    if after not in jobs:
        raise ConfigError(f"episode {after.number} of {after.task} is none of those to be made")
    return jobs[jobs.index(after) + 1 :]


def job_of(episode: Episode) -> Job:
    """The job that a generated episode answers, told from its scene."""
    return Job(str(episode.info["task"]), (int(episode.info["seed"]) - EVALUATION_SEEDS) // TRIES)
