"""Windows of any source of episodes, many at once."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from vla.experience import Place
from vla.protocols import EpisodeSource, Gathers
from vla.window_batch import WindowBatch, batched


def read_windows(
    source: EpisodeSource, episodes: Int64[np.ndarray, "n"], steps: Int64[np.ndarray, "n"], horizon: int
) -> list[WindowBatch]:
    """The windows at these steps of these episodes: gathered if the source can, else one by one.

    Raises:
        IndexError: there is no such episode.
        DataError: a file is damaged or has changed.
    """
    if isinstance(source, Gathers):
        return source.windows(episodes, steps, horizon)
    return one_by_one(source, episodes, steps, horizon)


def check_episodes(episodes: Int64[np.ndarray, "n"], count: int) -> None:
    """See that a source of so many episodes has these; counting from its end is not meant.

    Raises:
        IndexError: it has not.
    """
    outside = (episodes < 0) | (episodes >= count)
    if outside.any():
        raise IndexError(f"episode {episodes[outside][0]} of {count}")


def one_by_one(
    source: EpisodeSource, episodes: Int64[np.ndarray, "n"], steps: Int64[np.ndarray, "n"], horizon: int
) -> list[WindowBatch]:
    """The same for a source that cannot gather; an episode is opened once, pictures stay encoded."""
    opened = {number: source[number] for number in sorted(set(episodes.tolist()))}
    windows, frames = [], []
    for number, step in zip(episodes.tolist(), steps.tolist(), strict=True):
        window = opened[number].window(step, horizon, images=False)
        windows.append(replace(window, origin=Place(0, number, step)))
        frames.append(opened[number].images)
    return batched(windows, frames)
