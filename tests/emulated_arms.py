"""Emulated SO-101 arms for tests, calibrated by lerobot's own procedure with its questions answered."""

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vla.robot_driver.feetech_emulator import Emulator
from vla.robot_driver.lerobot_bus import buses
from vla.robot_driver.lerobot_make import Sort, make
from vla.robot_driver.so101_servos import REACH

PATIENCE_MS = 400.0
"""lerobot gives a servo 50 ms to answer, which is too little where many programs share the processor."""

MIDDLE = {number: (low + high) / 2.0 for number, (low, high) in enumerate(REACH, 1)}


@contextmanager
def patient_buses() -> Iterator[None]:
    """Buses that lerobot makes inside wait longer for an answer."""
    from lerobot.motors.feetech import feetech

    impatient = feetech.patch_setPacketTimeout

    def patient(self: Any, packet_length: int) -> None:
        impatient(self, packet_length)
        self.packet_timeout += PATIENCE_MS - 50.0

    feetech.patch_setPacketTimeout = patient
    try:
        yield
    finally:
        feetech.patch_setPacketTimeout = impatient


@contextmanager
def typed() -> Iterator[int]:
    """Standard input is a pipe; gives the end to write to."""
    read, write = os.pipe()
    before = sys.stdin
    # one line at a time: what is read ahead would be lost to lerobot's select
    sys.stdin = io.TextIOWrapper(os.fdopen(read, "rb", buffering=0), line_buffering=True)  # pyright: ignore[reportArgumentType]
    try:
        yield write
    finally:
        sys.stdin.close()
        sys.stdin = before
        os.close(write)


def calibrate(arm: Emulator, sort: Sort, kind: str, name: str, folder: Path) -> Any:
    """Run lerobot's own calibration of an arm, moved by hand; leaves the file in ``folder``, the port closed."""
    device = make(sort, kind, {"port": arm.port, "id": name, "calibration_dir": folder})
    bus = buses(device)[""]
    write = bus._write  # lerobot's calibration asks nothing twice
    bus._write = lambda *args, **more: write(*args, **more | {"num_retry": 5})
    bus.connect()

    def operator(terminal: int) -> None:
        arm.hand(MIDDLE)
        os.write(terminal, b"\n")  # it is in the middle of its range
        wait_for(lambda: len(seen) > 0)
        for end in range(2):
            arm.hand({motor: REACH[motor - 1][end] for motor in MIDDLE})
            count = len(seen)
            wait_for(lambda count=count: len(seen) > count + 2)
        arm.hand(MIDDLE)
        os.write(terminal, b"\n")  # the ranges are recorded

    seen: list[dict] = []
    read = bus.sync_read

    def sync_read(name: str, *args: Any, **kwargs: Any) -> dict:
        values = read(name, *args, **kwargs)
        if kwargs.get("num_retry") == 5:  # the reading of ranges
            seen.append(values)
        return values

    bus.sync_read = sync_read
    with typed() as terminal:
        hand = threading.Thread(target=operator, args=(terminal,), daemon=True)
        hand.start()
        device.calibrate()
        hand.join()
    bus.disconnect()
    return device


def wait_for(happened: Any, within_s: float = 30.0) -> None:
    until = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError("it did not happen")
        time.sleep(0.005)
