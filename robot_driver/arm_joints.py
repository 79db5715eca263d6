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

    def step(self, *, braking: bool) -> tuple[str, ...]:
        """One physics step; returns the rules that acted."""
        wish = self.world.wish()
        self._look(wish)
        if self.guard is None:
            self.world.drive(wish.acceleration, wish.grip)
            return ()
        wanted = self.guard.brake(wish.velocity) if braking else wish.acceleration
        allowed = self.guard.allow(wish.position, wish.velocity, wanted, self.world.torque)
        strongest = self.guard.limits.gripper_force * self.guard.limits.effort
        grip = np.minimum(np.maximum(wish.grip, -strongest), strongest)
        rules = allowed.rules if np.array_equal(grip, wish.grip) else (*allowed.rules, "gripper")
        self.world.drive(allowed.acceleration, grip)
        for rule in rules:
            self.acted[rule] = self.acted.get(rule, 0) + 1
        return rules

    def forget(self) -> None:
        """Somebody put the arm elsewhere."""
        self._last, self.trip, self.still = None, ("", ""), True

    def _look(self, wish: Wish) -> None:
        """Judge what was measured: the guard's model may be wrong, and something may push the arm."""
        limits = self.world.joint_limits
        fastest = float(np.abs(wish.velocity).max())
        self.still = fastest < _REST
        last, self._last = self._last, wish.velocity
        if self.trip[0] or self.guard is None:
            return
        if not fastest < np.inf:  # NaN too
            self.trip = ("finite", f"measured joint speeds are {wish.velocity}")
            return
        shares = {
            "joint_velocity": np.abs(wish.velocity) / limits.velocity,
            "joint_acceleration": np.zeros(1)
            if last is None
            else np.abs(wish.velocity - last) / (self.world.substep_seconds * np.array(limits.acceleration)),
        }
        for rule, share in shares.items():
            if (worst := float(share.max())) > 1.0:
                joint = int(share.argmax()) + 1
                self.trip = (rule, f"joint {joint} was measured at {worst:.2f} of its limit of {rule[6:]}")
                return
        outside = np.maximum(limits.low - wish.position, wish.position - limits.high)
        if outside.max() > 0:
            self.trip = ("joint_position", f"joint {int(outside.argmax()) + 1} is {outside.max():.4f} rad outside")
