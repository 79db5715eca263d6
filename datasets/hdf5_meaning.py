"""What the numbers of LIBERO's and robomimic's HDF5 files mean, read from what the files say of their simulator.

Facts, and where they are from:

- Actions in [-1, 1] are scaled by the controller's own ``output_max``; what is outside is cut off first
  (robosuite ``base_controller.py``, ``scale_action``). -1 opens the gripper, +1 closes it.
- Pictures called ``*_rgb`` (LIBERO's ``scripts/create_dataset.py``, and the regenerated sets in its layout) are as
  robosuite gives them: upside down if ``macros.IMAGE_CONVENTION`` is ``opengl``, its default and that of the published
  files, upright if it is ``opencv``; the file says which in ``macros_image_convention``.
- Pictures called ``*_image`` are upright: robomimic turns robosuite's (``envs/env_robosuite.py``, ``get_observation``).
- LIBERO's own files pair each action with what was seen *after* it: ``create_dataset.py`` calls ``env.step(action)``
  and stores the observation that it returns beside that action. Regenerated files (OpenVLA's script) store the one
  before; they lack ``macros_image_convention``, and that tells the two apart.
- LIBERO's ``ee_ori`` is robosuite's ``quat2axisangle``, angles up to 2 pi.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vla.datasets.description import Camera, Column, Description
from vla.embodiment import Channel, Gripper, Orientation, Role, RotationForm
from vla.embodiments.libero_panda import RATE_HZ, STATE, STEP_M, STEP_RAD
from vla.errors import DataError

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Field to type and shape of one step."""

ACTIONS = "actions"
_POSITION, _ROTATION, _FINGERS = STATE[:3], STATE[3:6], STATE[6:]
_QUATERNION = tuple(Channel(name, "1", "rotation") for name in ("qx", "qy", "qz", "qw"))
_STATES: tuple[tuple[tuple[tuple[str, tuple[Channel, ...]], ...], RotationForm], ...] = (
    ((("ee_pos", _POSITION), ("ee_ori", _ROTATION), ("gripper_states", _FINGERS)), "axis_angle_2pi"),
    ((("ee_states", (*_POSITION, *_ROTATION)), ("gripper_states", _FINGERS)), "axis_angle_2pi"),
    (
        (("robot0_eef_pos", _POSITION), ("robot0_eef_quat", _QUATERNION), ("robot0_gripper_qpos", _FINGERS)),
        "quat_xyzw",
    ),
)
"""Fields under ``obs/`` that make a state, LIBERO's and robomimic's."""


@dataclass(frozen=True)
class Meaning:
    """A set of files as they are to be read.

    Attributes:
        description: fields, channels, cameras.
        late: whether an observation was made after the action of its row.
        libero: whether the fixed pictures are LIBERO's: robosuite's turned by 180 degrees.
        low: smallest action that the controller does not cut off, stored numbers.
        high: largest.
    """

    description: Description
    late: bool = False
    libero: bool = False
    low: float = float("-inf")
    high: float = float("inf")


def meaning(attributes: Mapping[str, Any], fields: Shapes, rate: float | None, file: str | Path) -> Meaning:
    """What a file's numbers mean.

    Args:
        attributes: of its group ``data``.
        fields: of its demonstrations.
        rate: of the recorded states [Hz], for files that do not say their control rate.
        file: named in errors.

    Raises:
        DataError: the file does not say it, or the controller is not one whose actions are pose changes.
    """
    environment = _environment(attributes, file)
    libero = is_libero(attributes, fields)
    if libero and not environment:
        scale, robot, rate = (
            (STEP_M,) * 3 + (STEP_RAD,) * 3,
            "Panda",
            RATE_HZ,
        )  # regenerated: nothing but LIBERO's names
    else:
        scale, robot = _controller(environment, file), _robot(environment, file)
        rate = float(environment.get("control_freq") or rate or 0) or (RATE_HZ if libero else None)
    if rate is None:
        raise _untold(file, "control_freq", "the control rate", "neither that nor the times of two states")
    if fields[ACTIONS][1] != (7,):
        raise _untold(file, ACTIONS, "7 numbers a step: pose change and gripper", f"shape {fields[ACTIONS][1]}")
    same = robot == "Panda" and rate == RATE_HZ and scale == (STEP_M,) * 3 + (STEP_RAD,) * 3
    names = {"Panda": "panda"} | ({"LIBERO": "libero_panda"} if same and libero else {})
    state, form = _state(fields) if robot == "Panda" else ((), None)
    description = Description(
        names=(),
        robot=names.get("LIBERO") or f"robosuite_{robot.lower()}",
        rate=rate,
        instruction="",
        source="the file's own env_info or env_args",
        state=state,
        state_rotation=form,
        action=(Column(ACTIONS, _action(scale)),),
        mode="delta",
        frame="base",
        action_rotation="axis_angle",
        gripper=Gripper(closed=1.0, opened=-1.0),
        cameras=_cameras(fields, attributes),
    )
    late = libero and "macros_image_convention" in attributes
    return Meaning(description.checked(), late, libero, -1.0, 1.0)


def is_libero(attributes: Mapping[str, Any], fields: Collection[str]) -> bool:
    """Whether LIBERO made the files, or something that uses its names."""
    ours = ("problem_info", "bddl_file_name", "bddl_file_content", "macros_image_convention")
    return any(name in attributes for name in ours) or {"obs/agentview_rgb", "obs/ee_ori"} <= set(fields)


def instruction_of(attributes: Mapping[str, Any], fields: Collection[str], file: str | Path) -> str:
    """What the robot was told, from its problem, its BDDL text or, for LIBERO, the file's name; else empty.

    Raises:
        DataError: ``problem_info`` is not JSON.
    """
    problem = _json(attributes.get("problem_info", "{}"), file, "problem_info")
    said = problem.get("language_instruction", "")
    text = " ".join(map(str, said)) if isinstance(said, list) else str(said)
    if not text:
        found = re.search(r"\(:language\s+([^()]*)\)", str(attributes.get("bddl_file_content", "")))
        text = found.group(1) if found else ""
    if not text and is_libero(attributes, fields):
        stem = re.sub(r"(_demo)?(_\d+)?$", "", Path(file).stem)
        text = re.sub(r"^([A-Z][A-Z0-9]*_)+", "", f"{stem}_").strip("_").replace("_", " ")
    return " ".join(text.strip().strip('"').split())


def without_observations(found: Meaning) -> Meaning:
    """Actions only: what was seen is to be made anew from the simulator's states."""
    return replace(found, description=replace(found.description, state=(), state_rotation=None, cameras=()), late=False)


def _environment(attributes: Mapping[str, Any], file: str | Path) -> dict[str, Any]:
    """Arguments of the simulator's environment, robomimic's ``env_args`` or robosuite's and LIBERO's ``env_info``."""
    for name in ("env_args", "env_info"):
        if name in attributes:
            value = _json(attributes[name], file, name)
            inner = value.get("env_kwargs", value)
            return inner if isinstance(inner, dict) else {}
    return {}


def _controller(environment: Mapping[str, Any], file: str | Path) -> tuple[float, ...]:
    """What 1 stands for in each of the six motion numbers [m, rad]."""
    config = environment.get("controller_configs")
    config = config[0] if isinstance(config, list) and len(config) == 1 else config
    if isinstance(config, dict) and isinstance(config.get("body_parts"), dict):  # robosuite 1.5
        config = config["body_parts"].get("right")
    if not isinstance(config, dict):
        raise _untold(file, "controller_configs", "one arm's controller", repr(config)[:80])
    delta = config.get("control_delta", config.get("input_type", "delta") == "delta")
    frame = config.get("input_ref_frame", "base")
    if config.get("type") != "OSC_POSE" or delta is not True or frame != "base":
        found = f"{config.get('type')}, {'pose changes' if delta else 'absolute poses'} in the {frame} frame"
        raise _untold(file, "controller_configs", "OSC_POSE with pose changes in the base frame", found)
    six = [_six(config.get(name), file, name) for name in ("input_min", "input_max", "output_min", "output_max")]
    if any(values != tuple(-value for value in six[place + 1]) for place, values in ((0, six[0]), (2, six[2]))):
        raise _untold(file, "controller_configs", "limits that are alike in both directions", str(six))
    if six[1] != (1.0,) * 6 or min(six[3]) <= 0:
        raise _untold(file, "controller_configs", "actions in [-1, 1] and positive output limits", str(six[1::2]))
    return six[3]


def _six(value: Any, file: str | Path, name: str) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value] * 6
    if len(values) != 6 or any(isinstance(one, bool) or not isinstance(one, int | float) for one in values):
        raise _untold(file, f"controller_configs: {name}", "one or six numbers", repr(value)[:80])
    return tuple(float(one) for one in values)


def _robot(environment: Mapping[str, Any], file: str | Path) -> str:
    robots = environment.get("robots")
    robots = [robots] if isinstance(robots, str) else robots
    if not isinstance(robots, list) or len(robots) != 1 or not isinstance(robots[0], str):
        raise _untold(file, "robots", "one robot", repr(robots)[:80])
    return robots[0]


def _action(scale: tuple[float, ...]) -> tuple[Channel, ...]:
    """As :data:`vla.embodiments.libero_panda.RAW_ACTION`, with the controller's own scales."""
    names = ("dx", "dy", "dz", "drx", "dry", "drz")
    motion = (
        Channel(name, "m", "position", -one, one, scale=one)
        if place < 3
        else Channel(name, "rad", "rotation", -one, one, scale=one)
        for place, (name, one) in enumerate(zip(names, scale, strict=True))
    )
    return (*motion, Channel("gripper", "1", "gripper", -1.0, 1.0))


def _state(fields: Shapes) -> tuple[tuple[Column, ...], RotationForm | None]:
    for parts, form in _STATES:
        if all(fields.get(f"obs/{name}", ("", ()))[1] == (len(channels),) for name, channels in parts):
            return tuple(Column(f"obs/{name}", channels) for name, channels in parts), form
    return (), None


def _cameras(fields: Shapes, attributes: Mapping[str, Any]) -> tuple[Camera, ...]:
    opengl = attributes.get("macros_image_convention", "opengl") == "opengl"
    cameras = []
    for field, (dtype, shape) in fields.items():
        found = re.fullmatch(r"obs/(\w+)_(rgb|image)", field)
        if not found or dtype != "|u1" or len(shape) != 3 or shape[2] != 3:
            continue
        name = {"eye_in_hand": "robot0_eye_in_hand"}.get(found[1], found[1])
        orientation: Orientation = "flipped" if found[2] == "rgb" and opengl else "upright"
        role: Role = {"agentview": "primary", "robot0_eye_in_hand": "wrist"}.get(name, "secondary")  # type: ignore[assignment]
        cameras.append(Camera(name, field, role, orientation))
    return tuple(sorted(cameras, key=lambda camera: (camera.role != "primary", camera.role != "wrist", camera.name)))


def _json(text: Any, file: str | Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(file, f"data, attribute {name}", expected="JSON", found=str(error)) from error
    if not isinstance(value, dict):
        raise DataError(file, f"data, attribute {name}", expected="a JSON object", found=type(value).__name__)
    return value


def _untold(file: str | Path, field: str, expected: str, found: str) -> DataError:
    return DataError(file, field, expected=f"{expected}; or say what the numbers mean with --description", found=found)
