"""Packages of Universal Robots' Real-Time Data Exchange, version 2: their header, variables' types and layouts.

Protocol: Universal Robots, "Real-Time Data Exchange (RTDE) Guide". Numbers are big-endian.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MAX_PACKAGE = 4096
_SIZES = {"BOOL": "?", "UINT8": "B", "UINT32": "I", "UINT64": "Q", "INT32": "i", "DOUBLE": "d"}
_VECTORS = {"VECTOR3D": "3d", "VECTOR6D": "6d", "VECTOR6INT32": "6i", "VECTOR6UINT32": "6I"}
_FORMATS = _SIZES | _VECTORS

TYPES: dict[str, str] = {
    **dict.fromkeys(("timestamp", "actual_execution_time", "speed_scaling", "target_speed_fraction"), "DOUBLE"),
    **dict.fromkeys(
        ("actual_momentum", "actual_main_voltage", "actual_robot_voltage", "actual_robot_current"), "DOUBLE"
    ),
    **dict.fromkeys(("payload", "speed_slider_fraction"), "DOUBLE"),
    **{f"standard_analog_{way}put{port}": "DOUBLE" for way in ("in", "out") for port in "01"},
    **{f"standard_analog_output_{port}": "DOUBLE" for port in "01"},
    **{f"{kind}_{each}": "VECTOR6D" for kind in ("target", "actual") for each in ("q", "qd", "current")},
    **{f"{kind}_TCP_{each}": "VECTOR6D" for kind in ("target", "actual") for each in ("pose", "speed")},
    **dict.fromkeys(("target_qdd", "target_moment", "joint_control_output", "actual_TCP_force"), "VECTOR6D"),
    **dict.fromkeys(("joint_temperatures", "actual_joint_voltage", "ft_raw_wrench", "payload_inertia"), "VECTOR6D"),
    "external_force_torque": "VECTOR6D",
    **dict.fromkeys(("actual_tool_accelerometer", "payload_cog"), "VECTOR3D"),
    "joint_mode": "VECTOR6INT32",
    **dict.fromkeys(("robot_mode", "safety_mode"), "INT32"),
    **dict.fromkeys(("actual_digital_input_bits", "actual_digital_output_bits"), "UINT64"),
    **dict.fromkeys(("runtime_state", "robot_status_bits", "safety_status_bits", "speed_slider_mask"), "UINT32"),
    **{
        f"{bank}_digital_output{mask}": "UINT8"
        for bank in ("standard", "configurable", "tool")
        for mask in ("", "_mask")
    },
    **dict.fromkeys(("standard_analog_output_mask", "standard_analog_output_type"), "UINT8"),
    **{f"{way}put_int_register_{i}": "INT32" for way in ("in", "out") for i in range(48)},
    **{f"{way}put_double_register_{i}": "DOUBLE" for way in ("in", "out") for i in range(48)},
}


def encode(kind: str, payload: bytes = b"") -> bytes:
    """One RTDE package: its size, its kind and its content."""
    return struct.pack(">HB", len(payload) + 3, ord(kind)) + payload


def names_in(data: bytes) -> list[str]:
    """Of a list with commas.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    return [name for name in data.decode("ascii").split(",") if name]


def types_of(names: Sequence[str]) -> bytes:
    """A list with commas of the variables' types; ``NOT_FOUND`` for what does not exist."""
    return ",".join(TYPES.get(name, "NOT_FOUND") for name in names).encode()


def packed(names: Sequence[str], values: Mapping[str, Any]) -> bytes:
    """Values one after the other; what has none is 0, what does not exist takes no room."""
    out = b""
    for name in names:
        if name in TYPES:
            layout = _FORMATS[TYPES[name]]
            numbers = np.atleast_1d(values.get(name, np.zeros(int(layout[:-1] or 1))))
            out += struct.pack(">" + layout, *(numbers.tolist() if "d" in layout else map(int, numbers)))
    return out


def unpacked(names: Sequence[str], body: bytes) -> list[tuple[Any, ...]]:
    """The numbers of each variable.

    Raises:
        ValueError: the length does not fit, or a variable does not exist.
    """
    if missing := [name for name in names if name not in TYPES]:
        raise ValueError(f"no variable {missing[0]}")
    layouts = [">" + _FORMATS[TYPES[name]] for name in names]
    if sum(map(struct.calcsize, layouts)) != len(body):
        raise ValueError(f"{len(body)} bytes for {', '.join(names)}")
    values, start = [], 0
    for layout in layouts:
        values.append(struct.unpack_from(layout, body, start))
        start += struct.calcsize(layout)
    return values
