"""Batches made ahead of the training by threads, and by processes where threads are not enough; always in order.

Threads are grain's. It was chosen over torch's ``DataLoader`` after both had drawn the same RLDS windows of 224 pixels
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

Since then batches are made whole (:mod:`vla.window_batch`), which leaves little beside decoding. Threads share the
index and all else with the process that trains, hand over pictures without a copy, and do not care how processes are
started; what they lose is the time they wait for each other's interpreter lock, and for the training's. Processes of
grain and of torch copy every batch into memory that is new each time, which costs as much as half the decoding; so
``workers`` are our own (:mod:`vla.training.batch_workers`), which decode where the trainer reads. All go on at any
step, since a step's batch is a function of its number.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from vla.child_process import cores
from vla.training.batch_workers import made_by_processes
from vla.training.malloc import keep_freed_memory
from vla.training.slot import Empty, empty_for_pictures

_ENDLESS = 1 << 48  # batches; grain wants a number


def read_ahead[T](
    make: Callable[[int, Empty], T], start: int, *, threads: int | None = None, workers: int = 0, ahead: int = 2
) -> Generator[T]:
    """What ``make`` gives for ``start``, ``start + 1`` and so on, without end, made while earlier ones are used.

    Closing the iterator (or dropping it) ends its threads and processes. With workers an array lies in memory that is
    used again when nobody has it any more: let go of a result before asking for the next, or more memory is taken.

    Args:
        make: a function of the number alone that has its large arrays from its second argument, which is like
            ``np.empty``; called by several threads at once; with workers it must be picklable.
        start: first number.
        threads: of this process; None for as many as there are cores.
        workers: processes to start instead; 0 for threads of this one.
        ahead: results that each thread may have waiting; for workers, those in the making or in use count too.

    Raises:
        Exception: that ``make`` raised, when its turn comes.
        VlaError: a process died.
    """
    if workers:
        yield from made_by_processes(make, start, workers, ahead)
        return
    keep_freed_memory()  # a batch of pictures in fresh pages costs half as much again as decoding it
    grain = _grain()
    count = threads or cores()
    options = grain.ReadOptions(num_threads=count, prefetch_buffer_size=count * ahead)
    results = iter(grain.MapDataset.source(_From(make, start)).to_iter_dataset(options))
    try:
        while True:
            yield next(results)
    finally:
        results.close()


@dataclass(frozen=True)
class _From[T]:
    """As grain wants a data source: numbers from 0, and an end."""

    make: Callable[[int, Empty], T]
    start: int

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: Any) -> T:
        return self.make(self.start + int(index), empty_for_pictures)


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
