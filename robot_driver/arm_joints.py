"""Drives a world's joints within their limits at every physics step, and notices when one is broken all the same.

::

    world.wish() ─▶ measured within limits? ──no──▶ trip: why, for the servo to latch
                          │
                          ▼
              wanted, or braking ─▶ JointGuard.allow ─▶ clip finger forces ─▶ world.drive
"""

from dataclasses import dataclass, field

import numpy as np

from vla.robot_driver.arm_world import JointWorld
from vla.safety_joints import JointGuard, Joints, Wish
from vla.safety_limits import JointLimits

_TRUST = 0.1
"""Share of each step's surprise that is believed: 20 ms until two thirds are."""

_MAKE_UP = 0.4
"""Largest share of the acceleration limits that is made up for."""

_REST = 1e-3
"""Joint speed below which the arm counts as standing [rad/s]: a millimetre a second at the end of a stretched arm."""


@dataclass
class GuardedJoints:
    """The servo's hand on the joints.

    Attributes:
        world: what is driven.
        guard: of its limits; None drives what is wanted, so that a campaign can show what then happens.
        acted: physics steps in which each rule changed something.
        trip: the first limit found broken in what was measured, and how; empty if none.
        still: whether all joints stand.
    """

    world: JointWorld
    guard: JointGuard | None
    acted: dict[str, int] = field(default_factory=dict)
    trip: tuple[str, str] = ("", "")
    still: bool = True
    _last: Joints | None = None
    _driven: Joints | None = None
    _load: Joints | float = 0.0
    _braked: bool = False

    def step(self, *, braking: bool) -> tuple[str, ...]:
        """One physics step; returns the rules that acted."""
        wish = self.world.wish()
        rise = None if self._last is None else (wish.velocity - self._last) / self.world.substep_seconds
        self._last = wish.velocity
        self._look(wish, rise)
        if self.guard is None:
            self.world.drive(wish.acceleration, wish.grip)
            return ()
        stopping = braking and not self._braked
        wanted = self.guard.brake(wish.velocity) if stopping else wish.acceleration
        unknown = self._unknown(rise)
        allowed = self.guard.allow(
            wish.position, wish.velocity, wanted, lambda acceleration: self.world.torque(acceleration - unknown)
        )
        strongest = self.guard.limits.gripper_force * self.guard.limits.effort
        grip = np.minimum(np.maximum(wish.grip, -strongest), strongest)
        rules = allowed.rules if np.array_equal(grip, wish.grip) else (*allowed.rules, "gripper")
        self.world.drive(allowed.acceleration - unknown, grip)
        self._driven = allowed.acceleration - unknown
        self._braked = braking and (self._braked or self.guard.ends(wish.velocity))
        if stopping and self._braked:
            self.world.hold()  # braking alone would drift with whatever the model does not know: a load, a push
        for rule in rules:
            self.acted[rule] = self.acted.get(rule, 0) + 1
        return rules

    def forget(self) -> None:
        """Somebody put the arm elsewhere."""
        self._last = self._driven = None
        self.trip, self.still, self._load, self._braked = ("", ""), True, 0.0, False

    def _unknown(self, rise: Joints | None) -> Joints:
        """Acceleration by what the model does not know, as the last steps show it: a disturbance observer.

        Without it, a load of 0.3 kg makes the way to a stop a third longer than was checked. What it makes up for is
        bounded: an arm that something holds must not push ever harder.
        """
        if rise is not None and self._driven is not None:
            self._load = self._load + _TRUST * (rise - self._driven - self._load)
        most = _MAKE_UP * self.world.joint_limits.array("acceleration")
        return np.minimum(np.maximum(self._load, -most), most)

    def _look(self, wish: Wish, rise: Joints | None) -> None:
        """Judge what was measured: the guard's model may be wrong, and something may push the arm."""
        self.still = float(np.abs(wish.velocity).max()) < _REST
        if not self.trip[0] and self.guard is not None:
            self.trip = broken(self.world.joint_limits, wish.position, wish.velocity, rise)


def broken(
    limits: JointLimits,
    position: Joints,
    velocity: Joints,
    rise: Joints | None = None,
    *,
    give: float = 0.0,
    hurry: float = 1.0,
) -> tuple[str, str]:
    """The first limit that measured joints break, and how; empty if none.

    Args:
        limits: of the arm.
        position: measured [rad].
        velocity: measured [rad/s].
        rise: measured accelerations [rad/s2]; None if they are not judged.
        give: of the joints' stops, which positions may lie beyond by so much [rad].
        hurry: times a joint's largest speed that is allowed.
    """
    if not float(np.abs(velocity).max()) < np.inf:  # NaN too
        return "finite", f"measured joint speeds are {velocity}"
    shares = {
        "joint_velocity": np.abs(velocity) / limits.velocity / hurry,
        "joint_acceleration": np.abs(np.zeros(1) if rise is None else rise / limits.acceleration),
    }
    for rule, share in shares.items():
        if (worst := float(share.max())) > 1.0:
            joint = int(share.argmax()) + 1
            return rule, f"joint {joint} was measured at {worst:.2f} of its limit of {rule[6:]}"
    outside = np.maximum(limits.low - position, position - limits.high)
    if outside.max() > give:
        return "joint_position", f"joint {int(outside.argmax()) + 1} is {outside.max():.4f} rad outside"
    return "", ""
