"""An arm, its clients and the network between them on one clock, which moves when somebody waits.

::

    client ── wire bytes ─▶ Network: lost? when? ─▶ ArmDesk ─▶ Servo ─▶ world        the same desk, servo and world
       └─ waits: LockStep.run(until) ─▶ physics steps and whatever is due             as behind the TCP server

Nothing is real but the code: ten seconds of the arm take as long as its physics, a run is the same to the last bit for
the same seed, and a client that hangs, dies or gets its packets late is a few lines.
"""

import heapq
import itertools
from collections.abc import Callable
from typing import Any, NoReturn

from vla import wire
from vla.errors import BodyFault
from vla.robot_driver.arm_world import ArmWorld
from vla.robot_driver.mujoco_arm_desk import VERSION, ArmDesk, Session
from vla.robot_driver.mujoco_arm_link import Role, understood
from vla.robot_driver.mujoco_arm_servo import Servo, ServoLimits

Network = Callable[[str, float], tuple[float, ...]]
"""Of a direction (``"out"`` to the arm, ``"back"`` from it) and the time: the delays of each copy of the packet that
arrives [s]; none if it is lost."""


def steady(direction: str, now: float) -> tuple[float, ...]:
    """The network of a quiet laboratory: half a millisecond each way."""
    return (0.0005,)


class LockStep:
    """The clock and what happens on it.

    Attributes:
        now: the time [s].
        servo: the arm.
        desk: who answers for it.
        arm_stands_until: the arm's process does not run before that [s].
        arm_clock_off: how far the arm's clock is from this one [s].

    Args:
        world: what is simulated.
        limits: of the arm's controller.
    """

    def __init__(self, world: ArmWorld, limits: ServoLimits):
        self.now = self.arm_stands_until = self.arm_clock_off = 0.0
        self.servo = Servo(world, limits, clock=lambda: self.now + self.arm_clock_off)
        self.desk = ArmDesk(self.servo)
        self._step = world.substep_seconds
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def clock(self) -> float:
        """The time, for whoever wants a clock [s]."""
        return self.now

    def at(self, time: float, happens: Callable[[], None]) -> None:
        """Have something happen at a time; now if that is past."""
        heapq.heappush(self._due, (max(time, self.now), next(self._count), happens))

    def run(self, until: float, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until then, or until something that happens makes ``unless`` true."""
        while not unless():
            due = self._due[0][0] if self._due else until
            if due > until or not self._due:
                self._physics(until)
                return
            self._physics(due)
            # physics has no callbacks, so the first is still the first
            heapq.heappop(self._due)[2]()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.run(self.now + seconds)

    def _physics(self, until: float) -> None:
        while self.now < until:
            self.now = min(self.now + self._step, until)
            if self.now >= self.arm_stands_until:
                self.servo.advance(1)


class LockStepLink:
    """A connection over the simulated network; an :class:`~vla.robot_driver.mujoco_arm_link.Asks`.

    Attributes:
        cut: nothing arrives any more, and nobody is told: its process or its cable is gone.

    Args:
        lockstep: where it is.
        role: see :class:`~vla.robot_driver.mujoco_arm_link.Link`.
        network: between here and the arm.
        timeout: an arm that does not answer within this is gone [s].

    Raises:
        BodyFault: the arm does not answer, or refuses.
    """

    def __init__(self, lockstep: LockStep, role: Role, *, network: Network = steady, timeout: float = 1.0):
        self._lockstep, self._network, self._timeout = lockstep, network, timeout
        self._session, self._ids, self._answers = Session(), itertools.count(1), {}
        self._lost, self.cut = "", False
        self.hello: dict[str, Any] = self.ask("hello", role=role, version=VERSION)

    @property
    def lost(self) -> bool:
        """Whether the connection has failed or was closed."""
        return bool(self._lost) or self.cut

    def ask(self, op: str, *, timeout: float | None = None, **fields: Any) -> dict[str, Any]:
        """Send one request and let time pass until its answer is there.

        Raises:
            BodyFault: the arm does not answer in time, or refuses.
            PolicyFault: it refuses an action.
        """
        if self.lost:
            raise BodyFault(f"the arm is gone: {self._lost or 'cut off'}")
        wait, identity = self._timeout if timeout is None else timeout, next(self._ids)
        payload = wire.pack({"op": op, "id": identity, **fields})
        self._carry("out", lambda: self._arrive(payload))
        self._lockstep.run(
            self._lockstep.now + wait, unless=lambda: self.lost or identity in self._answers or None in self._answers
        )
        answer = self._answers.pop(identity, None) or self._answers.get(None)
        if answer is None:
            self.fail(f"no answer within {wait:g} s")
        return understood(answer, "the arm", self.close)

    def fail(self, reason: str) -> NoReturn:
        """Give the connection up.

        Raises:
            BodyFault: always.
        """
        self.close(reason)
        raise BodyFault(f"the arm is gone: {reason}")

    def close(self, reason: str = "the connection was closed") -> None:
        """Hang up; the arm hears of it when that has travelled."""
        if not self._lost:
            self._lost = reason
            self._carry("out", lambda: self._lockstep.desk.leave(self._session, "the client closed its connection"))

    def _carry(self, direction: str, happens: Callable[[], None]) -> None:
        if not self.cut:
            for delay in self._network(direction, self._lockstep.now):
                self._lockstep.at(self._lockstep.now + delay, happens)

    def _arrive(self, payload: bytes) -> None:
        if self._lockstep.now < self._lockstep.arm_stands_until:  # it waits in the socket until somebody reads
            self._lockstep.at(self._lockstep.arm_stands_until, lambda: self._arrive(payload))
            return
        try:
            answer = self._lockstep.desk.answer(self._session, payload)
        except wire.WireError as error:
            self._lockstep.desk.leave(self._session, f"the client was dropped: {error}")
            answer = wire.pack({"error": "refused", "message": str(error)})
        self._carry("back", lambda: self._hear(wire.unpack(answer)))

    def _hear(self, answer: dict[str, Any]) -> None:
        self._answers[answer.get("id")] = answer
