"""One contestant of ``loading.py``: a process that makes batches when told to. Standard library only.

It prints a JSON line when its first batch is there; for each line "seconds" that it reads it makes batches for so long
and prints how many windows they held.
"""

import json
import os
import sys
import time
from collections.abc import Iterator

SKIPPED = 8
"""Batches at the start of a turn that do not count: they were made ahead while others had the machine."""


def serve(batches: Iterator[int], begun: float, **facts: float | str) -> None:
    """Obey the lines on standard input until it ends.

    Args:
        batches: makes one batch each time, and says how many windows it has.
        begun: ``time.perf_counter()`` before the data set was opened.
        facts: further ones for the first line.
    """
    next(batches)
    print(json.dumps({"first_batch_s": time.perf_counter() - begun, **facts}), flush=True)
    for line in sys.stdin:
        wanted, windows = float(line), 0
        skipped = sum(next(batches) for _ in range(SKIPPED))
        begin = time.perf_counter()
        while (seconds := time.perf_counter() - begin) < wanted or not windows:
            windows += next(batches)
        print(json.dumps({"windows": windows, "seconds": seconds, "skipped": skipped}), flush=True)
    os._exit(0)  # pools and their threads need no farewell
