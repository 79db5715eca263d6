"""Which simulator LIBERO's numbers hold for. With another one a policy's success is another, and nothing crashes.

From MuJoCo 3.3.3 on the renderer draws LIBERO's floors darker (a public checkpoint fell from 88 to 69 %); from 3.4.0 on
the bowl of libero_spatial's task 5 slips off the ramekin while the scene settles (98 to 12 %). :mod:`vla.sim.settled`
holds the golden scenes that show the second; robosuite 1.5 has another controller and other cameras.
"""

import importlib.metadata
import re

from vla.errors import ConfigError

RANGES = {"mujoco": ("3.2.3", "3.3.2"), "robosuite": ("1.4.0", "1.4.1")}
"""Packages and the first and last version that LIBERO's numbers hold for."""

_REASONS = {
    "mujoco": "from 3.3.3 on floors are drawn darker, from 3.4.0 on objects slide while a scene settles",
    "robosuite": "LIBERO was made with 1.4.0",
}


def check(*, allow_drift: bool) -> str:
    """What is installed that LIBERO's numbers do not hold for, in words; empty if nothing is.

    Raises:
        ConfigError: something is, and ``allow_drift`` is not set.
    """
    found = [package for package in RANGES if not _within(_installed(package), *RANGES[package])]
    drift = ", ".join(f"{package} {_installed(package)}" for package in found)
    if found and not allow_drift:
        reasons = "; ".join(
            f"{package} {_installed(package)} is not {RANGES[package][0]} to {RANGES[package][1]}: {_REASONS[package]}"
            for package in found
        )
        install = " ".join(f"'{package}>={RANGES[package][0]},<={RANGES[package][1]}'" for package in found)
        raise ConfigError(
            f"LIBERO's numbers do not hold here. {reasons}. Install another (pip install {install}), or say "
            "--allow-simulator-drift, which marks the results"
        )
    return drift


def _installed(package: str) -> str:
    return importlib.metadata.version(package)


def _within(version: str, first: str, last: str) -> bool:
    return _numbers(first) <= _numbers(version) <= _numbers(last)


def _numbers(version: str) -> tuple[int, ...]:
    """Major, minor, patch of a version; what follows (``.post1``, ``rc1``) does not count."""
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    return (*numbers, *([0] * (3 - len(numbers))))
