"""What a training draws from: data sets with weights, or a published mixture of Open X-Embodiment data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vla.commands.source import VERSION, SourceOptions, data_set_name
from vla.datasets.mixture_shares import WeightKind, draw_shares, sampled_episodes
from vla.errors import ConfigError
from vla.protocols import EpisodeSource

if TYPE_CHECKING:
    from vla.datasets.mixture import Mixture


def mixture_data(name: str, root: str, *, partly: bool = False) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The newest version of each data set of a mixture, and the published weights.

    Args:
        name: one of :data:`vla.datasets.oxe.mixtures.MIXTURES`.
        root: folder or URL with ``<data set>/<version>/``, as TFDS lays them out (e.g. ``gs://gresearch/robotics``).
        partly: leave out the data sets that are not there.

    Raises:
        UnknownName: there is no such mixture.
        ConfigError: data sets are not there; lists them.
    """
    from vla.datasets.oxe.mixtures import mixture

    weights = mixture(name)
    places = {each: _newest(each, root) for each in weights}
    missing = sorted(each for each, place in places.items() if place is None)
    if missing and (len(missing) == len(weights) or not partly):
        raise ConfigError(f"of the mixture {name}, {root} has no {', '.join(missing)}")
    found = {place: weights[each] for each, place in places.items() if place is not None}
    return tuple(found), tuple(found.values())


def open_data(
    paths: Sequence[str],
    *,
    split: str = "train",
    raw: bool = False,
    tolerate: Sequence[str] = (),
    descriptions: Sequence[Path] = (),
) -> list[EpisodeSource]:
    """Several data sets, with a bar for those that are indexed first.

    Args:
        paths: folders, files or URLs.
        split: of each of them.
        raw: as stored, without their known fixes.
        tolerate: kinds of quirks to read around.
        descriptions: files that say what data sets mean, each for those in its ``names``. A data set's name is that of
            its file or folder, of TFDS the one above the version.

    Raises:
        DataError: a data set or a description is damaged.
        ConfigError: a description is of none of the data sets.
    """
    from vla.datasets.description import read_description

    known = {name: file for file in descriptions for name in read_description(file).names}
    names = [data_set_name(path) for path in paths]
    for file in descriptions:
        if not any(known.get(name) == file for name in names):
            raise ConfigError(f"{file} describes none of the data sets: {', '.join(names)}")
    return [
        SourceOptions(path, split, raw, tuple(tolerate), description=known.get(name)).open()
        for path, name in zip(paths, names, strict=True)
    ]


def only_human(sources: Sequence[EpisodeSource], paths: Sequence[str], human: Sequence[str]) -> list[EpisodeSource]:
    """The data sets, some of them without what no person decided on: a correction teaches, what led to it does not.

    Args:
        sources: of these paths.
        paths: as they were given.
        human: those of them that lose their other steps; each stretch of a person's is then an episode of its own.

    Raises:
        ConfigError: one is none of the data sets, or has no step of a person's.
    """
    from vla.datasets.human_steps import HumanSteps

    if strange := sorted(set(human) - set(paths)):
        raise ConfigError(f"{strange[0]} is none of the data sets: {', '.join(paths)}")
    found = [HumanSteps(one) if path in human else one for one, path in zip(sources, paths, strict=True)]
    for one, path in zip(found, paths, strict=True):
        if path in human and not len(one):
            raise ConfigError(f"{path}: no step is labelled as a person's, there is nothing to learn from them")
    return found


def training_mixture(
    sources: Sequence[EpisodeSource],
    weights: Sequence[float] = (),
    kind: WeightKind = "share",
    *,
    temperature: float = 1.0,
    sample: Sequence[str] = (),
    horizon: int,
    seed: int,
    stride: int,
) -> "Mixture":
    """The windows to train on, in their order.

    Args:
        sources: where episodes come from.
        weights: one for each source; by their size if empty.
        kind: whether weights are shares of the draws, or multiply the sources' sizes.
        temperature: sizes count as size^(1/temperature).
        sample: for each source, or one for all, the episodes to use: ``all``, a number or a percentage.
        horizon: actions in a window.
        seed: names the order and the sample.
        stride: windows begin at every n-th step.

    Raises:
        ConfigError: a setting is out of range, or settings exclude each other.
    """
    from vla.datasets.mixture import Mixture

    samples = (*sample,) * len(sources) if len(sample) == 1 else (*sample,) or ("all",) * len(sources)
    if len(samples) != len(sources):
        raise ConfigError(f"{len(samples)} samples were given for {len(sources)} data sets")
    chosen = [
        None if one == "all" else sampled_episodes(len(source), one, seed=seed).tolist()
        for source, one in zip(sources, samples, strict=True)
    ]
    plain = Mixture(sources, horizon=horizon, seed=seed, stride=stride, episodes=chosen)
    if not weights and temperature == 1.0:
        return plain
    shares = draw_shares(plain.windows, weights, kind=kind, temperature=temperature)
    return Mixture(sources, shares, horizon=horizon, seed=seed, stride=stride, episodes=chosen)


def _newest(name: str, root: str) -> str | None:
    from vla.datasets.oxe.registry import oxe_files
    from vla.datasets.storage import join, names

    files = oxe_files()
    for alias in (name, *(other for other, file in files.items() if file == files[name] and other != name)):
        folder = join(root, alias)
        versions = [each for each in names(folder) if VERSION.fullmatch(each)]
        if versions:
            return join(folder, max(versions, key=lambda each: tuple(map(int, each.split(".")))))
    return None
