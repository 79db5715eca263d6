"""Batches made ahead of the training by threads, and by processes where threads are not enough; always in order.

grain does the work. It was chosen over torch's ``DataLoader`` after both had drawn the same RLDS windows of 224 pixels
in batches of 64, on two cores that had other work too: processor time is what compares (``benchmarks/loading.py``
measures what came of it):

=====================  =============  ===========  ==========================
what                   CPU, a window  first batch  memory, of all processes
=====================  =============  ===========  ==========================
JPEG decoding alone    315 us
reading, no loader     335 us
grain, two threads     350 us         0.1 s        150 MB
torch, two forks       490 us         0.5 s        550 MB, 400 of them torch
torch, two spawned     not measured   7 s or more  1,090 MB
grain, two spawned     540 us         1.7 s        250 MB
=====================  =============  ===========  ==========================

Since then batches are made whole (:mod:`vla.window_batch`): beside decoding, a window costs some 15 us instead of 100,
of which reading its bytes is 5. Threads suffice since a JPEG is decoded without the interpreter lock; they share the
index and all else with the process that trains, hand over pictures without a copy, and do not care how processes are
started. What needs the lock takes some 10 us a window, so that one process should feed several 10,000 windows a second
(not measured: that takes eight cores or more); beyond that, ``workers`` adds processes. torch's loader has no threads.
Both go on at any step, since a step's batch is a function of its number. grain itself is 3 MB; array-record, absl,
etils and protobuf, which it needs, come with tensorflow-datasets anyway.
"""

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from vla.training.malloc import keep_freed_memory

_ENDLESS = 1 << 48  # batches; grain wants a number


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def read_ahead[T](
    make: Callable[[int], T], start: int, *, threads: int | None = None, workers: int = 0, ahead: int = 2
) -> Generator[T]:
    """What ``make`` gives for ``start``, ``start + 1`` and so on, without end, made while earlier ones are used.

    Closing the iterator (or dropping it) ends its threads and processes.

    Args:
        make: a function of the number alone, called by several threads at once; with workers it must be picklable.
        start: first number.
        threads: of this process, or of each worker; None for as many as there are cores, in all.
        workers: processes to start; 0 for threads of this one.
        ahead: results that each thread may have waiting.

    Raises:
        VlaError: that ``make`` raised, when its turn comes; from other processes too.
    """
    keep_freed_memory()  # a batch of pictures in fresh pages costs half as much again as decoding it
    grain = _grain()
    count = threads or max(1, cores() // max(1, workers))
    options = grain.ReadOptions(num_threads=count, prefetch_buffer_size=count * ahead)
    stream = grain.MapDataset.source(_From(make, start)).to_iter_dataset(options)
    if workers:
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=ahead))
    results = iter(stream)
    try:
        while True:
            yield next(results)
    finally:
        results.close()


@dataclass(frozen=True)
class _From[T]:
    """As grain wants a data source: numbers from 0, and an end."""

    make: Callable[[int], T]
    start: int

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: Any) -> T:
        return self.make(self.start + int(index))


def _grain() -> Any:
    """The library, without its remark that there is no JAX."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        import grain
    finally:
        logging.set_verbosity(before)
    return grain
