"""Where a policy server listens, whom it lets in, and how long it waits."""

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from vla.errors import ConfigError


@dataclass(frozen=True)
class ServerOptions:
    """Settings of :class:`vla.serving.PolicyServer`.

    Attributes:
        host: address to listen on.
        port: 0 for any that is free.
        token: clients must send it as ``Authorization: Api-Key <token>`` (openpi's way) or ``Bearer <token>``.
        certificate: PEM file; together with ``key`` the server speaks TLS (wss).
        key: PEM file.
        open_to_all: listen beyond this machine without a token.
        max_clients: connections beyond are told to come back later.
        max_batch: questions answered together, see :class:`~vla.serving_thread.PolicyThread`; 1 for one client only.
        seed: of the noise of clients that send none.
        handshake_s: for a connection to say what it wants [s].
        message_s: for a message to arrive after its first fragment, and for an answer to be taken [s].
        idle_s: a client that asks nothing for so long is disconnected [s].
        ping_s: unanswered pings end a connection after twice this, also one that trickles a frame [s].

    Raises:
        ConfigError: a setting is out of range, or others could reach the policy without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    open_to_all: bool = False
    max_clients: int = 64
    max_batch: int = 8
    seed: int = 0
    handshake_s: float = 10.0
    message_s: float = 10.0
    idle_s: float = 600.0
    ping_s: float = 20.0

    def __post_init__(self):
        if not 0 <= self.port < 2**16 or self.max_clients < 1 or self.max_batch < 1 or self.seed < 0:
            raise ConfigError("ports are 0 to 65535, clients and batches start at 1, seeds at 0")
        if not all(limit > 0 for limit in (self.handshake_s, self.message_s, self.idle_s, self.ping_s)):
            raise ConfigError("time limits are above 0 s")
        if self.token is not None and (len(self.token) < 8 or not self.token.isascii() or not self.token.isprintable()):
            raise ConfigError("a token has at least 8 characters, printable ASCII: it travels in a header")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("TLS needs both a certificate and its key")
        if not _is_local(self.host) and self.token is None and not self.open_to_all:
            raise ConfigError(f"{self.host} can be reached by others: set a token, or say that it is open to all")

    def tls(self) -> ssl.SSLContext | None:
        """What the certificate and the key say.

        Raises:
            ConfigError: they cannot be used.
        """
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"TLS with {self.certificate} and {self.key}: {error}") from error
        return context


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
