"""What ``vla eval`` measures: a checkpoint, ours or LeRobot's, a served policy, or any of ``policies/`` by its name."""

import json
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from vla.commands.policy_choice import opened, policy_config
from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, UnknownName
from vla.plugins import open_source, plugin, plugin_names
from vla.protocols import EpisodeSource, Policy

CAMERA_SIZE = 128
"""Of policies that do not say [pixels]."""


@dataclass(frozen=True)
class NamedPolicy:
    """A policy of the ``policies/`` folder for LIBERO's arm.

    Attributes:
        name: of the file.
        settings: fields of its ``Config`` and their values; an episode source is given by its path.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()

    def make(self) -> Policy:
        """The policy; an embodiment that it asks for is LIBERO's arm.

        Raises:
            ConfigError: its ``Config`` has no such field, or lacks one.
        """
        config: Any = plugin("policies", self.name).Config
        hints = typing.get_type_hints(config)
        known = [field.name for field in fields(config)]
        given: dict[str, Any] = {name: libero_panda(CAMERA_SIZE) for name in known if hints[name] is EmbodimentSpec}
        for name, value in self.settings:
            if name not in known:
                raise UnknownName(f"setting of {self.name}", name, known)
            made: dict[Any, Any] = {EpisodeSource: open_source, Path: Path}
            given[name] = made.get(hints[name], lambda same: same)(value)
        try:
            return config(**given).make()
        except TypeError as error:
            raise ConfigError(f"policy {self.name}: {error}; give it with --set NAME=VALUE") from error


@dataclass(frozen=True)
class Subject:
    """A policy to measure.

    Attributes:
        name: of the policy in results: ``trained``, ``served`` or its own.
        spec: of the policy.
        factories: makes it, under that name, and its variants.
    """

    name: str
    spec: EmbodimentSpec
    factories: dict[str, Any]


def find_subject(
    place: Path,
    settings: Sequence[str],
    *,
    embodiment: str | None,
    ode_steps: int | None,
    device: str,
    features: Path | None = None,
) -> Subject:
    """What a path, an address or a name stands for.

    Args:
        place: folder of a checkpoint or of a training run, or a server's address; otherwise the name of a policy.
        settings: ``name=value`` for a policy by name.
        embodiment: of a checkpoint that has several.
        ode_steps: of a checkpoint's solver.
        device: of a checkpoint's model.
        features: table of a LeRobot policy's features, if it is not beside its weights.

    Raises:
        ConfigError: settings of the one kind were given for the other, or an embodiment has to be named.
        DataError: the checkpoint is missing or damaged.
    """
    name = str(place)
    if not place.exists() and name in plugin_names("policies"):
        if name == "vla_policy":
            raise ConfigError("a trained policy is named by the folder of its checkpoint")
        factory = NamedPolicy(name, tuple(_setting(text) for text in settings))
        with opened(factory) as made:
            return Subject(name, made.spec, {name: factory})
    if settings:
        raise ConfigError(
            f"--set is for policies by name, and {place} is not one: {', '.join(plugin_names('policies'))}"
        )
    from vla.policies import vla_policy

    threads = 1 if device == "cpu" else None
    policy = policy_config(
        place, embodiment=embodiment, ode_steps=ode_steps, threads=threads, device=device, features=features
    )
    if not isinstance(policy, vla_policy.Config):
        name = "trained" if place.exists() else "served"
        with opened(policy) as made:  # whoever measures connects by itself
            return Subject(name, made.spec, {name: policy})
    spec = _spec(place, embodiment)
    policy = replace(policy, checkpoint=place.resolve(), embodiment=spec.name)
    variants = {"untrained": replace(policy, untrained=True), "blank": replace(policy, blank_images=True)}
    return Subject("trained", spec, {"trained": policy} | variants)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set {text!r}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _spec(place: Path, embodiment: str | None) -> EmbodimentSpec:
    """Of the policy, as the checkpoint has it."""
    from vla.model.checkpoint import embodiments

    specs = {spec.name: spec for spec in embodiments(place)}
    if embodiment is None and len(specs) > 1:
        raise ConfigError(f"{place} knows {', '.join(specs)}: choose one with --embodiment")
    name = embodiment or next(iter(specs))
    if name not in specs:
        raise UnknownName("embodiment of the checkpoint", name, specs)
    return specs[name]
