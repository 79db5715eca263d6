"""What ``vla eval`` measures: a checkpoint, ours or LeRobot's, a served policy, or any of ``policies/`` by its name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vla.commands.name_value import field_types, make_config, parse_settings
from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.errors import ConfigError, UnknownName
from vla.plugins import open_source, plugin, plugin_names
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
    body: EmbodimentSpec | None = None,
) -> Subject:
    """What a path, an address or a name stands for.

    Args:
        place: folder of a checkpoint or of a training run, or a server's address; otherwise the name of a policy.
        settings: ``name=value`` for a policy by name.
        embodiment: of a checkpoint that has several.
        ode_steps: of a checkpoint's solver.
        device: of a checkpoint's model.
        features: table of a LeRobot policy's features, if it is not beside its weights.
        body: of the simulator, for a policy by name that asks for an embodiment; None for LIBERO's arm.

    Raises:
        ConfigError: settings of the one kind were given for the other, or an embodiment has to be named.
        DataError: the checkpoint is missing or damaged.
    """
    name = str(place)
    if not place.exists() and name in plugin_names("policies"):
        if name == "vla_policy":
            raise ConfigError("a trained policy is named by the folder of its checkpoint")
        factory = NamedPolicy(name, parse_settings(settings, "--set"), body)
        return Subject(name, factory.make().spec, {name: factory})
    if settings:
        raise ConfigError(
            f"--set is for policies by name, and {place} is not one: {', '.join(plugin_names('policies'))}"
        )
    from vla.commands.policy_choice import policy_config
    from vla.policies import vla_policy

    threads = 1 if device == "cpu" else None
    policy = policy_config(
        place, embodiment=embodiment, ode_steps=ode_steps, threads=threads, device=device, features=features
    )
    if not isinstance(policy, vla_policy.Config):
        name = "trained" if place.exists() else "served"
        return Subject(name, policy.make().spec, {name: policy})
    spec = _spec(place, embodiment)
    policy = replace(policy, checkpoint=place.resolve(), embodiment=spec.name)
    variants = {"untrained": replace(policy, untrained=True), "blank": replace(policy, blank_images=True)}
    return Subject("trained", spec, {"trained": policy} | variants)


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
