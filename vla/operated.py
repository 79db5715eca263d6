"""A person at a body: alone (teleoperation), or above a policy whose work they take over and hand back (DAgger).

::

    device ─read()─▶ Operator.step ─┬─▶ action, or None to hold still
                                    ├─▶ verdict of the episode: keep, success, failure, discard
                                    └─▶ emergency stop: the body's own, then a BodyFault ends the episode

    Hands(operator)                    the operator alone
    Intervention(operator, policy's)   the policy, by whatever executor, until the operator takes over

Both are executors (:mod:`vla.chunking`) for the one loop of :mod:`vla.runtime`.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from vla.chunking import Decision, Executor, MakeExecutor
from vla.embodiment import EmbodimentSpec
from vla.errors import BodyFault
from vla.experience import ActionChunk, Observation
from vla.jogging import Jog, Speeds, jog, taken_from, way
from vla.protocols import Policy, Task
from vla.teleoperation import Button, Teleoperator
from vla.transforms import Adapter

Verdict = Literal["", "keep", "success", "failure", "discard"]
_VERDICTS: tuple[Literal["keep", "success", "failure", "discard"], ...] = ("keep", "success", "failure", "discard")
"""The last one pressed together counts."""

_PATIENCE_S = 0.01  # that a step may wait for an executor on its way out


class Operator:
    """Reads a device once each control step and remembers what was pressed.

    Attributes:
        verdict: what the operator said of the running episode; empty if nothing.
        quits: whether the session is to end.
        in_charge: whether the operator moves the body now.

    Args:
        device: started.
        spec: of the body.
        estop: the body's emergency stop; at worst its ``stop``.
        instructions: that the button ``instruction`` goes through; none to leave the task's own.
        speeds: at full deflection.

    Raises:
        ConfigError: nobody can move such a body by hand.
    """

    def __init__(
        self,
        device: Teleoperator,
        spec: EmbodimentSpec,
        estop: Callable[[], None],
        *,
        instructions: Sequence[str] = (),
        speeds: Speeds | None = None,
    ):
        way(spec)
        self.device, self.spec, self._estop = device, spec, estop
        self.instructions, self._instruction = tuple(instructions), 0
        self.verdict: Verdict = ""
        self.quits, self.in_charge, self.stopped = False, False, False
        self._jog = Jog(speeds=speeds or Speeds())
        self._pressed = threading.Event()  # the emergency stop; it may be heard of before the step that reads it

    def brake(self) -> None:
        """Emergency stop, now; from any thread."""
        self._pressed.set()
        self._estop()

    def check(self) -> None:
        """See that the emergency stop was not pressed while the policy thought: its answer must not be sent any more.

        Raises:
            BodyFault: it was.
        """
        if self._pressed.is_set():
            self.stopped = True
            raise BodyFault("emergency stop by the operator")

    @property
    def instruction(self) -> str:
        """The one that is chosen now; empty to leave the task's own."""
        return self.instructions[self._instruction] if self.instructions else ""

    @property
    def ended(self) -> bool:
        """Whether the running episode is over for the operator."""
        return bool(self.verdict) or self.quits or self.stopped

    def begin(self, *, in_charge: bool) -> None:
        """An episode begins.

        Args:
            in_charge: whether the operator moves the body from the start.
        """
        self.device.begin()
        self.verdict, self.in_charge = "", in_charge
        self._jog = taken_from(self.spec, None, self._jog)

    def step(
        self, observation: Observation, last: Float32[np.ndarray, "a"] | None = None
    ) -> Float32[np.ndarray, "a"] | None:
        """Read the device; the operator's action, None to hold still. ``stop`` takes over from a policy as well.

        Args:
            observation: measured now.
            last: action that the policy sent last; the gripper stays as it was when the operator takes over.

        Raises:
            BodyFault: the emergency stop was pressed, or the device no longer answers.
        """
        command = self.device.read()
        if "estop" in command.pressed:
            self.brake()
        self.check()
        self._heed(command.pressed)
        if "take_over" in command.pressed:
            self.in_charge = not self.in_charge
            self._jog = taken_from(self.spec, last, self._jog)
        elif "stop" in command.pressed and not self.in_charge:  # the policy has to hold still too
            self.in_charge = True
            self._jog = taken_from(self.spec, last, self._jog)
        if not self.in_charge:
            return None
        action, self._jog = jog(self.spec, command, observation, self._jog)
        return None if self.ended else action  # what ends an episode is no part of it

    def _heed(self, pressed: frozenset[Button]) -> None:
        for name in _VERDICTS:
            if name in pressed:
                self.verdict = name
        self.quits = self.quits or "quit" in pressed
        if "instruction" in pressed and self.instructions:
            self._instruction = (self._instruction + 1) % len(self.instructions)


class Hands:
    """The operator alone, as an executor. Steps in which they hold still send nothing and are not recorded."""

    def __init__(self, operator: Operator):
        self.operator = operator
        self._held = 0

    def begin(self, instruction: str, *, seed: int) -> None:
        """See :class:`~vla.chunking.Executor`."""
        self.operator.begin(in_charge=True)

    def looks(self) -> bool:
        """People have eyes of their own."""
        return False

    def step(self, observation: Observation) -> Decision:
        """See :class:`~vla.chunking.Executor`.

        Raises:
            BodyFault: the emergency stop was pressed, or the device no longer answers.
        """
        action = self.operator.step(observation)
        if action is None and not self.operator.in_charge:
            self.operator.in_charge = True  # there is nobody to hand over to
        self._held += action is None
        return Decision(action, human=True)

    def report(self) -> dict[str, Any]:
        """Steps in which nothing was sent."""
        return {"held_steps": self._held}

    def close(self) -> None:
        """Nothing to end."""


class Intervention:
    """A policy's executor under an operator who may take over and hand back.

    While the operator is in charge the policy is not asked. What it had planned is dropped: handed back, a new executor
    begins from what is seen then.

    Args:
        operator: see there.
        make: of the policy's executor.
        policy: see :class:`~vla.chunking.Executor`.
        adapter: see :class:`~vla.chunking.Executor`.
    """

    def __init__(self, operator: Operator, make: MakeExecutor, policy: Policy, adapter: Adapter):
        self.operator, self._new = operator, lambda: make(policy, adapter)
        self._executor: Executor | None = self._new()
        self._leaving: threading.Thread | None = None
        self._instruction, self._seed = "", 0
        self._last: np.ndarray | None = None
        self._reports: list[dict[str, Any]] = []
        self._takeovers = self._human = self._held = 0

    def begin(self, instruction: str, *, seed: int) -> None:
        """See :class:`~vla.chunking.Executor`."""
        self._instruction, self._seed = instruction, seed
        self.operator.begin(in_charge=False)
        if self._executor is not None:
            self._executor.begin(instruction, seed=seed)

    def looks(self) -> bool:
        """See :class:`~vla.chunking.Executor`; true as well when the operator may just be handing back."""
        return self._executor.looks() if self._executor is not None else True

    def step(self, observation: Observation) -> Decision:
        """See :class:`~vla.chunking.Executor`.

        Raises:
            BodyFault: the emergency stop was pressed, or the device no longer answers.
            PolicyFault: of the policy.
        """
        action = self.operator.step(observation, self._last)
        if self.operator.in_charge:
            self._leave()
            self._human += action is not None
            self._held += action is None
            self._last = action if action is not None else self._last
            return Decision(action, human=True)
        if self.operator.ended:
            return Decision(None)
        if self._executor is None and not self._return():
            return Decision(None)
        assert self._executor is not None
        decision = self._executor.step(observation)
        self.operator.check()
        self._last = decision.action if decision.action is not None else self._last
        return decision

    def report(self) -> dict[str, Any]:
        """What the policy's executors say, counts summed, and what the operator did."""
        reports = [*self._reports, *([self._executor.report()] if self._executor is not None else [])]
        found: dict[str, Any] = {}
        for report in reports:
            for name, value in report.items():
                found[name] = found[name] + value if isinstance(value, int) and name in found else value
        return found | {"takeovers": self._takeovers, "human_steps": self._human, "held_steps": self._held}

    def close(self) -> None:
        """See :class:`~vla.chunking.Executor`."""
        if self._leaving is not None:
            self._leaving.join()
        if self._executor is not None:
            self._executor.close()

    def _leave(self) -> None:
        """Let the policy go; its answer that is still awaited is waited for beside the loop."""
        executor, self._executor = self._executor, None
        if executor is not None:
            self._takeovers += 1
            self._reports.append(executor.report())
            self._leaving = threading.Thread(target=executor.close, name="leaving", daemon=True)
            self._leaving.start()

    def _return(self) -> bool:
        """Begin anew with the policy; False while it still works on its last answer."""
        if self._leaving is not None:
            self._leaving.join(_PATIENCE_S)
            if self._leaving.is_alive():
                return False
            self._leaving = None
        self._executor = self._new()
        # other noise than before: the same would repeat what had to be corrected
        self._executor.begin(self._instruction, seed=self._seed + self._takeovers)
        self._executor.looks()
        return True


@dataclass
class OperatedTask:
    """A task whose end the operator decides on, or its own predicate.

    Attributes:
        task: sets the scene.
        operator: see :class:`Operator`.
        limit: control steps after which the episode ends by itself; None for the task's own.
        judged: whether the task's predicate ends the episode too.
    """

    task: Task
    operator: Operator
    limit: int | None = None
    judged: bool = True

    @property
    def instruction(self) -> str:
        """The operator's choice, else the task's own."""
        return self.operator.instruction or self.task.instruction

    @property
    def max_steps(self) -> int:
        """None are left once the operator has ended the episode."""
        return 0 if self.operator.ended else (self.task.max_steps if self.limit is None else self.limit)

    def reset(self) -> None:
        """Set the scene."""
        self.task.reset()

    def succeeded(self) -> bool:
        """As the operator says; as the task sees it where they said nothing."""
        if self.operator.ended:
            return self.operator.verdict == "success"
        return self.judged and self.task.succeeded()


@dataclass
class BareTask:
    """A task that nobody but a person sets and judges: what an arm without a simulator has.

    Attributes:
        instruction: what is to be done.
        max_steps: after which the episode ends.
    """

    instruction: str
    max_steps: int

    def reset(self) -> None:
        """The person does it."""

    def succeeded(self) -> bool:
        """The person knows."""
        return False


@dataclass(frozen=True)
class NoPolicy:
    """Stands where a policy would, when a person is alone.

    Attributes:
        spec: the body's own.
    """

    spec: EmbodimentSpec

    def reset(self, instruction: str, *, seed: int) -> None:
        """Nothing to do."""

    def act(self, observation: Observation) -> ActionChunk:
        """Never called.

        Raises:
            BodyFault: always.
        """
        raise BodyFault("there is no policy")
