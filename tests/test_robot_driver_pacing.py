"""Deadlines lie on one grid; what is missed is counted and never made up for."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.errors import ConfigError
from vla.robot_driver.pacing import Pacer, prefer_this_thread, sleep_until


class Sleeper:
    """A clock that stands still but for sleeping, which takes longer than it was asked to."""

    def __init__(self, excess):
        self.now, self.excess = 100.0, list(excess)

    def clock(self):
        return self.now

    def until(self, deadline):
        self.now = max(self.now, deadline) + self.excess.pop(0)


@given(st.lists(st.integers(0, 90).map(lambda thousandths: thousandths / 1000 + 0.0005), min_size=2, max_size=30))
def test_at_most_one_tick_in_each_slot_of_the_grid(excess):
    sleeper = Sleeper(excess)
    pacer = Pacer(0.01, clock=sleeper.clock, until=sleeper.until)
    slots = [int((pacer.wait() - 100.0) / 0.01 + 1e-6) for _ in excess]
    assert (np.diff(slots) >= 1).all()
    assert pacer.report()["missed"] == slots[-1] - len(slots)  # every slot either has its tick or is counted
    assert pacer.report()["ticks"] == len(slots)


def test_lateness_is_reported_against_the_deadline():
    sleeper = Sleeper([0.001, 0.002, 0.025, 0.003])
    pacer = Pacer(0.01, clock=sleeper.clock, until=sleeper.until)
    assert [round(pacer.wait() - 100, 6) for _ in range(4)] == [0.011, 0.022, 0.055, 0.063]
    assert pacer.report() == {"ticks": 4, "missed": 2, "late_us": {"p50": 2500.0, "p99": 24340.0, "max": 25000.0}}


def test_sleeping_ends_after_its_time_and_a_past_time_is_now():
    end = time.monotonic() + 0.02
    sleep_until(end)
    assert time.monotonic() >= end
    sleep_until(end - 1)
    sleep_until(0.0)


def test_what_the_system_grants_is_said():
    with pytest.raises(ConfigError):
        prefer_this_thread(0)
    with pytest.raises(ConfigError):
        Pacer(0.0)
