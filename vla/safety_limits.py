"""What a robot may be told to do, and what its own controller lets it do: numbers, declared beside its embodiment."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from vla.errors import ConfigError

_EVERYWHERE = (math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class SafetyLimits:
    """What a body may be told to do, on the policy's side of the wire; see :mod:`vla.safety` for each rule.

    Attributes:
        max_translation: longest translation of one control step [m].
        max_rotation: largest rotation of one control step [rad].
        low: lower corner of the box that targets stay in, base frame [m]; its last number is the table plane.
        high: upper corner [m].
        max_age: oldest observation that an action may answer [s]; also how long the measured time may stand still
            after a command.
        max_change: largest change of the translation from one command to the next [m]; over the square of the control
            period it is an acceleration.
        heartbeat: without a command for this long, a moving arm is told to stop [s]. Watched where
            :meth:`~vla.safety.SafeBody.watched` runs, or by whoever calls ``check``.
        clock_jump: how far the measured time may leave the time that passes here [s]. Finite only for a body whose
            clock runs with the wall clock: a simulator's own may stand still.
        frozen_pictures: so many pictures of one camera, alike to the last bit though the time advances and the state
            changes, and it is taken for frozen; 0 for never.
        black: a picture whose brightest pixel is not above this is taken for a dead camera's; -1 for never.
        stuck: so many observations with the same state to the last bit, though motion is commanded; 0 for never.
        repeated: so many commands in a row that move and were given before to the last bit; 0 for never. A policy that
            looks at its pictures never says exactly the same again; a person's key does.

    Raises:
        ConfigError: a limit is not above 0, or the box is empty.
    """

    max_translation: float = math.inf
    max_rotation: float = math.inf
    low: tuple[float, float, float] = (-math.inf, -math.inf, -math.inf)
    high: tuple[float, float, float] = _EVERYWHERE
    max_age: float = 1.0
    max_change: float = math.inf
    heartbeat: float = math.inf
    clock_jump: float = math.inf
    frozen_pictures: int = 0
    black: int = -1
    stuck: int = 0
    repeated: int = 0

    def __post_init__(self):
        for name in ("max_translation", "max_rotation", "max_age", "max_change", "heartbeat", "clock_jump"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, found {getattr(self, name)}")
        for name in ("frozen_pictures", "stuck", "repeated"):
            if getattr(self, name) < 0 or getattr(self, name) == 1:
                raise ConfigError(f"{name} counts from 2, or is 0 for never, found {getattr(self, name)}")
        if not -1 <= self.black < 255:
            raise ConfigError(f"black is a level from 0 to 254, or -1 for never, found {self.black}")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"workspace: each of low {self.low} must be below high {self.high}")

    @property
    def box(self) -> bool:
        """Whether any side of the workspace is limited."""
        return bool(np.isfinite([self.low, self.high]).any())


@dataclass(frozen=True)
class JointLimits:
    """What an arm's own controller lets its joints do, at every step of its servo.

    Attributes:
        low: smallest positions [rad].
        high: largest positions [rad].
        velocity: largest speeds, either way [rad/s].
        acceleration: largest accelerations, either way [rad/s2].
        torque: largest motor torques, either way [Nm].
        gripper_force: largest force of a finger's motor, either way [N].
        workspace_low: lower corner of the box that the tool's point stays in, base frame [m].
        workspace_high: upper corner [m].
        table: height that no part of hand or wrist goes below, base frame [m].
        margin: kept from positions [rad], workspace and table [m]: what a stopping way may be off by.
        effort: share of velocity, acceleration and torque that the controller itself uses; the rest is for errors.
        braking: share of acceleration that a stop counts on: what the motors can still do against gravity.

    Raises:
        ConfigError: the numbers of joints differ, a limit is not above 0, or a range is empty.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    torque: tuple[float, ...]
    gripper_force: float = math.inf
    workspace_low: tuple[float, float, float] = (-math.inf, -math.inf, -math.inf)
    workspace_high: tuple[float, float, float] = _EVERYWHERE
    table: float = -math.inf
    margin: float = 0.01
    effort: float = 0.9
    braking: float = 0.65

    def __post_init__(self):
        lengths = {name: len(getattr(self, name)) for name in ("low", "high", "velocity", "acceleration", "torque")}
        if len(set(lengths.values())) != 1 or not self.low:
            raise ConfigError(f"each joint has each limit, found {lengths}")
        for name in ("velocity", "acceleration", "torque"):
            if not all(value > 0 for value in getattr(self, name)):
                raise ConfigError(f"{name} must be above 0, found {getattr(self, name)}")
        if not (self.gripper_force > 0 and self.margin >= 0 and 0 < self.braking <= self.effort <= 1):
            raise ConfigError("gripper_force is above 0, margin at least 0, braking up to effort, effort up to 1")
        ranges = [(self.low, self.high), (self.workspace_low, self.workspace_high)]
        if not all(b - a > 2 * self.margin for low, high in ranges for a, b in zip(low, high, strict=True)):
            raise ConfigError(f"a range is narrower than twice the margin of {self.margin}: {ranges}")

    @property
    def stopping(self) -> float:
        """Longest time from full speed to rest, all joints braking together [s]."""
        return max(v / a for v, a in zip(self.velocity, self.acceleration, strict=True)) / self.braking

    def array(self, name: str) -> Float64[np.ndarray, "j"]:
        """A limit as numbers to calculate with."""
        value: Any = getattr(self, name)
        return np.array(value, np.float64)
