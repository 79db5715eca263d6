"""A policy by where it is (a checkpoint of ours, one of LeRobot's, a server) or by name; how chunks are executed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from vla.asynchronous import asynchronous, asynchronous_ensembling, realtime
from vla.chunking import MakeExecutor, synchronous
from vla.commands.named_policy import NamedPolicy
from vla.embodiment import EmbodimentSpec
from vla.errors import ConfigError, UnknownName
from vla.plugins import plugin_names
from vla.protocols import Policy

Chunking = Literal["synchronous", "asynchronous", "ensemble", "realtime"]


class PolicyConfig(Protocol):
    """A frozen dataclass of settings that makes a policy, also in another process."""

    def make(self) -> Policy:
        """The policy."""
        ...


@runtime_checkable
class Closable(Protocol):
    """A policy that holds something beyond this process: a connection."""

    def close(self) -> None:
        """Give it back."""
        ...


def policy_config(
    where: str | Path,
    *,
    settings: Sequence[tuple[str, Any]] = (),
    body: EmbodimentSpec | None = None,
    embodiment: str | None = None,
    threads: int | None = None,
    features: Path | None = None,
    certificate: Path | None = None,
    device: str = "cpu",
    **options: Any,
) -> PolicyConfig:
    """The settings of the policy at a place.

    Args:
        where: folder of a checkpoint or a run, ``ws://host:port`` (``wss://``), or the name of a file in ``policies/``.
        settings: fields of the ``Config`` of a policy by name.
        body: embodiment of a policy by name that asks for one; None for LIBERO's arm.
        embodiment: of the checkpoint, if it has several.
        threads: of torch; None leaves them. A server has its own.
        features: table of a LeRobot policy's features, if it is not beside its weights.
        certificate: of who signed a server's, if that is nobody known.
        device: of the model. A server has its own.
        options: further fields of :class:`vla.policies.vla_policy.Config`, None where nothing was said; only
            checkpoints of ours have them.

    Raises:
        ConfigError: an option does not go with that kind of policy.
        UnknownName: it is one word, and neither a folder nor the name of a policy.
    """
    name, path = str(where), Path(where)
    if name in plugin_names("policies") and not path.exists():
        if name == "vla_policy":
            raise ConfigError("a trained policy is named by the folder of its checkpoint")
        given = {"embodiment": embodiment, "features": features, "certificate": certificate}
        _none(where, "a policy by name", **given, **options)
        return NamedPolicy(name, tuple(settings), body)
    if settings:
        raise ConfigError(
            f"--set is for policies by name, and {where} is not one: {', '.join(plugin_names('policies'))}"
        )
    if name.startswith(("ws:", "wss:")):
        from vla.policies import remote

        _none(where, "a server's policy", embodiment=embodiment, features=features, **options)
        address = name.replace(":/", "://", 1) if "://" not in name else name  # Path takes a slash
        return remote.Config(address, certificate=certificate)
    if certificate is not None:
        raise ConfigError(f"{path}: a certificate goes with the address of a server (wss://)")
    from vla.policies import lerobot_policy, vla_policy

    if lerobot_policy.is_checkpoint(path):
        _none(path, "a LeRobot policy", embodiment=embodiment, **options)
        return lerobot_policy.Config(path, features=features, threads=threads, device=device)
    if len(path.parts) == 1 and not path.exists():  # neither a folder nor a name
        raise UnknownName("checkpoint, or policy by name,", name, plugin_names("policies"))
    _none(path, "a checkpoint of ours", features=features)
    said = {name: value for name, value in options.items() if value is not None}
    return vla_policy.Config(path, embodiment=embodiment, threads=threads, device=device, **said)


@contextmanager
def opened(config: PolicyConfig) -> Iterator[Policy]:
    """The policy that the settings make; its connection, if it has one, ends with the block.

    A server that has one place only keeps others out until then.
    """
    policy = config.make()
    try:
        yield policy
    finally:
        if isinstance(policy, Closable):
            policy.close()


def executor(chunking: Chunking, execute: int) -> MakeExecutor:
    """The way to execute chunks that a name stands for.

    Args:
        chunking: the name.
        execute: actions of each chunk before the next one is asked for; an ensemble asks as often as it is answered.
    """
    if chunking == "synchronous":
        return synchronous(execute)
    if chunking == "asynchronous":
        return asynchronous(execute)
    return realtime(execute) if chunking == "realtime" else asynchronous_ensembling()


def _none(where: str | Path, kind: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{where} is {kind}: it has no option {name}")
