"""A policy of ``policies/`` by its name and settings, for what needs no checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.commands.name_value import field_types, make_config
from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.plugins import open_source, plugin
from vla.protocols import EpisodeSource, Policy

CAMERA_SIZE = 128
"""Of policies that do not say [pixels]."""


@dataclass(frozen=True)
class NamedPolicy:
    """A policy of the ``policies/`` folder by its name.

    Attributes:
        name: of the file.
        settings: fields of its ``Config`` and their values; an episode source is given by its path.
        body: the embodiment, if it asks for one; None for LIBERO's arm.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()
    body: EmbodimentSpec | None = None

    def make(self) -> Policy:
        """The policy.

        Raises:
            ConfigError: its ``Config`` has no such field, lacks one, or a value is of another kind.
        """
        owner, config = f"policy {self.name}", plugin("policies", self.name).Config
        hints = field_types(config, owner, (name for name, _ in self.settings))
        body = self.body or libero_panda(CAMERA_SIZE)
        given: dict[str, Any] = {name: body for name, hint in hints.items() if hint is EmbodimentSpec}
        for name, value in self.settings:
            made: dict[Any, Any] = {EpisodeSource: open_source, Path: Path}
            given[name] = made.get(hints[name], lambda same: same)(value)
        return make_config(config, owner, given, "--set").make()
