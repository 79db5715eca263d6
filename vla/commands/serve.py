"""``vla serve``: a policy behind a websocket, for openpi's clients and for ``vla eval`` and ``vla rollout``."""

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from vla.errors import ConfigError


@dataclass(frozen=True)
class Serve:
    """Serve a policy to clients on this machine or, with a token, on others. Ctrl-C ends it."""

    checkpoint: Positional[Path]
    """A training run's folder, one of its checkpoints, a LeRobot policy's folder, or a policy's name, e.g. hold."""
    host: str = "127.0.0.1"
    """Address to listen on. Beyond this machine it needs a token: in the environment as VLA_TOKEN, or --token-file."""
    port: int = 8000
    """Port; 0 for any that is free."""
    token_file: Path | None = None
    """File with the token that clients must send."""
    certificate: Path | None = None
    """PEM file; with --key clients connect by wss://."""
    key: Path | None = None
    """PEM file of the certificate's key."""
    open_to_all: bool = False
    """Listen beyond this machine without a token."""
    max_clients: int = 64
    """Connections at a time."""
    max_batch: int = 8
    """Questions of several clients that are answered together; 1: one client, answered bit for bit as if local."""
    embodiment: str | None = None
    """Which of the checkpoint's embodiments to be, if it has several."""
    features: Path | None = None
    """Of a LeRobot policy: the table of its features, if it is not beside the weights."""
    ode_steps: int | None = None
    """Steps of the flow, instead of the policy's own."""
    device: str = "cpu"
    """cpu or cuda."""
    seed: int = 0
    """Of the noise of clients that send none."""

    def run(self, console: Console) -> dict[str, Any]:
        """Serve until Ctrl-C or SIGTERM."""
        from vla.commands.policy_choice import opened, policy_config
        from vla.episode_worker import Fingerprinted
        from vla.policies.remote import TOKEN_VARIABLE
        from vla.serving import PolicyServer
        from vla.serving_options import ServerOptions

        token = _read_token(self.token_file) if self.token_file else os.environ.get(TOKEN_VARIABLE)
        options = ServerOptions(
            host=self.host,
            port=self.port,
            token=token,
            certificate=self.certificate,
            key=self.key,
            open_to_all=self.open_to_all,
            max_clients=self.max_clients,
            max_batch=self.max_batch,
            seed=self.seed,
        )
        options.tls()  # what cannot be used is said before weights are read
        config = policy_config(
            self.checkpoint,
            embodiment=self.embodiment,
            features=self.features,
            device=self.device,
            ode_steps=self.ode_steps,
        )
        address: list[str] = []
        with opened(config) as policy:
            console.print(f"{self.checkpoint}: {policy.spec.name}, embodiment {policy.spec.fingerprint}")
            weights = policy.fingerprint if isinstance(policy, Fingerprinted) else ""
            server = PolicyServer(policy, options, name=self.checkpoint.name, checkpoint=weights)

            def ready(host: str, port: int) -> None:
                name = f"[{host}]" if ":" in host else host  # IPv6
                address.append(f"{'wss' if self.certificate else 'ws'}://{name}:{port}")
                known = ", ".join(server.dialects)
                console.print(f"serving at {address[0]} ({known}); health at /healthz, counts at /metrics")

            asyncio.run(_until_signal(server, ready))
        console.print("stopped")
        return {"address": address[0], "answers": server.metrics.answers}


async def _until_signal(server: Any, ready: Any) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await server.run(stop, ready)


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} holds no token, but bytes that are no text") from error
    if not token:
        raise ConfigError(f"{path} holds no token")
    return token
