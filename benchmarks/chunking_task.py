"""The task of ``chunking.py``: escort a moving target, on either side of it, with a policy whose flow is known exactly.

A target runs at constant speed and turns at random times. The point (``robot_driver/point_world.py``, 500 Hz inside a
20 Hz control period) is to stay 6 cm to the left or to the right of its course: two ways, both right, so that chunks
made one after the other may disagree. Time is the world's own: inference takes as long as it is said to.

The policy's chunks are a mixture of two Gaussians over smooth ways to the left and to the right; the side that the
point is on already is likelier. The velocity field of the flow from noise to that mixture has a closed form, so
nothing is trained and every method meets the same, exact policy.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla.asynchronous import prefix_weights
from vla.embodiment import Channel, EmbodimentSpec
from vla.experience import ActionChunk, Observation
from vla.model.flow import integrate
from vla.model.inpainting import guided
from vla.robot_driver.point_world import SPEC as POINT
from vla.robot_driver.point_world import PointWorld

SIDE_M = 0.06
"""Distance to keep from the target's course [m]."""

TOLERANCE_M, SHARE = 0.025, 0.6
"""An episode is good if the point was so near to its place for such a share of the time."""

SPEED = 0.1
"""Of the target [m/s]."""

HORIZON = 16
PERIOD_S = 1 / POINT.action.rate
TURNS_EVERY_S = 4.0
SETTLES_S = 0.2
"""Time constant of a way from where the point is to where it should be [s]."""


def _response() -> tuple[float, float]:
    """Speed after a period for a speed before it, and for a command [1/s]: what the damped spring does."""
    found = []
    for speed, command in ((1.0, 0.0), (0.0, 1.0)):
        world = PointWorld()
        world.velocity[0] = speed
        world.set_goal(np.array([command, 0, 0, 0], np.float32))
        for _ in range(round(PERIOD_S / world.substep_seconds)):
            world.substep()
        found.append(float(world.velocity[0]))
    return found[0], found[1]


KEPT, GAINED = _response()
GAIN = GAINED / (1 - KEPT)
"""Speed that a constant command of one metre leads to [1/s]."""

SPEC: EmbodimentSpec = replace(
    POINT,
    name="escort",
    state=(
        *POINT.state,
        *(Channel(f"target_{axis}", "m", "position") for axis in "xy"),
        *(Channel(f"target_v{axis}", "m/s") for axis in "xy"),
        *(Channel(f"v{axis}", "m/s") for axis in "xy"),
    ),
    cameras=(),
)


class Escort:
    """Body and task in one, in lock-step: time passes only when it is commanded, stopped, or told to wait."""

    spec = SPEC
    instruction = "stay beside the target"
    max_steps = 160

    def __init__(self, seed: int):
        self.random, self.world, self.periods = np.random.default_rng(seed), PointWorld(), 0
        self.places: list[np.ndarray] = []
        self.errors: list[float] = []
        self._held = False

    def reset(self) -> None:
        """The target begins ahead of the point, running in any direction."""
        self.world.reset({})
        angle = self.random.uniform(0, 2 * np.pi)
        self.target = np.array([0.05, 0.0])
        self.course = np.array([np.cos(angle), np.sin(angle)])

    def succeeded(self) -> bool:
        """Never before its time is over; see :meth:`good`."""
        return False

    @property
    def good(self) -> bool:
        """Whether the point was where it should be for most of the time, after 2 s to get there."""
        return float(np.mean(np.array(self.errors[40:]) < TOLERANCE_M)) > SHARE

    def observe(self, *, images: bool = True) -> Observation:
        """Point, target and the target's speed as they are now."""
        state = np.concatenate([self.world.state(), self.target, SPEED * self.course, self.world.velocity[:2]])
        return Observation({}, state.astype(np.float32), self.instruction, self.periods * PERIOD_S)

    def command(self, action: np.ndarray) -> np.ndarray:
        """One control period."""
        self.world.set_goal(action)
        self.wait(1)
        return action

    def stop(self) -> None:
        """Hold still for one control period."""
        self.world.hold()
        self.wait(1)

    def wait(self, periods: int) -> None:
        """Time passes while nobody commands: the spring pulls to where it was told to."""
        for _ in range(periods):
            for _ in range(round(PERIOD_S / self.world.substep_seconds)):
                self.world.substep()
            if self.random.random() < PERIOD_S / TURNS_EVERY_S:
                turn = self.random.choice([-1, 1]) * self.random.uniform(np.pi / 4, np.pi / 2)
                rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
                self.course = rotation @ self.course
            self.target = self.target + SPEED * PERIOD_S * self.course
            self.periods += 1
            away = self.world.position[:2] - self.target
            lateral = away @ np.array([-self.course[1], self.course[0]])
            self.errors.append(float(np.hypot(abs(lateral) - SIDE_M, away @ self.course)))
            self.places.append(self.world.position[:2].copy())

    def close(self) -> None:
        """Nothing to give back."""


class TwoWays:
    """The policy: samples the flow's exact answer; see the module's docstring.

    Args:
        slow: called before each answer in the loop's own time, e.g. to let the world go on.
        scatter: standard deviation of a chunk's commands around the middle of its way [m/s].
    """

    spec, continues = SPEC, True

    def __init__(self, slow: Callable[[], None] = lambda: None, scatter: float = 0.03):
        self.slow = slow
        place = torch.arange(HORIZON, dtype=torch.float32)
        smooth = torch.exp(-(((place[:, None] - place) / 5) ** 2)) + 0.02 * torch.eye(HORIZON)
        self.scale = SPEED
        self.variances, self.basis = torch.linalg.eigh((scatter / self.scale) ** 2 * smooth)

    def reset(self, instruction: str, *, seed: int) -> None:
        """Noise follows from the seed."""
        self.generator = torch.Generator().manual_seed(seed)

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk of the mixture."""
        self.slow()
        return self._chunk(observation, self._velocity(observation))

    def act_continuing(self, observation: Observation, left: np.ndarray, delay: int) -> ActionChunk:
        """A chunk that goes on from what is planned."""
        self.slow()
        planned = torch.zeros(1, HORIZON, 2)
        planned[0, : len(left)] = torch.from_numpy(left[:, :2] * GAIN / self.scale)
        weights = torch.from_numpy(prefix_weights(HORIZON, delay, len(left)))
        return self._chunk(observation, guided(self._velocity(observation), planned, weights))

    def _chunk(self, observation: Observation, velocity: Any) -> ActionChunk:
        noise = torch.randn(1, HORIZON, 2, generator=self.generator)
        speeds = self.scale * integrate(velocity, noise, 10)[0].numpy()
        actions = np.zeros((HORIZON, 4), np.float32)
        actions[:, :2], actions[:, 3] = speeds / GAIN, 1.0
        return ActionChunk(actions, observation.time, PERIOD_S)

    def _ways(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """The middle of each way as commands, and how likely each is.

        A way begins with the speed that the point has, and what the spring makes of commands is reckoned with: chunks
        of the same way that are made one after the other agree.
        """
        state = observation.state.astype(np.float64)
        point, target, speed, own = state[:2], state[4:6], state[6:8], state[8:10]
        normal = np.array([-speed[1], speed[0]]) / np.linalg.norm(speed)
        times = np.arange(HORIZON + 1)[:, None] * PERIOD_S / SETTLES_S
        ways = []
        for side in (1, -1):
            away = point - target - side * SIDE_M * normal
            drift = (own - speed) * SETTLES_S + away  # critically damped: (away + drift * t) * exp(-t)
            speeds = speed + (drift - away - drift * times) * np.exp(-times) / SETTLES_S
            ways.append((speeds[1:] - KEPT * speeds[:-1]) / GAINED * GAIN / self.scale)
        preference = 2 * (point - target) @ normal / SIDE_M  # the side that it is on already
        likely = torch.softmax(torch.tensor([preference, -preference]), 0)
        return torch.tensor(np.array(ways), dtype=torch.float32), likely.float()

    def _velocity(self, observation: Observation) -> Any:
        """Of the flow from noise to the mixture: ``E[noise - action | x_t]``."""
        ways, likely = self._ways(observation)
        means = torch.einsum("kh,wha->wka", self.basis.T, ways)  # in the basis where rows are independent

        def velocity(x: Tensor, time: Tensor) -> Tensor:
            t = time[0]
            rotated = torch.einsum("kh,bha->bka", self.basis.T, x)
            spread = ((1 - t) ** 2 * self.variances + t**2)[:, None]
            away = rotated[:, None] - (1 - t) * means
            scores = likely.log() - 0.5 * (away**2 / spread).sum((2, 3))
            actions = means + (1 - t) * self.variances[:, None] * away / spread
            action = torch.einsum("bw,bwka->bka", scores.softmax(1), actions)
            found = (rotated - (1 - t) * action) / t - action
            return torch.einsum("hk,bka->bha", self.basis, found)

        return velocity


@dataclass
class WorldClock:
    """A worker whose answers are there when the world's time has come.

    Attributes:
        body: whose time counts.
        periods: that inference takes.
    """

    body: Escort
    periods: int
    _work: Callable[[], Any] | None = None
    _since: int = 0

    def start(self, work: Callable[[], Any]) -> None:
        """Begin now."""
        self._work, self._since = work, self.body.periods

    def done(self) -> bool:
        """Whether enough time has passed."""
        return self._work is not None and self.body.periods - self._since >= self.periods

    def result(self) -> Any:
        """The answer; what is missing of its time passes first."""
        assert self._work is not None
        self.body.wait(max(0, self.periods - (self.body.periods - self._since)))
        work, self._work = self._work, None
        return work()

    def close(self) -> None:
        """Nothing to end."""
