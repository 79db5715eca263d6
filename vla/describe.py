"""What a source of episodes holds, as numbers for people and for JSON."""

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from vla.embodiment import ActionSpec, Channel
from vla.errors import StatisticsMissing
from vla.protocols import EpisodeSource


def info(source: EpisodeSource) -> dict[str, Any]:
    """Episodes, instructions, cameras and channels of a source, as a JSON value; decodes no picture.

    Raises:
        StatisticsMissing: the source has no episode.
    """
    if not len(source):
        raise StatisticsMissing("the source has no episode")
    spec, lengths = source.spec, np.asarray(source.lengths)
    instructions: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for index in range(len(source)):
        episode = source[index]
        instructions[episode.instruction] += 1
        outcomes["unknown" if episode.success is None else "success" if episode.success else "failure"] += 1
    return {
        "embodiment": spec.name,
        "fingerprint": spec.fingerprint,
        "episodes": len(source),
        "steps": int(lengths.sum()),
        "lengths": {"min": int(lengths.min()), "median": float(np.median(lengths)), "max": int(lengths.max())},
        "rate": spec.action.rate,
        "outcomes": dict(outcomes),
        "instructions": dict(instructions.most_common()),
        "cameras": [dataclasses.asdict(camera) for camera in spec.cameras],
        "state": {"channels": _channels(spec.state), "rotation": spec.state_rotation},
        "action": _action(spec.action),
    }


def _channels(channels: tuple[Channel, ...]) -> list[dict[str, str]]:
    return [{"name": channel.name, "unit": channel.unit, "kind": channel.kind} for channel in channels]


def _action(action: ActionSpec) -> dict[str, Any]:
    gripper = action.gripper
    return {
        "channels": _channels(action.channels),
        "mode": action.mode,
        "frame": action.frame,
        "rotation": action.rotation,
        "gripper": {"closed": gripper.closed, "open": gripper.opened} if gripper else None,
    }
