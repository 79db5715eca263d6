"""The peer of ``serving.py``: openpi's own websocket server, run by the interpreter of an environment of its own.

It serves a policy that sleeps for so many seconds and prints its port. Nothing of ours is imported.
"""

import socket
import sys
import time
from typing import Any

import numpy as np
from openpi_client.base_policy import BasePolicy  # pyright: ignore[reportMissingImports]
from openpi_server import WebsocketPolicyServer  # pyright: ignore[reportMissingImports]


class Sleeper(BasePolicy):
    """Takes a fixed time."""

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        """A chunk of zeros."""
        time.sleep(float(sys.argv[1]))
        return {"actions": np.zeros((16, 7), np.float32)}

    def reset(self) -> None:
        """Nothing to forget."""


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    print(port, flush=True)
    WebsocketPolicyServer(Sleeper(), "127.0.0.1", port).serve_forever()
