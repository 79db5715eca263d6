"""Ticks at a fixed rate against absolute deadlines, and the priority that keeps them.

::

    deadline   |        |        |        |        |        |
    tick        x       x             x (late: two missed)   x        never two ticks within one period's slot

A tick that comes late by a period or more has missed deadlines; they are counted and not made up for. The next tick is
on the same grid, so lateness does not add up. The wait is ``clock_nanosleep`` with an absolute time: being interrupted
between reading the clock and going to sleep delays nothing.
"""

import ctypes
import errno
import gc
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vla.errors import ConfigError

_KEPT = 1 << 17  # lateness of the last ticks: 4 minutes at 500 Hz


def _c_library() -> Any:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


_C = _c_library()


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def sleep_until(deadline: float) -> None:
    """Return at a time of ``time.monotonic`` [s], or at once if it is past."""
    if _C is None:
        time.sleep(max(0.0, deadline - time.monotonic()))
        return
    seconds = int(deadline)
    moment = _Time(seconds, int((deadline - seconds) * 1e9))
    while True:
        code = _C.clock_nanosleep(time.CLOCK_MONOTONIC, 1, ctypes.byref(moment), None)  # 1: TIMER_ABSTIME
        if code == 0:
            return
        if code != errno.EINTR:
            raise OSError(code, f"clock_nanosleep: {os.strerror(code)}")


def prefer_this_thread(priority: int) -> dict[str, bool]:
    """Ask the system to run this thread first: what was granted.

    Without permission nothing changes: the answer says so, and belongs into a report.

    Args:
        priority: of the first-in-first-out scheduler, 1 to 99; needs CAP_SYS_NICE or an rtprio limit.

    Returns:
        ``"fifo"``: runs before all ordinary threads; ``"locked"``: this process's memory is never paged out;
        ``"timer"``: wakes within a microsecond where the scheduler otherwise allows itself 50.
    """
    if not 1 <= priority <= 99:
        raise ConfigError(f"a real-time priority lies between 1 and 99, found {priority}")
    granted = {"fifo": False, "locked": False, "timer": False}
    if _C is None:
        return granted
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))  # 0: the calling thread
        granted["fifo"] = True
    except PermissionError:
        pass
    granted["locked"] = _C.mlockall(3) == 0  # MCL_CURRENT | MCL_FUTURE
    granted["timer"] = _C.prctl(29, 1000, 0, 0, 0) == 0  # PR_SET_TIMERSLACK [ns]
    return granted


def freeze_garbage() -> None:
    """What exists now is never searched for garbage again: a collection of it takes tens of milliseconds."""
    gc.collect()
    gc.freeze()


class Pacer:
    """Waits for the next deadline, and knows how late it was.

    Attributes:
        ticks: made so far.
        missed: deadlines in whose period no tick began.
        late: of the last tick [s].

    Args:
        period: between deadlines [s].
        clock: that the deadlines are on [s].
        until: sleeps until a time of that clock.

    Raises:
        ConfigError: the period is not above 0.
    """

    def __init__(
        self,
        period: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        until: Callable[[float], None] = sleep_until,
    ):
        if not period > 0:
            raise ConfigError(f"a period is above 0 s, found {period}")
        self.period, self._clock, self._until = period, clock, until
        self._begin, self._slot = clock(), 0
        self.ticks = self.missed = 0
        self.late = 0.0
        self._late = np.zeros(_KEPT, np.float32)

    def wait(self) -> float:
        """Return at the next deadline of the grid; the time then [s]."""
        self._slot += 1
        deadline = self._begin + self._slot * self.period
        self._until(deadline)
        now = self._clock()
        late = self.late = now - deadline
        self._late[self.ticks % _KEPT] = late
        self.ticks += 1
        passed = int(late / self.period) if late > 0 else 0
        self.missed += passed
        self._slot += passed
        return now

    def report(self) -> dict[str, Any]:
        """Ticks, missed deadlines, and how late the last ticks were [us]; JSON values."""
        found: dict[str, Any] = {"ticks": self.ticks, "missed": self.missed}
        if self.ticks:
            late = 1e6 * self._late[: min(self.ticks, _KEPT)]
            middle, most = np.percentile(late, [50, 99])
            found["late_us"] = {"p50": round(float(middle), 1), "p99": round(float(most), 1)}
            found["late_us"]["max"] = round(float(late.max()), 1)
        return found
