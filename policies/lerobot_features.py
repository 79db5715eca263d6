"""What a LeRobot policy's features mean, said by whoever knows: a JSON table, and nothing is guessed.

::

    {"embodiment": {...},                                    EmbodimentSpec.to_json() of the data it was trained on
     "images":  {"observation.images.top": "agentview"},     feature: camera of the embodiment
     "state":   {"observation.state": ["x", "y", "z"]},      feature: its numbers' state channels, in order
     "action":  ["dx", "dy", "dz", "gripper"]}               action channels in the order of LeRobot's vector

The policy's own config says which features it has and how large they are; both must agree.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, DataError
from vla.experience import Observation
from vla.files import write_text

FILE = "vla_features.json"
"""Beside the weights."""

ACTION = "action"


@dataclass(frozen=True)
class Features:
    """The table, read; see the module's docstring.

    Attributes:
        spec: of the data that the policy was trained on.
        images: feature to camera.
        state: feature to channels.
        action: channels in the order of the policy's vector.
    """

    spec: EmbodimentSpec
    images: Mapping[str, str]
    state: Mapping[str, tuple[str, ...]]
    action: tuple[str, ...]

    def numbers(self, observation: Observation, feature: str) -> Float32[np.ndarray, "n"]:
        """The numbers of a state feature."""
        return observation.state[[self.spec.state_names.index(name) for name in self.state[feature]]]

    def actions(self, rows: Float32[np.ndarray, "h n"]) -> Float32[np.ndarray, "h a"]:
        """The policy's actions in the order of the embodiment's channels."""
        return rows[:, [self.action.index(name) for name in self.spec.action.names]]

    def check(self, inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]], file: Path) -> None:
        """See that the table and the policy's config speak of the same features.

        Args:
            inputs: feature name to shape, pictures as (3, h, w).
            outputs: likewise.
            file: the table's, for messages.

        Raises:
            DataError: a feature is missing, not there, or of another size.
        """
        wanted = {name: f"a picture of 3x{camera.height}x{camera.width}" for name, camera in self._cameras().items()}
        wanted |= {name: f"{len(channels)} numbers" for name, channels in self.state.items()}
        found = {name: _said(shape) for name, shape in inputs.items()}
        for name in sorted({*wanted, *found}):
            if wanted.get(name) != found.get(name):
                raise DataError(
                    file, name, expected=found.get(name, "no such feature"), found=wanted.get(name, "nothing")
                )
        if outputs != {ACTION: (len(self.action),)}:
            raise DataError(
                file, ACTION, expected=f"channels for {dict(outputs)}", found=f"{len(self.action)} channels"
            )

    def write(self, path: Path) -> None:
        """Write the table."""
        table = {"images": dict(self.images), "state": self.state, "action": self.action}
        write_text(path, json.dumps({"embodiment": self.spec.to_json(), **table}, indent=1))

    def _cameras(self) -> dict[str, Any]:
        return {feature: self.spec.camera(name) for feature, name in self.images.items()}


def read_features(path: Path) -> Features:
    """The table in a file.

    Raises:
        DataError: it cannot be read, a field is missing or malformed, or it names what the embodiment does not have.
    """
    try:
        table = json.loads(path.read_text())
    except OSError as error:
        hint = f"a table of the policy's features (see {Path(__file__).name})"
        raise DataError(path, "file", expected=hint, found=str(error.strerror)) from error
    except ValueError as error:
        raise DataError(path, "file", expected="JSON", found=str(error)) from error
    fields = {"embodiment": dict, "images": dict, "state": dict, "action": list}
    if not isinstance(table, dict) or set(table) != set(fields):
        found = ", ".join(sorted(table)) if isinstance(table, dict) else type(table).__name__
        raise DataError(path, "fields", expected=", ".join(fields), found=found)
    for name, kind in fields.items():
        if not isinstance(table[name], kind):
            raise DataError(path, name, expected=kind.__name__, found=type(table[name]).__name__)
    try:
        spec = EmbodimentSpec.from_json(table["embodiment"])
    except ConfigError as error:
        raise DataError(path, "embodiment", expected="EmbodimentSpec.to_json()", found=str(error)) from error
    state = {feature: _names(path, feature, value, spec.state_names) for feature, value in table["state"].items()}
    _names(path, "state", [name for names in state.values() for name in names], spec.state_names)
    _names(path, "images", list(table["images"].values()), spec.camera_names)
    action = _names(path, ACTION, table["action"], spec.action.names)
    if missing := sorted(set(spec.action.names) - set(action)):
        raise DataError(
            path, ACTION, expected=f"all of {', '.join(spec.action.names)}", found=f"no {', '.join(missing)}"
        )
    return Features(spec, table["images"], state, action)


def _names(path: Path, field: str, value: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    """A list of distinct known names."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise DataError(path, field, expected="a list of names", found=str(value)[:80])
    wrong = [name for name in value if name not in known] or [name for name in value if value.count(name) > 1]
    if wrong:
        raise DataError(path, field, expected=f"each once, of {', '.join(known)}", found=wrong[0])
    return tuple(value)


def _said(shape: tuple[int, ...]) -> str:
    if len(shape) == 3:
        return f"a picture of {'x'.join(map(str, shape))}"
    return f"{shape[0]} numbers" if len(shape) == 1 else f"shape {shape}"
