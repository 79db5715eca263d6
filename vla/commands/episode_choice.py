"""Episodes by number, for commands that take some of a set."""

import re
from collections.abc import Sequence

from vla.errors import ConfigError

_CHOICE = re.compile(r"(\d+)|(\d*):(\d*)")


def episode_numbers(choices: Sequence[str], count: int) -> list[int]:
    """Numbers of the chosen episodes, each once, in the order given; all of them if none is chosen.

    Args:
        choices: numbers such as ``7``, and ranges without their end such as ``0:10``, ``20:`` or ``:5``.
        count: episodes in the set.

    Raises:
        ConfigError: a choice is neither, or an episode is not there.
    """
    numbers: dict[int, None] = {}
    for choice in choices:
        match = _CHOICE.fullmatch(choice.strip())
        if match is None:
            raise ConfigError(f"episodes are chosen by numbers and ranges such as 3 or 0:10, found {choice!r}")
        single, first, end = match.groups()
        low = int(single) if single else int(first or 0)
        high = low + 1 if single else min(int(end or count), count)
        if not low < high <= count:
            raise ConfigError(f"episode {choice} is not there: the set has {count}, counted from 0")
        numbers.update(dict.fromkeys(range(low, high)))
    return list(numbers) if choices else list(range(count))
