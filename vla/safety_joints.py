"""An arm that could always still stop in time: the controller's side of safety, at every step of its servo.

::

    wanted acceleration ─▶ within acceleration, velocity, torque ─▶ one step ahead ─▶ brake from there: within limits?
                                                                                                     │ yes      │ no
                                                                                      do it ◀────────┘          ▼
                                              as much of it as can still be stopped; in the worst case brake now,
                                              which was found to be possible one step before

The idea is that of provably safe fail-safe manoeuvres (Petti and Fraichard 2005, "Safe motion planning in dynamic
environments", inevitable collision states; Pek and Althoff 2018, "Computationally efficient fail-safe trajectory
planning for self-driving vehicles"): a step is taken only if the arm, after it, could still come to rest within all
limits. Braking is along the present direction of all joints at once, so it is a straight line in joint space: its end
is checked against positions, its end and middle against workspace and table, and the torque is linear in the
acceleration. Limits of an exact model; what the model does not know (contact) is for the trips in the servo.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vla.safety_limits import JointLimits

Joints = Float64[np.ndarray, "j"]
Reach = Callable[[Joints], tuple[Float64[np.ndarray, "3"], float]]
"""Of joint positions: the tool's point and the height of the lowest part of hand and wrist, base frame [m]."""

_HALVINGS = 3
_TINY = 1e-9
_ALMOST = 0.98  # of a torque limit, for a stop


@dataclass(frozen=True)
class Wish:
    """What a world's own controller wants in this physics step.

    Attributes:
        position: of the joints, measured [rad].
        velocity: measured [rad/s].
        acceleration: wanted [rad/s2].
        grip: forces wanted of the fingers' motors [N].
    """

    position: Joints
    velocity: Joints
    acceleration: Joints
    grip: Float64[np.ndarray, "g"]


@dataclass(frozen=True)
class Allowed:
    """What the joints may do in one step.

    Attributes:
        acceleration: [rad/s2].
        rules: that changed it, of ``"joint_acceleration"``, ``"joint_velocity"``, ``"joint_torque"``,
            ``"joint_position"``, ``"workspace"``, ``"table"``.
    """

    acceleration: Joints
    rules: tuple[str, ...]


class JointGuard:
    """Bounds joint accelerations such that every limit holds now and until the arm could be at rest.

    Args:
        limits: of the arm.
        reach: its forward kinematics.
        dt: length of a servo step [s].
    """

    def __init__(self, limits: JointLimits, reach: Reach, dt: float):
        self.limits, self._reach, self._dt = limits, reach, dt
        self._low, self._high = limits.array("low") + limits.margin, limits.array("high") - limits.margin
        self._fast = limits.array("velocity") * limits.effort
        self._strong = limits.array("acceleration") * limits.effort
        self._torque, self._last_torque = limits.array("torque") * limits.effort, limits.array("torque") * _ALMOST
        self._stop = limits.array("acceleration") * limits.braking
        self._box_low = limits.array("workspace_low") + limits.margin
        self._box_high = limits.array("workspace_high") - limits.margin
        self._table = limits.table + limits.margin

    def brake(self, velocity: Joints) -> Joints:
        """The acceleration that brings all joints to rest together as fast as they may; exactly to rest in the end."""
        longest = float(np.max(np.abs(velocity) / self._stop))
        return velocity * (-1.0 / max(longest, self._dt))

    def ends(self, velocity: Joints) -> bool:
        """Whether braking brings all joints to rest within this very step."""
        return float(np.max(np.abs(velocity) / self._stop)) <= self._dt

    def allow(
        self, position: Joints, velocity: Joints, wanted: Joints, torque: Callable[[Joints], Joints] | None = None
    ) -> Allowed:
        """The part of an acceleration that can be had.

        Args:
            position: measured [rad].
            velocity: measured [rad/s].
            wanted: by the controller [rad/s2]; what is not finite brakes.
            torque: motor torques that an acceleration takes here [Nm]; must be linear plus a constant.
        """
        brake = self.brake(velocity)
        if not np.isfinite(wanted).all():
            return Allowed(brake, ("finite",))
        rules: list[str] = []
        chosen = np.minimum(np.maximum(wanted, -self._strong), self._strong)
        if not np.array_equal(chosen, wanted):
            rules.append("joint_acceleration")
        after = velocity + chosen * self._dt
        slower = np.minimum(np.maximum(after, -self._fast), self._fast)
        if not np.array_equal(slower, after):
            rules.append("joint_velocity")
            chosen = np.minimum(np.maximum((slower - velocity) / self._dt, -self._strong), self._strong)
        if torque is not None:
            braking = torque(brake)
            if (np.abs(braking) > self._last_torque).any():
                # a stop that no motor could do: as much of it as one can, from coasting on
                coasting = torque(np.zeros_like(brake))
                share = self._torque_share(coasting, braking, self._last_torque)
                brake = share * brake
                if (np.abs(torque(chosen)) > self._torque).any():
                    rules.append("joint_torque")
                    chosen = brake
            elif (share := self._torque_share(braking, torque(chosen), self._torque)) < 1.0:
                rules.append("joint_torque")
                chosen = brake + share * (chosen - brake)
        if rule := self._broken(position, velocity, chosen):
            rules.append(rule)
            low, high = 0.0, 1.0
            for _ in range(_HALVINGS):
                middle = 0.5 * (low + high)
                if self._broken(position, velocity, brake + middle * (chosen - brake)):
                    high = middle
                else:
                    low = middle
            chosen = brake + low * (chosen - brake)
        return Allowed(chosen, tuple(rules))

    def _torque_share(self, braking: Joints, wanted: Joints, most: Joints) -> float:
        """How far one can go from the braking torques towards the wanted ones within the limits."""
        if (np.abs(wanted) <= most).all():
            return 1.0
        step = wanted - braking
        room = np.where(step > 0, most - braking, most + braking)
        shares = room / np.maximum(np.abs(step), _TINY)
        return float(np.clip(shares.min(), 0.0, 1.0))

    def _broken(self, position: Joints, velocity: Joints, acceleration: Joints) -> str:
        """The first limit that braking from after this step would break; empty if none."""
        velocity = velocity + acceleration * self._dt
        position = position + velocity * self._dt
        longest = float(np.max(np.abs(velocity) / self._stop))
        way = velocity * (0.5 * (longest + self._dt))  # half of the time at the first speed, and one step of sampling
        rest = position + way
        # outside already (set there by somebody): only further out is refused
        out = np.maximum(np.maximum(self._low - rest, rest - self._high), 0.0)
        if (out > np.maximum(np.maximum(self._low - position, position - self._high), 0.0)).any():
            return "joint_position"
        return self._outside(position, rest) or (
            self._outside(position, position + 0.5 * way) if longest > 0.05 else ""
        )

    def _outside(self, before: Joints, position: Joints) -> str:
        tool, lowest = self._reach(position)
        beyond = float(np.maximum(self._box_low - tool, tool - self._box_high).max())
        if beyond > 0 or lowest < self._table:
            was, low = self._reach(before)
            if beyond > max(0.0, float(np.maximum(self._box_low - was, was - self._box_high).max())):
                return "workspace"
            if lowest < min(low, self._table):
                return "table"
        return ""
