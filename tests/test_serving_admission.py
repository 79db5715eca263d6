"""Whom a server lets in, how many at a time, and where it listens."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import time
from typing import Any

import numpy as np
import pytest
from served import NATIVE, RESET, Client, Known, KnownTogether, get, observation, served
from websockets.exceptions import InvalidStatus

from vla.errors import ConfigError
from vla.serving import PolicyServer
from vla.serving_options import ServerOptions


def test_a_handshake_that_never_comes_is_ended():
    with served(KnownTogether(), handshake_s=0.3) as server:
        host, port = server.address.removeprefix("ws://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as silent:
            assert silent.recv(1) == b""
        assert get(server, "/healthz") == (200, "OK\n")


def test_the_token_is_asked_for_before_anything_is_read():
    with served(KnownTogether(), token="open sesame") as server:
        for headers in ({}, {"Authorization": "Api-Key open sesam"}, {"Authorization": "Basic open sesame"}):
            with pytest.raises(InvalidStatus) as refused:
                Client(server, additional_headers=headers)
            assert refused.value.response.status_code == 401
            assert get(server, "/metrics", **headers)[0] == 401
        for kind in ("Api-Key", "Bearer"):
            with Client(server, additional_headers={"Authorization": f"{kind} open sesame"}) as client:
                assert client.ask(RESET) == {"reset": True}
        assert get(server, "/healthz") == (200, "OK\n")
        status, text = get(server, "/metrics", Authorization="Bearer open sesame")
        assert status == 200 and 'vla_refused_total{why="token"} 6.0' in text


def test_no_web_page_may_connect():
    with served(KnownTogether()) as server, pytest.raises(InvalidStatus) as refused:
        Client(server, origin="http://example.org")
    assert refused.value.response.status_code == 403


def test_beyond_this_machine_a_token_is_needed():
    with pytest.raises(ConfigError, match="set a token"):
        ServerOptions(host="0.0.0.0")
    with pytest.raises(ConfigError, match="set a token"):
        ServerOptions(host="my-host")
    assert ServerOptions(host="0.0.0.0", token="12345678").host == ServerOptions(host="0.0.0.0", open_to_all=True).host
    wrongs: list[Any] = [
        {"port": -1},
        {"token": "short"},
        {"token": "pässword"},
        {"token": "two\nlines"},
        {"key": "k.pem"},
        {"idle_s": 0.0},
        {"max_clients": 0},
    ]
    for wrong in wrongs:
        with pytest.raises(ConfigError):
            ServerOptions(**wrong)


def test_tls(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: no certificate to test with")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made.split(), *names], check=True, capture_output=True)
    with served(KnownTogether(), certificate=certificate, key=key) as server:
        server.address = server.address.replace("ws:", "wss:")
        with Client(server, ssl=ssl.create_default_context(cafile=str(certificate))) as client:
            assert client.ask(RESET) == {"reset": True}
        with pytest.raises(ssl.SSLError):
            Client(server)
    key.write_text("none")
    with pytest.raises(ConfigError, match=r"k\.pem"):
        ServerOptions(certificate=certificate, key=key).tls()


@pytest.mark.parametrize(("kind", "options"), [(Known, {}), (KnownTogether, {"max_batch": 1})])
def test_a_policy_with_an_episode_of_its_own_has_one_client(kind, options):
    with served(kind(), **options) as server:
        with Client(server) as client:
            assert client.ask(RESET) == {"reset": True}
            with pytest.raises(InvalidStatus) as refused:
                Client(server)
            assert refused.value.response.status_code == 503
            local = Known()
            local.reset("go", seed=3)
            for _ in range(2):
                answer = client.ask(NATIVE.message(observation()))
                assert np.array_equal(answer["actions"], local.act(observation()).actions)
        while "vla_clients 0.0" not in get(server, "/metrics")[1]:
            time.sleep(0.01)
        with Client(server) as client:  # the next one begins anew
            local.reset("", seed=0)
            answer = client.ask(NATIVE.message(observation()))
            assert np.array_equal(answer["actions"], local.act(observation()).actions)


def test_places_are_counted():
    with served(KnownTogether(), max_clients=1) as server, Client(server):
        with pytest.raises(InvalidStatus):
            Client(server)
        assert 'vla_refused_total{why="full"} 1.0' in get(server, "/metrics")[1]


def test_a_taken_address_is_one_clear_error():
    with served(KnownTogether()) as server:
        port = int(server.address.rsplit(":", 1)[1])
        policy: Any = KnownTogether()
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            asyncio.run(PolicyServer(policy, ServerOptions(port=port)).run(asyncio.Event()))
