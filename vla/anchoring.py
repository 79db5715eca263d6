"""Deltas count from the pose they were predicted from, on a body that holds a target of its own.

::

    observation of t ─▶ policy ─▶ chunk of t:  row 0,  row 1,  row 2 ...
      └─ anchor: the pose then ──▶ pose after it, after it, after it        added up in the base frame
    action of a step = what leads from the pose that the body counts from to the pose after the step's row

Added to whatever was commanded last, the rows of a late chunk would go the way of the rows before them a second time,
and what a limit took off one action would be missing for good. The change that is asked for here passes all limits like
any other action.

Which pose the anchor is depends on the data that the policy learnt from. An arm is behind its target while it moves:

============ ============================================== ==================================================
``target``   the target that the arm had then               deltas of commands, as this project records them
``measured`` where the tool was measured to be              deltas of reached poses (Bridge is relabelled so)
============ ============================================== ==================================================

Bodies whose deltas count from what is measured when they come (LIBERO's) say nothing, and are left alone.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import Any, Literal, Protocol, runtime_checkable

from vla.chunking import Decision, Executor
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, PolicyFault
from vla.experience import Observation
from vla.tool_pose import Pose, change_to, measured_pose, measures_tool, moves_tool, poses_after

_REMEMBERED = 512
"""Observations whose anchor is known; no answer is later than that."""

Anchor = Literal["target", "measured"]

_CHUNKS = 16
"""Chunks whose poses are known; a row is of the newest one, or of one before it if that came too late to be used."""


@runtime_checkable
class CountsFrom(Protocol):
    """A body that may hold a target of its tool, which the next change counts from."""

    def counts_from(self) -> Pose | None:
        """That target; None if changes do not count from one."""
        ...


class Anchored:
    """An executor whose actions lead to the poses that its chunks mean.

    Rows that several chunks have a share in (ensembles), and what a person decides, are left as they are.

    Args:
        executor: of the policy.
        body: whose target the changes count from.
        spec: of the body.
        anchor: what the chunks count from.

    Raises:
        ConfigError: the body does not measure what they count from.
    """

    def __init__(self, executor: Executor, body: CountsFrom, spec: EmbodimentSpec, anchor: Anchor = "target"):
        if anchor == "measured" and not measures_tool(spec):
            raise ConfigError(f"{spec.name} does not measure the tool's pose, which the deltas are to count from")
        self.executor, self._body, self._spec, self._anchor = executor, body, spec, anchor
        self._anchors: OrderedDict[float, Pose] = OrderedDict()
        self._after: OrderedDict[float, list[Pose]] = OrderedDict()

    def begin(self, instruction: str, *, seed: int) -> None:
        """See :class:`~vla.chunking.Executor`."""
        self._anchors.clear()
        self._after.clear()
        self.executor.begin(instruction, seed=seed)

    def looks(self) -> bool:
        """See :class:`~vla.chunking.Executor`."""
        return self.executor.looks()

    def step(self, observation: Observation) -> Decision:
        """See :class:`~vla.chunking.Executor`.

        Raises:
            PolicyFault: of the policy, or its chunk answers no observation of this episode.
        """
        start = self._body.counts_from()
        if start is None:
            return self.executor.step(observation)
        anchor = start if self._anchor == "target" else measured_pose(self._spec, observation.state)
        _remember(self._anchors, observation.time, anchor, _REMEMBERED)
        decision = self.executor.step(observation)
        if decision.chunk is not None:
            anchor = self._anchors.get(decision.chunk.time)
            if anchor is None:
                raise PolicyFault(f"the chunk answers an observation of {decision.chunk.time:.6f} s that nobody made")
            after = poses_after(decision.chunk.actions, self._spec.action, anchor)
            _remember(self._after, decision.chunk.time, after, _CHUNKS)
        if decision.action is None or decision.row is None or decision.human:
            return decision
        asked, row = decision.row
        return replace(decision, action=change_to(decision.action, self._spec.action, start, self._after[asked][row]))

    def report(self) -> dict[str, Any]:
        """See :class:`~vla.chunking.Executor`."""
        return self.executor.report()

    def close(self) -> None:
        """See :class:`~vla.chunking.Executor`."""
        self.executor.close()


def _remember[T](known: OrderedDict[float, T], time: float, value: T, most: int) -> None:
    known[time] = value
    if len(known) > most:
        known.popitem(last=False)


def anchored(executor: Executor, body: object, spec: EmbodimentSpec, anchor: Anchor = "target") -> Executor:
    """The executor, anchored if the body may hold a target of its tool.

    Raises:
        ConfigError: the body does not measure what the deltas are to count from.
    """
    if spec.action.mode == "delta" and moves_tool(spec.action) and isinstance(body, CountsFrom):
        return Anchored(executor, body, spec, anchor)
    return executor
