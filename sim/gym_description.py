"""What a Gymnasium environment's numbers and pictures mean: one small TOML file each, in ``sim/gym_envs/`` or anywhere.

::

    env = "Meta-World/MT1"        imports = ["metaworld"]       what gymnasium.make is asked for, and who registers it
    seed_by = "reset"             "make" where a seed given to reset() does not decide the scene
    success = "success"           key of info that says that the task is solved; or "terminated"
    max_steps = 200
    [make]                        further arguments of gymnasium.make
    [tasks]                       push = { instruction = "push the puck", make = { env_name = "push-v3" } }
    [[state]]                     key = "agent_pos" (none: the observation), first = 0, channels = [{ name, unit, ... }]
    [action]                      mode, frame, rate, channels, and rotation or gripper where there are such channels
    [[cameras]]                   name, from = "render" or a key such as "pixels/top", height, width, role, orientation
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from vla.embodiment import EmbodimentSpec, Kind, Orientation, Role, Unit
from vla.errors import ConfigError, DataError, UnknownName

FOLDER = Path(__file__).parent / "gym_envs"
RENDER = "render"
"""Where a camera's picture comes from if not from the observation."""
TERMINATED = "terminated"


@dataclass(frozen=True)
class DescribedTask:
    """One task: what the policy is told, and what it adds to the arguments of ``gymnasium.make``."""

    instruction: str
    make: dict[str, Any]


@dataclass(frozen=True)
class StatePart:
    """A run of the state: numbers ``first`` to ``first + count`` of the observation's entry ``key`` ("" for itself)."""

    key: str
    first: int
    count: int


@dataclass(frozen=True)
class GymDescription:
    """A Gymnasium environment as a body.

    Attributes:
        name: of the file; the benchmark's only suite.
        env: id for ``gymnasium.make``.
        imports: modules that register it.
        extra: of this package, which installs it; empty if it has none.
        make: arguments of ``gymnasium.make``.
        seed_by: which of ``reset`` and ``make`` is given the scene's seed.
        success: key of ``info``, or ``"terminated"``.
        max_steps: control steps of an episode.
        tasks: by name.
        parts: where the state's numbers are, in order.
        pictures: camera name to key of the observation, its levels joined by ``/``, or ``"render"``.
        spec: the embodiment.
    """

    name: str
    env: str
    imports: tuple[str, ...]
    extra: str
    make: dict[str, Any]
    seed_by: str
    success: str
    max_steps: int
    tasks: dict[str, DescribedTask]
    parts: tuple[StatePart, ...]
    pictures: dict[str, str]
    spec: EmbodimentSpec


def known() -> tuple[str, ...]:
    """Names of the descriptions that come along."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def read(description: str) -> GymDescription:
    """By name, or from a file whose name ends in ``.toml``.

    Raises:
        UnknownName: there is no such name.
        DataError: the file is missing or says something else than a description does.
    """
    path = Path(description)
    if path.suffix != ".toml":
        if description not in known():
            raise UnknownName("description of a Gymnasium environment", description, known())
        path = FOLDER / f"{description}.toml"
    try:
        value = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(path, "file", expected="a description in TOML", found=str(error)) from error
    try:
        return _parse(path.stem, value)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(path, "description", expected="what sim/gym_description.py lists", found=found) from error


def _parse(name: str, value: dict[str, Any]) -> GymDescription:
    value = dict(value)
    states, action, cameras = value.pop("state"), dict(value.pop("action")), value.pop("cameras")
    spec = EmbodimentSpec.from_json(
        {
            "name": value.pop("robot", name),
            "state": [_channel(channel) for part in states for channel in part["channels"]],
            "state_rotation": value.pop("state_rotation", None),
            "action": {
                "rotation": None,
                "gripper": None,
                **action,
                "channels": list(map(_channel, action["channels"])),
            },
            "cameras": [_camera(camera) for camera in cameras],
        }
    )
    tasks = {
        task: DescribedTask(_text("instruction", entry["instruction"]), dict(entry.get("make", {})))
        for task, entry in value.pop("tasks").items()
    }
    found = GymDescription(
        name=name,
        env=_text("env", value.pop("env")),
        imports=_names("imports", value.pop("imports", [])),
        extra=value.pop("extra", ""),
        make=dict(value.pop("make", {})),
        seed_by=value.pop("seed_by", "reset"),
        success=_text("success", value.pop("success")),
        max_steps=_count("max_steps", value.pop("max_steps"), least=1),
        tasks=tasks,
        parts=tuple(
            StatePart(part.get("key", ""), _count("first", part.get("first", 0), least=0), len(part["channels"]))
            for part in states
        ),
        pictures={camera["name"]: _text("from", camera["from"]) for camera in cameras},
        spec=spec,
    )
    if value:
        raise ConfigError(f"unknown: {', '.join(value)}")
    if found.seed_by not in ("reset", "make") or not tasks:
        raise ConfigError("seed_by is reset or make, and there is a task")
    _one_of("mode", spec.action.mode, ("delta", "absolute"))
    _one_of("frame", spec.action.frame, ("base", "tool", "joint"))
    return found


def _channel(value: dict[str, Any]) -> dict[str, Any]:
    _one_of("unit", value.get("unit", "1"), get_args(Unit))
    _one_of("kind", value.get("kind", "other"), get_args(Kind))
    return value


def _camera(value: dict[str, Any]) -> dict[str, Any]:
    _one_of("role", value.get("role", "other"), get_args(Role))
    _one_of("orientation", value.get("orientation", "upright"), get_args(Orientation))
    return {key: item for key, item in value.items() if key != "from"}


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key} is a text, found {value!r}")
    return value


def _names(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{key} is a list of texts, found {value!r}")
    return tuple(_text(key, name) for name in value)


def _count(key: str, value: Any, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{key} is a whole number from {least} on, found {value!r}")
    return value


def _one_of(key: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{key} {value!r} is none of {', '.join(choices)}")
