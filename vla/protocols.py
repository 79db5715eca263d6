"""The roles. Nothing inherits from these: whatever has the methods is one.

A body is a simulator or an arm, a policy turns an observation into a chunk, a source holds episodes, a task
sets a scene and knows when it is solved, an observer watches a run without being able to change it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from vla.embodiment import EmbodimentSpec
from vla.errors import PolicyFault
from vla.experience import ActionChunk, Episode, Observation, Place, Window
from vla.quirks import Quirk
from vla.window_batch import WindowBatch

type Progress = Callable[[int, int], None]
"""Told how much of a long pass is done, and how much there is in all."""


@runtime_checkable
class Body(Protocol):
    """Something that senses and moves: a simulated or a real arm."""

    @property
    def spec(self) -> EmbodimentSpec:
        """What it senses and accepts."""
        ...

    def observe(self, *, images: bool = True) -> Observation:
        """Measured values with their own time; pictures are taken only if ``images``.

        Raises:
            BodyFault: the body no longer answers.
        """
        ...

    def command(self, action: Float32[np.ndarray, "a"]) -> Float32[np.ndarray, "a"]:
        """Act for one control period; returns what was really sent after clipping.

        A simulator advances its clock by one period here. An arm returns at once, its clock runs by itself.
        """
        ...

    def stop(self) -> None:
        """Hold still now. Safe to call at any time and more than once."""
        ...

    def close(self) -> None:
        """Stop, then give back sockets, processes and graphics contexts. Safe to call more than once."""
        ...


@runtime_checkable
class Task(Protocol):
    """A scene to set and a predicate that says when it is solved."""

    @property
    def instruction(self) -> str:
        """What the policy is told."""
        ...

    @property
    def max_steps(self) -> int:
        """Control steps before the episode counts as not solved."""
        ...

    def reset(self) -> None:
        """Set the scene; the same task gives the same scene every time, whatever ran before."""
        ...

    def succeeded(self) -> bool:
        """Whether the goal holds now."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Answers observations with chunks of actions, in the units of its own spec."""

    @property
    def spec(self) -> EmbodimentSpec:
        """What it was trained on: the observations it wants and the actions it gives."""
        ...

    def reset(self, instruction: str, *, seed: int) -> None:
        """A new episode begins; all noise drawn until the next reset follows from ``seed``."""
        ...

    def act(self, observation: Observation) -> ActionChunk:
        """The next actions from this observation on."""
        ...


@dataclass(frozen=True)
class Query:
    """What one of many episodes asks a policy; all that the answer may depend on.

    Attributes:
        observation: with the instruction.
        seed: that the episode was reset with.
        number: of the query within its episode, from 0.
    """

    observation: Observation
    seed: int
    number: int


@runtime_checkable
class BatchPolicy(Policy, Protocol):
    """A policy that answers several episodes at once and keeps nothing of them in between."""

    def act_many(self, queries: Sequence[Query], size: int) -> "list[ActionChunk | PolicyFault]":
        """The chunk for each query, or what is wrong with that query alone.

        The computation is filled up to ``size`` queries, so that an answer depends on its query and on ``size``, bit
        for bit, and not on what else was asked, how many there were, and in what order.
        """
        ...


@runtime_checkable
class EpisodeSource(Protocol):
    """Episodes at random access."""

    @property
    def spec(self) -> EmbodimentSpec:
        """Shared by all its episodes."""
        ...

    @property
    def content(self) -> str:
        """Hex digits that change whenever its files, or settings that change its episodes, do."""
        ...

    @property
    def quirks(self) -> tuple[Quirk, ...]:
        """What is wrong with its files and was read around, because the user said so."""
        ...

    @property
    def lengths(self) -> Int64[np.ndarray, "n"]:
        """Steps of each episode, known without reading them."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Episode: ...


@runtime_checkable
class Gathers(Protocol):
    """A source of episodes that reads many windows faster together than one by one; it need not."""

    def windows(
        self, episodes: Int64[np.ndarray, "n"], steps: Int64[np.ndarray, "n"], horizon: int
    ) -> list[WindowBatch]:
        """The windows at these steps of these episodes, as :meth:`Episode.window` gives them, each in one batch.

        Raises:
            IndexError: there is no such episode.
            DataError: a file is damaged or has changed.
        """
        ...


@runtime_checkable
class WindowSource(Protocol):
    """An endless, seeded order of training windows over one or more sources.

    The same index gives the same window in every process, so resuming is starting at an index, and ranks or
    workers share the work by taking every n-th.
    """

    @property
    def specs(self) -> tuple[EmbodimentSpec, ...]:
        """One for each source, in the order that ``Window.origin`` counts them."""
        ...

    def __getitem__(self, index: int) -> Window: ...

    def batch(self, indices: Sequence[int]) -> list[WindowBatch]:
        """The windows of these indices as columns, each in one batch, whose ``rows`` are places in ``indices``.

        Whoever has no better way calls :func:`~vla.window_batch.batched`.
        """
        ...

    def place(self, index: int) -> Place:
        """Where the window of an index comes from; reads nothing."""
        ...

    def window(self, place: Place, *, images: bool = True) -> Window:
        """The window at a place; without ``images`` no picture is decoded."""
        ...

    def frames(self) -> Iterable[Place]:
        """Every place that can be drawn, each once."""
        ...


@dataclass(frozen=True)
class Step:
    """One control step as it happened, for observers.

    Attributes:
        index: from 0.
        observation: measured before the action; has pictures only when they were taken anyway or asked for.
        chunk: the policy's answer if it was asked in this step, in the body's units; else None.
        action: what was really sent, in the body's units.
        latency: time the policy took [s]; None in steps without inference.
        human: whether a person decided on the action, not the policy.
    """

    index: int
    observation: Observation
    chunk: ActionChunk | None
    action: Float32[np.ndarray, "a"]
    latency: float | None = None
    human: bool = False


@dataclass(frozen=True)
class Outcome:
    """How an episode ended.

    Attributes:
        status: ``"success"``, ``"failure"`` (the limit of steps was reached) or ``"error"`` (a crash or a safety stop:
            no statement about the policy).
        steps: control steps made.
        wall_s: time it took [s].
        error: message of what went wrong, if anything.
        info: measurements of the run, JSON values.
    """

    status: str
    steps: int
    wall_s: float
    error: str = ""
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether the task's own predicate held."""
        return self.status == "success"


@runtime_checkable
class Observer(Protocol):
    """Watches a run: a recorder, a viewer, a meter."""

    @property
    def wants_images(self) -> bool:
        """Whether every step's observation must carry pictures."""
        ...

    def start(self, spec: EmbodimentSpec, instruction: str) -> None:
        """An episode begins."""
        ...

    def step(self, step: Step) -> None:
        """One control step was made."""
        ...

    def finish(self, outcome: Outcome) -> None:
        """The episode is over; called exactly once after start, errors included."""
        ...
