"""Demonstrations' recorded states as pictures, in parallel processes, in their order.

A process of its own for each model also means that one which MuJoCo cannot stand ends that process and not this one.
"""

import contextlib
import io
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64
from PIL import Image as PilImage

from vla.child_process import cores
from vla.errors import BodyFault, ConfigError
from vla.experience import Image
from vla.sim.expert.workers import Crashed, Worker
from vla.sim.libero_world import Render
from vla.sim.rendering.camera import MAX_SIZE
from vla.sim.state_replay import CAMERAS, StateReplay

_PNG_LEVEL = 1  # 10 % larger and 4 times faster than level 6


@dataclass(frozen=True)
class RenderConfig:
    """How states become pictures.

    Attributes:
        camera_size: height and width of the pictures [pixels].
        render: as in :class:`vla.sim.libero.Config`.
        workers: processes; 0 for one for each CPU core.
    """

    camera_size: int = 256
    render: Render = "decimated"
    workers: int = 0

    def __post_init__(self):
        if not 1 <= self.camera_size <= MAX_SIZE or self.workers < 0:
            raise ConfigError(f"{self}: pictures have 1 to {MAX_SIZE} pixels each way, workers is at least 0")


@dataclass(frozen=True)
class RenderJob:
    """One demonstration.

    Attributes:
        xml: the model that it carries.
        states: flattened: time, positions, velocities.
        source: for errors.
    """

    xml: str
    states: Float64[np.ndarray, "t s"]
    source: str


@dataclass(frozen=True)
class Rendered:
    """What was seen in each state of a demonstration.

    Attributes:
        state: hand position [m], axis-angle [rad] up to 2 pi, two finger positions [m].
        pictures: camera name to PNGs, oriented as LIBERO's policies get them.
    """

    state: Float32[np.ndarray, "t 8"]
    pictures: dict[str, list[bytes]]


def render_states(config: RenderConfig, jobs: Iterable[RenderJob], count: int) -> Generator[Rendered]:
    """Each job's pictures, in their order; as many jobs are in memory as there are processes.

    Args:
        config: how.
        jobs: taken one by one as processes become free.
        count: of jobs, so that no process is started that would have none.

    Raises:
        DataError: a demonstration carries no model that can be drawn here, or its states do not fit it.
        BodyFault: MuJoCo or the renderer crashed; the message names the demonstration.
    """
    processes = min(config.workers or cores(), count)
    waiting: list[tuple[Worker, str]] = []
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(_Renderer, config, share=processes)) for _ in range(processes)]
        for number, job in enumerate(jobs):
            worker = workers[number % processes]
            if len(waiting) == processes:
                yield _received(*waiting.pop(0))
            worker.send(job)
            waiting.append((worker, job.source))
        while waiting:
            yield _received(*waiting.pop(0))


def render(replay: StateReplay, states: Float64[np.ndarray, "t s"], camera_size: int) -> Rendered:
    """The pictures of one demonstration, in this process.

    Raises:
        DataError: the states do not fit the model.
    """
    replay.check(states)
    numbers, pictures = [], {name: [] for name in CAMERAS}
    for step, state in enumerate(states):
        replay.set_state(state, lag=step > 0)  # before its first action a scene was only set
        numbers.append(replay.state())
        for name, encoded in pictures.items():
            encoded.append(_png(replay.picture(name, camera_size)))
    return Rendered(np.stack(numbers), pictures)


class _Renderer:
    """What a worker process does: keeps the last compiled model, which demonstrations of one scene share."""

    def __init__(self, config: RenderConfig):
        self._config = config
        self._xml = ""
        self._replay: StateReplay | None = None

    def __call__(self, job: RenderJob) -> Rendered:
        if self._replay is None or job.xml != self._xml:
            self.close()
            self._replay, self._xml = StateReplay(job.xml, job.source, render=self._config.render), job.xml
        return render(self._replay, job.states, self._config.camera_size)

    def close(self) -> None:
        if self._replay is not None:
            self._replay.close()
            self._replay = None


def _received(worker: Worker, source: str) -> Rendered:
    try:
        return worker.receive()
    except Crashed as crash:
        raise BodyFault(f"{source}: rendering its states: {crash}") from crash


def _png(picture: Image) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(picture).save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()
