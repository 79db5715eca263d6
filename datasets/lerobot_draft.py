"""What a LeRobot data set says about its numbers, for people: a list, and the draft of a description to fill in.

A draft has ``"?"`` wherever the files do not say what something means (unit, rotation form, gripper, orientation of
pictures); it does not read as a description until a person has replaced each of them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vla.datasets.description import STANDARD
from vla.datasets.lerobot_info import Feature, Info, read_info, read_json

MODALITY_FILE = Path("meta/modality.json")
VERSIONS = ("v2.0", "v2.1", "v3.0")
_BOOKKEEPING = {"timestamp", "frame_index", "episode_index", "index", "task_index", "time"}
_OPEN = "?"
_SHOWN = 16  # names of numbers in the list


def features_text(info: Info) -> str:
    """Features with shapes and names, and GR00T's groups where there are any, one a line."""
    lines = []
    for feature in info.features.values():
        if feature.name in _BOOKKEEPING:
            continue
        shape = "x".join(map(str, feature.shape)) or "1"
        names = ", ".join(feature.names[:_SHOWN]) + (", ..." if len(feature.names) > _SHOWN else "")
        lines.append(f"  {feature.name} ({feature.dtype}, {shape})" + (f": {names}" if names else ""))
    for part, groups in _modality(info).items():
        for name, group in groups.items():
            if "start" in group:
                lines.append(f"  {MODALITY_FILE}: {part}.{name} = {_key(part, group)}[{group['start']}:{group['end']}]")
            else:
                lines.append(f"  {MODALITY_FILE}: {part}.{name} = {_key(part, group) or name}")
    return "\n".join(lines)


def draft_description(folder: str | Path) -> str:
    """TOML of a description with ``"?"`` for everything that the files do not say.

    Args:
        folder: a LeRobot data set of any version; its ``meta/`` is enough.

    Raises:
        DataError: info.json or modality.json is damaged.
    """
    info = read_info(Path(folder), VERSIONS)
    robot = info.value.get("robot_type")
    instruction = "task_index" if "task_index" in info.features else ""
    lines = [
        f'# Drafted from {info.folder.name}/meta. Replace each "{_OPEN}"; nothing was guessed.',
        "# A channel is a standard name (x y z, joint_0, gripper, ...) or name:unit:kind with a unit of m, rad, 1,",
        "# m/s, rad/s, N, Nm and a kind of position, rotation, gripper, joint, force, other; _ leaves a number out.",
        f"names = [{_quoted(info.folder.name)}]",
        f"robot = {_quoted(robot if isinstance(robot, str) and robot else _OPEN)}",
        f"rate = {info.fps}",
        f"instruction = {_quoted(instruction)}  # column of the text, or of its number in the table of tasks",
        "",
        "[state]",
        *_rotation(info, "state"),
        "columns = [",
        *_columns(info, "state"),
        "]",
        "",
        "[action]",
        f'mode = "{_OPEN}"  # delta or absolute',
        f'frame = "{_OPEN}"  # base, tool or joint',
        *_rotation(info, "action"),
        f'gripper = "{_OPEN}"  # {{ closed = 0.0, open = 1.0 }} with the two stored numbers; remove if there is none',
        "columns = [",
        *_columns(info, "action"),
        "]",
    ]
    for feature in info.cameras:
        lines += [
            "",
            "[[cameras]]",
            f"name = {_quoted(re.sub(r'^observation[.]images?[.]', '', feature.name))}",
            f"field = {_quoted(feature.name)}  # {'x'.join(map(str, feature.shape))} {feature.dtype}",
            f'role = "{_OPEN}"  # primary, secondary, wrist or other',
            f'orientation = "{_OPEN}"  # upright, mirrored, flipped or turned_180',
        ]
    return "\n".join(lines) + "\n"


def _rotation(info: Info, part: str) -> list[str]:
    forms = {
        name: group["rotation_type"]
        for name, group in _modality(info).get(part, {}).items()
        if "rotation_type" in group
    }
    said = f"; {MODALITY_FILE.name} says {json.dumps(forms)}" if forms else ""
    choices = "axis_angle, axis_angle_2pi, euler_xyz, quat_xyzw or rot6d"
    return [f'rotation = "{_OPEN}"  # {choices}; remove if no channel is a rotation{said}']


def _columns(info: Info, part: str) -> Iterator[str]:
    """Lines of TOML; by the groups of modality.json where there are any, else whole features."""
    groups = _modality(info).get(part, {})
    covered: set[str] = set()
    for name, group in groups.items():
        feature = info.features.get(_key(part, group))
        if feature is None or "start" not in group or not 0 <= group["start"] < group["end"] <= feature.width:
            continue
        covered.add(feature.name)
        size = group["end"] - group["start"]
        stored = feature.names[group["start"] : group["end"]] or [""] * size
        names = [f"{name}_{index}" if not _standard(text) else text for index, text in enumerate(stored)]
        yield _line(feature, part, names, (group["start"], group["end"]))
    for feature in info.features.values():
        if feature.name in covered or feature.name in _BOOKKEEPING or not feature.is_numeric or not feature.width:
            continue
        if _part(feature.name) == part:
            last = feature.name.rpartition(".")[2]
            names = feature.names or [
                last if feature.width == 1 else f"{last}_{index}" for index in range(feature.width)
            ]
            yield _line(feature, part, list(names), None)


def _line(feature: Feature, part: str, names: list[str], take: tuple[int, int] | None) -> str:
    # names may not repeat between state and action, nor hold what separates them
    clean = [re.sub(r"[^\w.-]+", "_", name) or "number" for name in names]
    channels = [name if _standard(name) and part == "action" else f"{part}_{name}:{_OPEN}:{_OPEN}" for name in clean]
    taken = f", take = [{take[0]}, {take[1]}]" if take else ""
    return f"  {{ field = {_quoted(feature.name)}{taken}, channels = {_quoted(' '.join(channels))} }},"


def _part(name: str) -> str:
    if name.startswith("action"):
        return "action"
    return "state" if re.match(r"observation[.](?!images?[.])|state", name) else ""


def _standard(name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern, _, _ in STANDARD)


def _key(part: str, group: dict[str, Any]) -> str:
    key = group.get("original_key")
    return key if isinstance(key, str) else {"state": "observation.state", "action": "action"}.get(part, "")


def _modality(info: Info) -> dict[str, dict[str, dict[str, Any]]]:
    """Groups of GR00T's modality.json by part; empty if there is no such file."""
    path = info.folder / MODALITY_FILE
    if not path.is_file():
        return {}
    value = read_json(path)
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for part, groups in value.items() if isinstance(value, dict) else ():
        for name, group in groups.items() if isinstance(groups, dict) else ():
            ranged = isinstance(group, dict) and all(type(group.get(end)) is int for end in ("start", "end"))
            if isinstance(group, dict) and (ranged or not {"start", "end"} & set(group)):
                result.setdefault(part, {})[name] = group
    return result


def _quoted(text: str) -> str:
    return json.dumps(text)
