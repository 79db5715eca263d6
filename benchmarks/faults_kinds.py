"""What can go wrong, what is promised to happen then, and the policy, body and network that it happens to.

The promise is a time from the fault, or from the last command that the arm obeyed where that is later and the fault is
of the kind that lets commands through, until the arm stands.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vla.embodiment import EmbodimentSpec
from vla.embodiments.panda_arm import JOINTS, LIMITS
from vla.errors import PolicyFault
from vla.experience import ActionChunk, Observation
from vla.protocols import Body
from vla.robot_driver.mujoco_arm_servo import ServoLimits

PERIOD = 0.05
EXECUTE = 4
"""Actions of a chunk; the policy looks once in this many periods."""

BRAKING = JOINTS.stopping + 0.05
"""From full speed to rest, and what it takes to see it [s]."""

SILENCE = ServoLimits().command_timeout
LOOK = EXECUTE * PERIOD

Effect = Literal["stops", "clamped"]


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        declared: longest time from its beginning until the arm begins to brake [s].
        effect: whether the arm stops, or goes on within its limits until the run ends, from where the time then counts.
        obeyed: whether the time counts from the last command that was obeyed, if that is later.
        bare: whether the arm alone, without the policy's side of safety, keeps the promise too.
    """

    declared: float
    effect: Effect = "stops"
    obeyed: bool = False
    bare: bool = True


KINDS: dict[str, Kind] = {
    "packets lost": Kind(SILENCE + PERIOD, obeyed=True),
    "packets reordered": Kind(SILENCE + PERIOD, obeyed=True),
    "packets delayed": Kind(SILENCE + PERIOD, obeyed=True),
    "policy NaN": Kind(LOOK + PERIOD),
    "policy huge": Kind(PERIOD, effect="clamped"),
    "policy frozen": Kind(LIMITS.repeated * PERIOD + LOOK, bare=False),
    "server killed": Kind(SILENCE + LOOK),
    "camera frozen": Kind((LIMITS.frozen_pictures + 1) * LOOK + PERIOD, bare=False),
    "camera black": Kind(LOOK + PERIOD, bare=False),
    "state stuck": Kind((LIMITS.stuck + 2) * PERIOD, bare=False),
    "clock jump": Kind(2 * PERIOD, bare=False),
    "gripper jam": Kind(PERIOD, effect="clamped"),
    "operator e-stop": Kind(0.02),
    "process paused": Kind(SILENCE + PERIOD),
    "client killed": Kind(SILENCE + PERIOD),
}
"""In the words of the table."""


class Wander:
    """A policy that goes to random places as fast as it may, some of them outside the box, under the table or behind.

    Attributes:
        bad: what becomes of its chunk, once the fault is there.

    Args:
        spec: of the arm.
        rng: where to.
    """

    def __init__(self, spec: EmbodimentSpec, rng: np.random.Generator):
        self.spec, self._rng = spec, rng
        self.bad: Callable[[np.ndarray], np.ndarray] | None = None
        self._choose()

    def reset(self, instruction: str, *, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation) -> ActionChunk:
        """Four steps towards the present place to go to."""
        if self._rng.random() < 0.15:
            self._choose()
        way = self._target - observation.state[:3]
        length = float(np.linalg.norm(way))
        if length < 0.03:
            self._choose()
        step = way / max(length, 1e-6) * self._speed
        actions = np.tile(np.concatenate([step, self._turn, [self._opening]]), (EXECUTE, 1))
        actions += self._rng.normal(0.0, 0.002, actions.shape)
        actions[:, 6] = np.clip(actions[:, 6], 0.0, 1.0)
        actions = actions.astype(np.float32)
        chunk = ActionChunk(actions, observation.time, PERIOD)
        if self.bad is not None:
            # past the check of a chunk: a policy's process may have none
            object.__setattr__(chunk, "actions", self.bad(actions).astype(np.float32))
        return chunk

    def _choose(self) -> None:
        rng = self._rng
        self._target = rng.uniform((0.05, -0.7, -0.3), (1.0, 0.7, 1.0))
        self._speed, self._opening = rng.uniform(0.02, 0.085), float(rng.random() < 0.5)
        self._turn = rng.normal(0.0, 0.08, 3) * (rng.random() < 0.5)


def spoil(kind: str, rng: np.random.Generator, size: int, *, first: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """What a policy's chunk becomes when it goes bad; in its first row if so asked."""
    if kind == "policy NaN":
        row, column = 0 if first else int(rng.integers(EXECUTE)), int(rng.integers(size))
        worth = rng.choice([np.nan, np.inf, -np.inf])

        def spoiled(actions: np.ndarray) -> np.ndarray:
            bad = actions.copy()
            bad[row, column] = worth
            return bad

        return spoiled
    if kind == "policy huge":
        factor, signs = 10.0 ** rng.uniform(1, 30), rng.choice([-1.0, 1.0], size)
        return lambda actions: np.clip(actions * (factor * signs), -3e38, 3e38)
    frozen: list[np.ndarray] = []

    def repeated(actions: np.ndarray) -> np.ndarray:
        frozen.append(actions)
        return frozen[0]

    return repeated


@dataclass
class FaultyBody:
    """A body whose cameras, state or clock can go bad, or whose commands are changed on their way to it.

    Attributes:
        body: the sound one.
        fault: what becomes of an observation, once the fault is there.
        bad: what becomes of the rows of commands.
    """

    body: Body
    fault: Callable[[Observation], Observation] | None = None
    bad: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def spec(self) -> EmbodimentSpec:
        """The body's own."""
        return self.body.spec

    def observe(self, *, images: bool = True) -> Observation:
        """What is measured, or said to be."""
        observation = self.body.observe(images=images)
        return self.fault(observation) if self.fault else observation

    def command(self, action: np.ndarray) -> np.ndarray:
        """To the body."""
        if self.bad is not None:
            action = self.bad(np.tile(action, (EXECUTE, 1)))[0].astype(np.float32)
        return self.body.command(action)

    def stop(self) -> None:
        """The body."""
        self.body.stop()

    def estop(self, reason: str) -> None:
        """The body's own."""
        self.body.estop(reason)  # pyright: ignore[reportAttributeAccessIssue]

    def release(self) -> None:
        """The body's own."""
        self.body.release()  # pyright: ignore[reportAttributeAccessIssue]

    def close(self) -> None:
        """The body."""
        self.body.close()


def mislead(kind: str, rng: np.random.Generator) -> Callable[[Observation], Observation]:
    """What an observation becomes when a sense goes bad."""
    kept: dict[str, np.ndarray] = {}
    jump = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.2, 5.0))

    def misled(observation: Observation) -> Observation:
        if kind == "camera frozen":
            for camera, picture in observation.images.items():
                kept.setdefault(camera, picture)
            return replace(observation, images={camera: kept[camera] for camera in observation.images})
        if kind == "camera black":
            return replace(observation, images={name: picture * 0 for name, picture in observation.images.items()})
        if kind == "state stuck":
            return replace(observation, state=kept.setdefault("state", observation.state).copy())
        return replace(observation, time=observation.time + jump)

    return misled


@dataclass
class FaultyNetwork:
    """A network that is quiet until something goes wrong with it.

    Attributes:
        rng: decides each packet's fate.
        kind: of the fault; a quiet network if it is none of the network's.
        begins: when [s].
        share: of the packets that it happens to.
    """

    rng: np.random.Generator
    kind: str = ""
    begins: float = np.inf
    share: float = 1.0

    def __call__(self, direction: str, now: float) -> tuple[float, ...]:
        """Delays of the copies of a packet that arrive."""
        usual = float(0.0003 + 0.0005 * self.rng.random())
        if now < self.begins or self.rng.random() > self.share:
            return (usual,)
        if self.kind == "packets lost":
            return ()
        if self.kind == "packets delayed":
            return (float(self.rng.uniform(0.0, 2.0)),)
        if self.kind == "packets reordered":
            return (usual, float(self.rng.uniform(0.02, 1.5)))
        return (usual,)


class ServerGone:
    """A policy whose server does not answer any more: it waits, then says so."""

    def __init__(self, policy: Wander, wait: Callable[[], None]):
        self.policy, self.spec, self.gone = policy, policy.spec, False
        self._wait = wait

    def reset(self, instruction: str, *, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Observation) -> ActionChunk:
        """The policy's answer, while there is a server.

        Raises:
            PolicyFault: there is none.
        """
        if self.gone:
            self._wait()
            raise PolicyFault("the policy's server is gone")
        return self.policy.act(observation)
