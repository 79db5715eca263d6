"""Numbers of episodes as people write them: ``3``, ``0:10``, ``20:``."""

from collections.abc import Iterable

from vla.errors import ConfigError


def chosen_episodes(texts: Iterable[str], count: int) -> tuple[int, ...]:
    """The numbers meant, in the order given, each once.

    Args:
        texts: numbers, or ranges of them without their end; below 0 counts from the end.
        count: episodes that there are.

    Raises:
        ConfigError: a text is none of both, or there is no episode of that number.
    """
    numbers: dict[int, None] = {}
    for text in texts:
        try:
            ends = [int(part) if part else None for part in text.split(":")]
        except ValueError as error:
            raise ConfigError(f"episodes are given as 3 or 0:10, not as {text!r}") from error
        if len(ends) == 2:
            meant = range(count)[slice(*ends)]
            if not meant:
                raise ConfigError(f"episodes {text} are not there: there are {count}, counted from 0")
            numbers |= dict.fromkeys(meant)
        elif len(ends) == 1 and ends[0] is not None:
            if not -count <= ends[0] < count:
                raise ConfigError(f"episode {ends[0]} is not there: there are {count}, counted from 0")
            numbers[range(count)[ends[0]]] = None
        else:
            raise ConfigError(f"episodes are given as 3 or 0:10, not as {text!r}")
    return tuple(numbers)
