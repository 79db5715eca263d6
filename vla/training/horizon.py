"""Windows must have as many actions as the model answers with."""

from vla.errors import ConfigError


def check_horizon(found: int, horizon: int) -> None:
    """Raise ConfigError unless windows have as many actions as the model's horizon."""
    if found != horizon:
        raise ConfigError(f"windows hold {found} actions; the model's horizon is {horizon}")
