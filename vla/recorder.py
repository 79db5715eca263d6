"""Records a run as an Episode: what an arm or a simulator lived through trains the next policy with no converter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool

from vla.embodiment import CameraSpec, EmbodimentSpec
from vla.errors import BodyFault, ConfigError
from vla.experience import Episode, Image
from vla.protocols import Outcome, Step

Sink = Callable[[Episode, Outcome], None]
"""Takes a finished episode, e.g. writes it to a data set."""


HUMAN = "human"
"""Place in an episode's ``info`` of the steps that a person decided on: first and past-the-last of each stretch."""


class Frames(Protocol):
    """Pictures of one camera: a sequence that grows at the end."""

    def append(self, picture: Image, /) -> None:
        """Keep one more."""
        ...


class Recorder:
    """An observer that hands each episode to a sink when it ends: measured states, actions really sent, measured times.

    Pictures stay in memory until then: two cameras at 256 pixels take 0.4 MB a step, 86 MB for 220 steps; ``frames``
    can keep them smaller. An episode that ended before its first step is not handed on.

    Steps that a person decided on are told in the episode's ``info`` as ``"human"``: see :func:`human_steps`.

    Args:
        sink: called once for each episode, errors included; ``Outcome.status`` says which episodes to keep.
        source: where the episodes come from, e.g. ``"mujoco_arm"``; becomes :attr:`~vla.experience.Episode.source`.
        info: JSON values that every episode carries, e.g. the row.
        images: whether to record the cameras.
        frames: makes the sequence that a camera's pictures of one episode are appended to, e.g. one that encodes them.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        source: str,
        info: Mapping[str, Any] | None = None,
        images: bool = True,
        frames: Callable[[CameraSpec], Frames] = lambda camera: [],
    ):
        self.sink, self.source, self.info, self.images = sink, source, dict(info or {}), images
        self._frames = frames
        self._spec: EmbodimentSpec | None = None
        self._instruction = ""
        self._clear()

    @property
    def wants_images(self) -> bool:
        """Every step's pictures, if any."""
        return self.images

    def start(self, spec: EmbodimentSpec, instruction: str) -> None:
        """Begin a new episode; what is left of an unfinished one is dropped."""
        self._spec, self._instruction = spec, instruction
        self._clear()

    def step(self, step: Step) -> None:
        """Keep one step.

        Raises:
            BodyFault: a camera that the embodiment names gave no picture.
        """
        spec = self._recording()
        observation = step.observation
        if self.images:
            missing = sorted(set(spec.camera_names) - set(observation.images))
            if missing:
                raise BodyFault(f"step {step.index}: no picture from {', '.join(missing)}")
            for name in spec.camera_names:
                self._pictures[name].append(observation.images[name])
        self._states.append(observation.state)
        self._actions.append(step.action)
        self._times.append(observation.time)
        self._human.append(step.human)

    def finish(self, outcome: Outcome) -> None:
        """Hand the episode to the sink; success is None where an error ended it, which says nothing of the policy."""
        spec = self._recording()
        self._spec = None
        if not self._actions:
            return
        info = {**self.info, "status": outcome.status, "wall_s": outcome.wall_s, **outcome.info}
        if outcome.error:
            info["error"] = outcome.error
        if any(self._human):
            info[HUMAN] = label_of(self._human)
        episode = Episode(
            spec=spec,
            state=np.stack(self._states).astype(np.float32),
            action=np.stack(self._actions).astype(np.float32),
            images=self._pictures if self.images else {},
            time=np.array(self._times, np.float64) - self._times[0],
            instruction=self._instruction,
            success=None if outcome.status == "error" else outcome.success,
            source=self.source,
            info=info,
        )
        self._clear()
        self.sink(episode, outcome)

    def _recording(self) -> EmbodimentSpec:
        if self._spec is None:
            raise RuntimeError("the recorder was not started")
        return self._spec

    def _clear(self) -> None:
        self._states: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._times: list[float] = []
        self._human: list[bool] = []
        cameras = self._spec.cameras if self._spec and self.images else ()
        self._pictures: dict[str, Any] = {camera.name: self._frames(camera) for camera in cameras}


def human_steps(episode: Episode) -> Bool[np.ndarray, "t"]:
    """Which steps a person decided on: corrections of a policy, as DAgger learns from, or all of a demonstration.

    Args:
        episode: with all its steps as they were recorded; one without the label was nobody's but the policy's.

    Raises:
        ConfigError: the label does not fit the episode: steps were left out since, or it is none.
    """
    label = np.zeros(len(episode), bool)
    stretches = episode.info.get(HUMAN, [])
    try:
        ends = [(int(first), int(stop)) for first, stop in stretches]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{episode.source}: info {HUMAN!r} lists first and last steps, found {stretches!r}"
        ) from error
    for first, stop in ends:
        if not 0 <= first < stop <= len(label):
            raise ConfigError(f"{episode.source}: steps {first} to {stop} are labelled, the episode has {len(label)}")
        label[first:stop] = True
    return label


def label_of(flags: Sequence[bool] | Bool[np.ndarray, "t"]) -> list[list[int]]:
    """First and past-the-last step of each stretch of True: what :func:`human_steps` reads."""
    edges = np.flatnonzero(np.diff(np.array([False, *flags, False], np.int8)))
    return edges.reshape(-1, 2).tolist()
