"""What worker processes are asked to make in tests; they find it here by its name."""

import itertools
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from vla.errors import DataError
from vla.training.slot import Empty


def squares(number: int, empty: Empty) -> dict[str, Any]:
    time.sleep(0.002 * (number % 3))  # later ones are ready earlier
    value = empty((100, 50), np.int64)
    value[:] = number**2
    return {"value": value, "pid": os.getpid(), "parent": os.getppid(), "torch": "torch" in sys.modules}


def broken(number: int, _: Empty) -> int:
    if number == 7:
        raise DataError("shard", "record 7", expected="a picture", found="none")
    return number


def unreadable(number: int, _: Empty) -> int:
    raise PermissionError(13, "Permission denied", f"shard {number}")


class Odd(Exception):
    """Cannot travel: it is made of two things, and says only one."""

    def __init__(self, one: int, two: int):
        super().__init__(f"{one} and {two}")


def odd(number: int, _: Empty) -> int:
    raise Odd(number, 2)


def pids_of(results: Iterator[dict[str, Any]], count: int) -> set[int]:
    return {made[key] for made in itertools.islice(results, count) for key in ("pid", "parent")}
