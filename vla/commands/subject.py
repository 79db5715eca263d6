"""What ``vla eval`` measures: a policy, by where it is or by its name, and its variants."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vla.commands.name_value import parse_settings
from vla.commands.named_policy import NamedPolicy
from vla.commands.policy_choice import opened, policy_config
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, UnknownName


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
        ConfigError: an option does not go with that kind of policy, or an embodiment has to be named.
        DataError: the checkpoint is missing or damaged.
    """
    policy = policy_config(
        place,
        settings=parse_settings(settings, "--set"),
        body=body,
        embodiment=embodiment,
        ode_steps=ode_steps,
        threads=1 if device == "cpu" else None,
        device=device,
        features=features,
    )
    if isinstance(policy, NamedPolicy):
        with opened(policy) as made:
            return Subject(policy.name, made.spec, {policy.name: policy})
    from vla.policies import vla_policy

    if not isinstance(policy, vla_policy.Config):
        name = "trained" if place.exists() else "served"
        with opened(policy) as made:  # whoever measures connects by itself
            return Subject(name, made.spec, {name: policy})
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
