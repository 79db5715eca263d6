"""What an evaluation is made of: rows, fixed before the run, each naming one scene down to the seed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from vla.errors import ConfigError
from vla.protocols import Body, Task


@dataclass(frozen=True, order=True)
class Row:
    """One episode to run.

    Attributes:
        suite: e.g. ``"libero_spatial"``.
        task: name of the task in the suite.
        init: number of the benchmark's own initial state; -1 to sample the objects' places anew.
        seed: decides whatever the initial state does not: fixture poses, sampled places, the policy's noise.
        widen: factor by which the regions are widened that places are sampled from; only with ``init`` -1.
    """

    suite: str
    task: str
    init: int
    seed: int
    widen: float = 1.0

    def __post_init__(self):
        if self.init < -1:
            raise ConfigError(f"initial state {self.init}: expected a number from 0, or -1 for a sampled one")
        if self.widen <= 0 or (self.widen != 1.0 and self.init != -1):
            raise ConfigError("regions can be widened, by a factor above 0, only for sampled places (init -1)")

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON value."""
        return asdict(self)


@runtime_checkable
class Benchmark(Protocol):
    """Scenes by row. Opening a row twice gives the same scene, whatever was opened in between."""

    def tasks(self, suite: str) -> Sequence[str]:
        """Names of a suite's tasks in the benchmark's order.

        Raises:
            UnknownName: there is no such suite.
        """
        ...

    def open(self, row: Row) -> tuple[Body, Task]:
        """The body and the task of a row; ``Task.reset`` sets its scene.

        A benchmark may hand out the same body again for the next row: only the last pair opened is usable.

        Raises:
            UnknownName: there is no such suite or task.
        """
        ...

    def close(self) -> None:
        """Give back simulators and graphics contexts."""
        ...
