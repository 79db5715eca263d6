"""A window source read through once: small numbers in memory, pictures as rows of a feature store."""

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.experience import Window
from vla.protocols import WindowSource
from vla.training.features import FeatureStore

QUIET = 512  # so many windows in a row without a new place end the reading of a source of unknown length
_TOGETHER = 16  # pictures are handed to the extractor in groups of so many windows

Pictures = Callable[[str, Mapping[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Windows:
    """Windows without their pictures, in the order that the source gave them.

    Attributes:
        specs: of the embodiments, each once.
        body: number of each window's spec.
        state: raw, one array a window.
        actions: raw, one array a window.
        valid: of the actions.
        sentence: number of each window's instruction in ``sentences``.
        sentences: the distinct instructions.
        rows: of the pictures in the feature store, -1 where a camera is missing.
    """

    specs: tuple[EmbodimentSpec, ...]
    body: Int64[np.ndarray, "n"]
    state: tuple[Float32[np.ndarray, "s"], ...]
    actions: tuple[Float32[np.ndarray, "h a"], ...]
    valid: Bool[np.ndarray, "n h"]
    sentence: Int64[np.ndarray, "n"]
    sentences: tuple[str, ...]
    rows: Int64[np.ndarray, "n c"]

    def __len__(self) -> int:
        return len(self.body)


def read_windows(
    source: WindowSource,
    specs: tuple[EmbodimentSpec, ...],
    pictures: Pictures,
    store: FeatureStore,
    *,
    horizon: int,
    limit: int | None = None,
    progress: Progress = lambda count: None,
) -> Windows:
    """Walk through a source from index 0.

    It ends after ``limit`` windows, or after ``len(source)`` where the source has a length, or when nothing new has
    come for a while. A window met twice is kept twice: that is how a mixture gives its sources their weights.

    Args:
        source: of the windows.
        specs: numbered for ``Windows.body``.
        pictures: embodiment name and images to (camera, h, w, 3) at the model's size, and which of them exist.
        store: takes the pictures.
        horizon: actions that every window must have.
        limit: largest number of windows.
        progress: told the number of windows so far.

    Raises:
        ConfigError: a window has another horizon, or there is none.
    """
    number = {spec.name: place for place, spec in enumerate(specs)}
    sentences: dict[str, int] = {}
    known: dict[tuple[int, int, int], np.ndarray] = {}
    pending: list[tuple[tuple[int, int, int], np.ndarray, np.ndarray]] = []
    taken: list[tuple[Any, ...]] = []

    def flush() -> None:
        for origin, images, present in pending:
            row = np.full(len(present), -1, dtype=np.int64)
            row[present] = store.add(images[present]) if present.any() else []
            known[origin] = row
        pending.clear()

    quiet, seen = 0, set()
    end = limit if limit is not None else (len(source) if isinstance(source, Sized) else None)
    while (end is None or len(taken) < end) and quiet < QUIET:
        window = source[len(taken)]
        _check(window, horizon)
        quiet = quiet + 1 if window.origin in seen and end is None else 0
        if window.origin not in seen:
            seen.add(window.origin)
            pending.append((window.origin, *pictures(window.spec.name, window.observation.images)))
            if len(pending) == _TOGETHER:
                flush()
        sentence = sentences.setdefault(window.observation.instruction, len(sentences))
        body = number[window.spec.name]
        taken.append((body, window.observation.state, window.actions, window.valid, sentence, window.origin))
        progress(len(taken))
    flush()
    if not taken:
        raise ConfigError("the data source has no windows")
    body, state, actions, valid, sentence, origins = zip(*taken, strict=True)
    return Windows(
        specs,
        np.array(body),
        state,
        actions,
        np.stack(valid),
        np.array(sentence),
        tuple(sentences),
        np.stack([known[origin] for origin in origins]),
    )


def _check(window: Window, horizon: int) -> None:
    if window.actions.shape[0] != horizon:
        raise ConfigError(f"windows hold {window.actions.shape[0]} actions; the model's horizon is {horizon}")
