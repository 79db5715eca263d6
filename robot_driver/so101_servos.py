"""The six servos of an SO-100 or SO-101: where their joints end, and how lerobot writes down their calibration."""

import json
import math
from pathlib import Path

from vla.embodiments.so101 import GRIPPER, GRIPPER_TRAVEL, JOINTS
from vla.files import write_text
from vla.robot_driver.feetech_servo import HOMING_OFFSET, MAX_LIMIT, MIN_LIMIT, RESOLUTION, Servo

_TICKS = RESOLUTION / (2.0 * math.pi)  # per radian
_MIDDLE = RESOLUTION / 2.0

MOTORS = (*JOINTS, GRIPPER)
"""By their ids, from 1 on."""

REACH = (
    *((_MIDDLE + low * _TICKS, _MIDDLE + high * _TICKS) for low, high in list(JOINTS.values())[:-1]),
    (0.0, RESOLUTION - 1.0),  # the wrist turns without an end
    (_MIDDLE, _MIDDLE + GRIPPER_TRAVEL * _TICKS),
)
"""Mechanical ends of each joint by its bare encoder [ticks]: assembled so that the middle is the encoder's."""


def so101() -> list[Servo]:
    """Servos with ids 1 to 6 in the middle of their ranges, not calibrated."""
    return [Servo(number, position=(low + high) / 2, reach=(low, high)) for number, (low, high) in enumerate(REACH, 1)]


def calibrate(servos: list[Servo], file: Path) -> None:
    """Calibrate servos as lerobot would, and write the file that lerobot reads.

    Args:
        servos: of :func:`so101`.
        file: ``NAME.json`` in a folder of calibrations.
    """
    table = {}
    for name, servo in zip(MOTORS, servos, strict=True):
        low, high = math.ceil(servo.reach[0]), math.floor(servo.reach[1])
        for register, value in ((HOMING_OFFSET, 0), (MIN_LIMIT, low), (MAX_LIMIT, high)):
            servo.set(register, value)
        table[name] = {
            "id": servo.number,
            "drive_mode": 0,
            "homing_offset": 0,
            "range_min": low,
            "range_max": high,
        }
    write_text(file, json.dumps(table, indent=4))
