"""Each data set is measured once: estimators on disk under the digest of what they have seen.

::

    source.content ─▶ <cache>/statistics-<digest>.npz ─▶ estimator ─┐
    source.content ─▶ (not there: one pass)  ─────────▶ estimator ─┴merge▶ pooled Statistics
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vla.errors import ConfigError
from vla.files import read_npz, whole_file
from vla.normalize import Statistics
from vla.protocols import EpisodeSource, Progress
from vla.statistics_estimator import StatisticsEstimator

FORMAT = 1
logger = logging.getLogger(__name__)
_TOGETHER = 4096  # rows handed to the estimator at once; episodes are short, and each call costs the same


def pooled(
    sources: Sequence[EpisodeSource], *, cache: Path | None = None, progress: Progress = lambda done, total: None
) -> Statistics:
    """Statistics of all state and action channels by name, over sources of one embodiment; decodes no picture.

    Args:
        sources: at least one; their embodiments may differ in the cameras only.
        cache: folder of measured data sets; None to measure anew and keep nothing.
        progress: told how far the sources are read.

    Raises:
        StatisticsMissing: there is no step.
        ConfigError: a number is not finite, or the embodiments differ.
        DataError: an episode cannot be read.
    """
    specs = {(source.spec.state, source.spec.state_rotation, source.spec.action): source.spec for source in sources}
    if len(specs) != 1:
        names = ", ".join(f"{spec.name} ({spec.fingerprint})" for spec in specs.values()) or "no source"
        raise ConfigError(f"statistics are pooled over one embodiment, found {names}")
    (spec,) = specs.values()
    total = sum(int(np.sum(source.lengths)) for source in sources)
    result, before = StatisticsEstimator((*spec.state_names, *spec.action.names)), 0
    for source in sources:
        steps = int(np.sum(source.lengths))
        result.merge(
            measured(source, cache=cache, progress=lambda done, _, begun=before: progress(begun + done, total))
        )
        before += steps
        progress(before, total)
    return result.finish()


def measured(
    source: EpisodeSource, *, cache: Path | None = None, progress: Progress = lambda done, total: None
) -> StatisticsEstimator:
    """An estimator that has seen every step of a source, from the cache if these episodes were measured before.

    Raises:
        ConfigError: a number is not finite; the message names the episode.
        DataError: an episode cannot be read.
    """
    names = (*source.spec.state_names, *source.spec.action.names)
    key = hashlib.sha256(repr((FORMAT, source.content, source.spec.fingerprint)).encode()).hexdigest()[:16]
    path = None if cache is None else cache / f"statistics-{key}.npz"
    found = None if path is None else _read(path, names)
    if found is None:
        found = _measure(source, names, progress)
        if path is not None:
            _write(path, found)
    return found


def _measure(source: EpisodeSource, names: tuple[str, ...], progress: Progress) -> StatisticsEstimator:
    result, total, done = StatisticsEstimator(names), int(np.sum(source.lengths)), 0
    waiting: list[np.ndarray] = []
    rows = 0
    for index in range(len(source)):
        episode = source[index]
        values = np.concatenate([episode.state, episode.action], axis=1)
        if not np.isfinite(values).all():
            step, column = (int(places[0]) for places in np.nonzero(~np.isfinite(values)))
            raise ConfigError(
                f"{episode.source or f'episode {index}'}: step {step}, channel {names[column]}: "
                f"expected a finite number, found {values[step, column]}"
            )
        waiting.append(values)
        rows += len(values)
        if rows >= _TOGETHER or index == len(source) - 1:
            result.add(np.concatenate(waiting))
            done, rows = done + rows, 0
            waiting.clear()
            progress(done, total)
    return result


def _write(path: Path, estimator: StatisticsEstimator) -> None:
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **estimator.to_arrays())
    except OSError as error:  # they are measured: only the next time pays for it
        logger.warning("%s: these statistics are not kept for the next time: %s", path, error.strerror or error)


def _read(path: Path, names: tuple[str, ...]) -> StatisticsEstimator | None:
    """None where there is none, or the file is damaged: that costs a new pass, nothing else."""
    if not path.exists():
        return None
    try:
        result = StatisticsEstimator.from_arrays(read_npz(path))
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return result if result.names == names else None
