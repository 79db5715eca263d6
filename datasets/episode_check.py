"""What every writer asks of an episode before it writes a byte of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vla.embodiment import EmbodimentSpec
from vla.errors import DataError
from vla.experience import Episode


def check_episode(episode: Episode, spec: EmbodimentSpec, file: Path, where: str) -> None:
    """Compare an episode with the spec it claims.

    Args:
        episode: its pictures are counted, not decoded.
        spec: of the data set.
        file: named in errors.
        where: names the episode in errors.

    Raises:
        DataError: the spec is another one, a shape or type is wrong, a number is not finite, or a text is not Unicode.
    """

    def refuse(field: str, expected: str, found: str) -> DataError:
        return DataError(file, f"{where}: {field}", expected=expected, found=found)

    if episode.spec != spec:
        ours, theirs = (f"{each.name} ({each.fingerprint})" for each in (spec, episode.spec))
        if ours == theirs:
            ours, theirs = (f"{ours}, its cameras calibrated as in {each.identity}" for each in (spec, episode.spec))
        raise refuse("embodiment", ours, theirs)
    steps = len(episode)
    if not steps:
        raise refuse("steps", "at least one", "none")
    for name, values, size in (("state", episode.state, len(spec.state)), ("action", episode.action, spec.action.size)):
        if values.shape != (steps, size) or values.dtype != np.float32:
            raise refuse(name, f"float32 of shape {(steps, size)}", f"{values.dtype} of shape {values.shape}")
        if not np.isfinite(values).all():
            raise refuse(name, "finite numbers", f"{values[~np.isfinite(values)][0]}")
    if episode.time.shape != (steps,) or episode.time.dtype != np.float64 or not np.isfinite(episode.time).all():
        raise refuse("time", f"{steps} finite times", f"{episode.time.dtype} of shape {episode.time.shape}")
    for camera in spec.cameras:
        count = len(episode.images.get(camera.name, ()))
        if count != steps:
            raise refuse(f"camera {camera.name}", f"{steps} pictures", str(count))
    for name, text in (("instruction", episode.instruction), ("source", episode.source)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise refuse(name, "Unicode text", str(error)) from error


def info_text(episode: Episode, file: Path, where: str) -> str:
    """``Episode.info`` as JSON.

    Raises:
        DataError: it holds something else.
    """
    info: dict[str, Any] = dict(episode.info)
    try:
        return json.dumps(info, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(file, f"{where}: info", expected="JSON values", found=str(error)) from error
