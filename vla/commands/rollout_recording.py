"""The data set that ``vla rollout`` records into, and what a killed run left of it.

::

    OUT/.episodes.partial    whole episodes, as long as the run goes on or where it was killed
    OUT/embodiment.json      whose they are: with it they can be completed without the robot
    OUT/episodes             once it is complete
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from vla.datasets.embodiment_file import embodiment_text
from vla.datasets.lerobot_v3 import Writer
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError
from vla.files import write_text

EPISODES, PARTIAL, EMBODIMENT = "episodes", ".episodes.partial", "embodiment.json"


def recording(out: Path, spec: EmbodimentSpec) -> Writer:
    """What a run's episodes are added to; goes on with those that are there.

    Args:
        out: folder of the run.
        spec: of the body.

    Raises:
        ConfigError: it is complete already, or another process writes it.
        DataError: what is there is damaged.
    """
    # a file for each episode: what ends the process leaves the others on disk
    return Writer(out / EPISODES, spec, key=f"rollout {spec.identity}", file_bytes=1)


@contextlib.contextmanager
def embodiment_beside(out: Path, spec: EmbodimentSpec) -> Iterator[None]:
    """As long as the data set is not complete, a file says whose it is."""
    write_text(out / EMBODIMENT, embodiment_text(spec))
    try:
        yield
    finally:
        if not (out / PARTIAL).exists():
            (out / EMBODIMENT).unlink()


def left_behind(out: Path) -> bool:
    """Whether a run into this folder did not come to its end; it may still go on."""
    return (out / PARTIAL).is_dir() and (out / EMBODIMENT).is_file()


def complete(out: Path) -> int:
    """Complete the data set of a run that was killed; returns how many episodes it has.

    Args:
        out: folder of the run.

    Raises:
        ConfigError: nothing was left there, or the run still goes on.
        DataError: what is there is damaged.
    """
    if not left_behind(out):
        raise ConfigError(f"{out}: no run was killed here, {PARTIAL} or {EMBODIMENT} is not there")
    file = out / EMBODIMENT
    try:
        spec = EmbodimentSpec.from_json(json.loads(file.read_text())["embodiment"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(file, "embodiment", expected="the embodiment of the run", found=repr(error)) from error
    with embodiment_beside(out, spec), recording(out, spec) as writer:
        if not writer.episodes:
            raise ConfigError(f"{out}: the run was killed before its first episode ended; nothing is left of it")
    return writer.episodes
