"""Made ahead by threads, in order, from any number on; errors arrive as they were raised."""

import itertools
import threading
import time
from typing import Any

import numpy as np
import pytest

from vla.errors import DataError
from vla.training.read_ahead import read_ahead
from vla.training.slot import Empty


def squares(number: int, empty: Empty) -> dict[str, Any]:
    time.sleep(0.002 * (number % 3))  # later ones are ready earlier
    return {"value": np.full((40, 50), number**2), "texts": [str(number)] * 2}


def broken(number: int, _: Empty) -> int:
    if number >= 7:
        raise DataError("shard", "record 7", expected="a picture", found="none")
    return number


@pytest.mark.parametrize("threads", [1, 4, None])
def test_results_come_in_order_from_any_number_on(threads):
    results = list(itertools.islice(read_ahead(squares, 5, threads=threads), 12))
    assert [int(result["value"][39, 49]) for result in results] == [number**2 for number in range(5, 17)]
    assert [result["texts"] for result in results] == [[str(number)] * 2 for number in range(5, 17)]


def test_an_error_comes_when_its_turn_does_and_as_it_was():
    results = read_ahead(broken, 4, threads=2)
    assert [next(results) for _ in range(3)] == [4, 5, 6]
    with pytest.raises(DataError, match="shard: record 7: expected a picture, found none"):
        next(results)


def test_no_more_is_made_than_may_wait():
    made: list[int] = []
    results = read_ahead(lambda number, _: made.append(number) or number, 0, threads=2, ahead=3)
    assert next(results) == 0
    time.sleep(0.2)
    assert len(made) <= 2 * 3 + 2
    results.close()


def test_closing_ends_the_threads():
    before = threading.active_count()
    results = read_ahead(broken, 0, threads=3)
    next(results)
    results.close()
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before
