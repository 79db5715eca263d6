"""Statistics of the same data told in other units: each channel's conversion is affine, so its statistics follow."""

import numpy as np

from vla.embodiment import EmbodimentSpec
from vla.errors import SpecMismatch, StatisticsMissing
from vla.normalize import ChannelStatistics, Statistics
from vla.transforms import VectorMap, action_map, vector_map


def convert_statistics(statistics: Statistics, source: EmbodimentSpec, target: EmbodimentSpec) -> Statistics:
    """What the statistics would be if the data had been stored as ``target`` stores it.

    Scales, gripper numbers and channel order are converted; channels of ``source`` that have no statistics have none
    afterwards either.

    Args:
        statistics: of data in the channels of ``source``.
        source: what the numbers mean.
        target: what they shall mean.

    Raises:
        SpecMismatch: no conversion exists between the two embodiments.
        StatisticsMissing: the form of a rotation changes: its statistics do not follow from the old ones.
    """
    state, differences = vector_map(
        source.state, target.state, source_rotation=source.state_rotation, target_rotation=target.state_rotation
    )
    if differences:
        raise SpecMismatch(differences, have=f"data as {source.name!r}", want=f"statistics for {target.name!r}")
    action = action_map(source.action, target.action)
    channels = _converted(statistics, state, source.state_names, target.state_names)
    channels |= _converted(statistics, action, source.action.names, target.action.names)
    return Statistics(channels)


def _converted(
    statistics: Statistics, through: VectorMap, given: tuple[str, ...], wanted: tuple[str, ...]
) -> dict[str, ChannelStatistics]:
    if through.rotations:
        raise StatisticsMissing(
            f"{through.rotations[0].source_form} to {through.rotations[0].target_form}: statistics "
            "of a rotation in one form do not give those in another; compute them from the data"
        )
    return {
        name: _affine(statistics.channels[given[column]], float(gain), float(offset))
        for name, column, gain, offset in zip(
            wanted, np.asarray(through.index).tolist(), through.gain, through.offset, strict=True
        )
        if given[column] in statistics.channels
    }


def _affine(numbers: ChannelStatistics, gain: float, offset: float) -> ChannelStatistics:
    def moved(value: float | None) -> float | None:
        return None if value is None else gain * value + offset

    pairs = [(moved(numbers.min), moved(numbers.max)), (moved(numbers.q01), moved(numbers.q99))]
    (low, high), (first, last) = pairs if gain > 0 else [(b, a) for a, b in pairs]
    mean, std = gain * numbers.mean + offset, abs(gain) * numbers.std
    return ChannelStatistics(mean, std, low, high, first, last, numbers.count, numbers.quantile_error)
