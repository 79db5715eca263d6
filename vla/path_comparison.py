"""How far one measured way is from another, step by step: a replay from its recording."""

from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError
from vla.view_pose import hands, pose


def compare_paths(
    spec: EmbodimentSpec, recorded: Float32[np.ndarray, "t s"], measured: Float32[np.ndarray, "u s"]
) -> dict[str, Any]:
    """Differences over the steps that both have, JSON values in physical units.

    Args:
        spec: of both.
        recorded: states of the recording.
        measured: states of the replay.

    Returns:
        ``steps`` compared; ``channels``: by name and unit, ``start``, ``rms``, ``max`` and ``end``; ``hands``: of each
        hand whose pose is measured, the distance [m] and the angle [rad].

    Raises:
        ConfigError: there is no step to compare.
    """
    steps = min(len(recorded), len(measured))
    if not steps:
        raise ConfigError("there is no step to compare")
    scale = np.array([channel.scale for channel in spec.state])
    ours, theirs = recorded[:steps].astype(np.float64) * scale, measured[:steps].astype(np.float64) * scale
    differences = np.abs(theirs - ours)
    channels = {
        channel.name: {"unit": channel.unit, **_summary(differences[:, place])}
        for place, channel in enumerate(spec.state)
        if channel.kind != "rotation"  # numbers of a rotation differ where the rotation does not
    }
    found: dict[str, Any] = {"steps": steps, "channels": channels, "hands": {}}
    for hand in hands(spec):
        pairs = [
            (a, b)
            for step in range(steps)
            if (a := pose(spec, hand, recorded[step])) is not None
            and (b := pose(spec, hand, measured[step])) is not None
        ]
        if pairs:
            distance = np.array([np.linalg.norm(b[0] - a[0]) for a, b in pairs])
            angle = np.array([_angle(a[1], b[1]) for a, b in pairs])
            found["hands"][hand.name] = {"distance_m": _summary(distance), "angle_rad": _summary(angle)}
    return found


def _summary(values: Float64[np.ndarray, "t"]) -> dict[str, float]:
    rms = float(np.sqrt(np.mean(values**2)))
    return {"start": float(values[0]), "rms": rms, "max": float(values.max()), "end": float(values[-1])}


def _angle(first: np.ndarray, second: np.ndarray) -> float:
    """Between two orientations [rad]."""
    between = first.T @ second
    turned = np.array([between[2, 1] - between[1, 2], between[0, 2] - between[2, 0], between[1, 0] - between[0, 1]])
    return float(np.arctan2(np.linalg.norm(turned) / 2, (np.trace(between) - 1) / 2))
