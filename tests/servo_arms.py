"""Arms for servos in processes of their own: importable there, and they leave a file of what they were sent."""

import time
from pathlib import Path

import numpy as np

from vla.robot_driver.motion import MotionLimits

LIMITS = MotionLimits((-2,) * 3, (2,) * 3, (1.5,) * 3, (10,) * 3, (400,) * 3)
RATE = 250.0


class Recorder:
    """Is where it was sent; writes all of that when it is let go.

    Args:
        file: to write.
        breaks_after: ticks after which sending fails.
    """

    def __init__(self, file: str, breaks_after: int = 1_000_000):
        self.file, self.breaks_after = Path(file), breaks_after
        self.sent = [np.zeros(3)] * 4

    def send(self, position):
        if len(self.sent) > self.breaks_after:
            raise ConnectionError("the cable is out")
        self.sent.append(position)

    def measure(self):
        return self.sent[-1]

    @property
    def calls(self):
        return {"slow": time.sleep, "file": lambda: self.file, "bug": lambda: {}["a bug"]}

    def close(self):
        part = self.file.with_suffix(".part.npy")
        np.save(part, np.array(self.sent))
        part.rename(self.file)


def unreachable():
    """An arm that is switched off."""
    raise TimeoutError("no answer from 192.0.2.1")
