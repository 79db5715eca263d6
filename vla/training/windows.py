"""All windows of a source read once: small numbers in memory, pictures as rows of a feature store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla.errors import ConfigError
from vla.experience import Place, Window
from vla.protocols import WindowSource
from vla.training.features import FeatureStore
from vla.training.horizon import check_horizon

_TOGETHER = 16  # pictures are handed to the extractor in groups of so many windows

Pictures = Callable[[str, Mapping[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Windows:
    """Windows without their pictures, in the order they were read.

    Attributes:
        number: row of each place.
        embodiment: name of each window's spec.
        state: raw, one array a window.
        actions: raw, one array a window.
        valid: of the actions.
        sentence: number of each window's instruction in ``sentences``.
        sentences: the distinct instructions.
        rows: of the pictures in the feature store, -1 where a camera is missing.
    """

    number: Mapping[Place, int]
    embodiment: Sequence[str]
    state: Sequence[Float32[np.ndarray, "s"]]
    actions: Sequence[Float32[np.ndarray, "h a"]]
    valid: Bool[np.ndarray, "n h"]
    sentence: Int64[np.ndarray, "n"]
    sentences: tuple[str, ...]
    rows: Int64[np.ndarray, "n c"]

    def __len__(self) -> int:
        return len(self.state)


def read_windows(
    source: WindowSource,
    places: Sequence[Place],
    pictures: Pictures,
    store: FeatureStore,
    *,
    horizon: int,
    progress: Callable[[int], None] = lambda count: None,
) -> Windows:
    """Read the windows at ``places`` and hand their pictures to the store.

    Args:
        source: of the windows.
        places: each once.
        pictures: embodiment name and images to (camera, h, w, 3) at the model's size, and which of them exist.
        store: takes the pictures.
        horizon: actions that every window must have.
        progress: told the number of windows so far.

    Raises:
        ConfigError: a window has another horizon, or there is none.
    """
    if not places:
        raise ConfigError("the data source has no windows")
    sentences: dict[str, int] = {}
    windows: list[Window] = []
    rows: list[np.ndarray] = []
    for start in range(0, len(places), _TOGETHER):
        group = [source.window(place) for place in places[start : start + _TOGETHER]]
        images, present = zip(*(pictures(item.spec.name, item.observation.images) for item in group), strict=True)
        there = np.stack(present)
        row = np.full(there.shape, -1, dtype=np.int64)
        if there.any():
            row[there] = store.add(np.stack(images)[there])
        rows.append(row)
        for item in group:
            check_horizon(len(item.actions), horizon)
            sentences.setdefault(item.observation.instruction, len(sentences))
            # the pictures are in the store: keep the numbers only
            windows.append(replace(item, observation=replace(item.observation, images={})))
        progress(len(windows))
    return Windows(
        {place: number for number, place in enumerate(places)},
        [item.spec.name for item in windows],
        [item.observation.state for item in windows],
        [item.actions for item in windows],
        np.stack([item.valid for item in windows]),
        np.array([sentences[item.observation.instruction] for item in windows]),
        tuple(sentences),
        np.concatenate(rows),
    )
