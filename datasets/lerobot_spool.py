"""Columns and texts on their way into an index."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64

from vla.datasets.lerobot_info import Info
from vla.datasets.lerobot_layout import EPISODES_FILE
from vla.datasets.lerobot_parquet import integers
from vla.datasets.lerobot_tally import Tally
from vla.errors import DataError


class Spool:
    """Columns written to files as they come, so that a data set's numbers are never all in memory."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}

    def add(self, name: str, values: np.ndarray) -> None:
        """Append rows to a column; the first ones decide on dtype and width."""
        if name not in self._files:
            self._files[name] = (self._folder / f"{len(self._files)}.bin").open("wb")
            self._kinds[name] = (values.dtype, values.shape[1:])
        self._files[name].write(np.ascontiguousarray(values).data)

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns, mapped; nothing can be added any more."""
        result = {}
        for name, file in self._files.items():
            file.close()
            dtype, shape = self._kinds[name]
            flat = np.memmap(file.name, dtype, "r") if Path(file.name).stat().st_size else np.zeros(0, dtype)
            result[name] = flat.reshape(-1, *shape)
        return result


class Texts:
    """Instructions by number, each once; only data that this project wrote may have blank ones.

    Args:
        info: the data set.
        tasks: texts by number.
        column: of texts or of their numbers.
        own: whether this project wrote it.
        tally: collects what is wrong.
    """

    def __init__(self, info: Info, tasks: dict[int, str | None], column: str, own: bool, tally: Tally):
        self.info, self.tasks, self.column, self.own, self.tally = info, tasks, column, own, tally
        self.known: dict[str, int] = {}

    def numbers(self, table: dict[str, Any], rows: slice, episode: int, path: Path) -> Int64[np.ndarray, "t"]:
        """Number of each step's text in this table of texts."""
        steps = rows.stop - rows.start
        if not self.column:
            return np.full(steps, self._number(""))
        values = table[self.column].slice(rows.start, steps)
        if str(values.type) in ("string", "large_string"):
            return np.array([self._number(text or "") for text in values.to_pylist()], dtype=np.int64)
        stored = integers({self.column: values}, self.column, path)
        result = np.zeros(steps, dtype=np.int64)
        for number in np.unique(stored):
            text = self.tasks.get(int(number))
            if text is None or not (self.own or text.strip()):
                text = None
                expected = "a task with a text"
                found = f"task {number} of {len(self.tasks)}, which has none"
                remedy = "the instruction is empty"
                self.tally.add(
                    "task-without-text",
                    path,
                    self.column,
                    expected=expected,
                    found=found,
                    remedy=remedy,
                    episode=episode,
                )
            result[stored == number] = self._number(text or "")
        return result

    def _number(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))

    def arrays(self) -> dict[str, np.ndarray]:
        """All texts one after the other, and where each ends."""
        encoded = [text.encode() for text in self.known]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        return {"texts": np.frombuffer(b"".join(encoded), np.uint8), "text_ends": ends}


def line_places(info: Info, count: int, keep: Int64[np.ndarray, "k"]) -> dict[str, np.ndarray]:
    """Where in our own file the line of each episode begins and ends, if there is that file."""
    path = info.folder / EPISODES_FILE
    if not path.exists():
        return {}
    ends = []
    try:
        with path.open("rb") as file:
            ends = [file.tell() for _ in iter(file.readline, b"")]
    except OSError as error:
        raise DataError(path, "file", expected="a readable file", found=str(error)) from error
    if len(ends) != count:
        raise DataError(path, "lines", expected=f"{count}, one an episode", found=str(len(ends)))
    places = np.array([0, *ends], dtype=np.int64)
    return {"extra": np.stack([places[:-1], places[1:]], axis=1)[keep]}
