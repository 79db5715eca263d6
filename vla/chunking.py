"""From chunks to commands: which row of which chunk is the next action."""

from collections import deque

import numpy as np
from jaxtyping import Float32

from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk


class OpenLoop:
    """Executes the first ``execute`` rows of each chunk, then asks for a new one; never invents a row.

    Args:
        execute: rows of each chunk to execute; None for all of them.
    """

    def __init__(self, execute: int | None = None):
        if execute is not None and execute < 1:
            raise ConfigError(f"at least one action of a chunk must be executed, found {execute}")
        self.execute = execute
        self._rows: deque[np.ndarray] = deque()

    @property
    def empty(self) -> bool:
        """Whether a new chunk is needed before the next action."""
        return not self._rows

    def reset(self) -> None:
        """Forget what is left of the current chunk."""
        self._rows.clear()

    def push(self, chunk: ActionChunk) -> None:
        """Replace what is left by a new chunk.

        Raises:
            PolicyFault: the chunk has fewer rows than are to be executed.
        """
        if self.execute is not None and len(chunk.actions) < self.execute:
            raise PolicyFault(f"a chunk of {len(chunk.actions)} rows cannot be executed for {self.execute}")
        self._rows = deque(chunk.actions[: self.execute])

    def next(self) -> Float32[np.ndarray, "a"]:
        """The next action."""
        return self._rows.popleft()
