"""The command that serves: until Ctrl-C, with one JSON summary; and which policy an argument means."""

import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import KnownTogether, served
from test_policies_vla_policy import ARM, OBSERVATION, write

from vla.asynchronous import Asynchronous
from vla.chunking import Ensemble, Latest, Synchronous
from vla.commands.named_policy import NamedPolicy
from vla.commands.policy_choice import executor, policy_config
from vla.errors import ConfigError
from vla.policies import lerobot_policy, remote, vla_policy
from vla.policies.remote import TOKEN_VARIABLE
from vla.transforms import connect


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("run") / "one", ARM)


def test_serve_until_ctrl_c(vla, checkpoint):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    answers = []

    def client():
        try:
            policy = remote.Config(f"ws://127.0.0.1:{port}", connect_timeout=60.0, timeout=60.0).make()
            policy.reset("reach", seed=4)
            answers.append((policy.spec, policy.fingerprint, policy.act(OBSERVATION).actions))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=client)
    thread.start()
    code, out, _ = vla("--json", "serve", checkpoint, "--port", port, "--ode-steps", 2)
    thread.join()
    assert code == 0 and json.loads(out.splitlines()[-1]) == {"address": f"ws://127.0.0.1:{port}", "answers": 1}
    ((spec, fingerprint, actions),) = answers
    local = vla_policy.Config(checkpoint, ode_steps=2).make()
    local.reset("reach", seed=4)
    assert (spec, fingerprint) == (local.spec, local.fingerprint)
    assert np.allclose(actions, local.act(OBSERVATION).actions, atol=1e-5)


def test_what_cannot_be_served_is_one_error(vla, checkpoint, tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    code, _, said = vla("serve", checkpoint, "--host", "0.0.0.0")
    assert code == 2 and "set a token" in said
    (tmp_path / "token").write_text("\n")
    code, _, said = vla("serve", checkpoint, "--token-file", tmp_path / "token")
    assert code == 2 and "holds no token" in said
    code, _, said = vla("serve", tmp_path)
    assert code == 2 and "checkpoint" in said
    code, _, said = vla("serve", checkpoint, "--certificate", tmp_path / "token", "--key", tmp_path / "none")
    assert code == 2 and "TLS" in said


def test_where_a_policy_is_says_what_it_is(checkpoint, tmp_path):
    for address in ("ws://there:8000", Path("ws://there:8000"), "wss://there:8000"):
        found = policy_config(address)
        assert isinstance(found, remote.Config)
        assert found.address == str(address).replace(":/t", "://t")
    assert policy_config(checkpoint, ode_steps=None) == vla_policy.Config(checkpoint)
    assert policy_config(checkpoint, ode_steps=3, threads=1) == vla_policy.Config(checkpoint, ode_steps=3, threads=1)
    (tmp_path / "policy_preprocessor.json").write_text("{}")
    assert policy_config(tmp_path, threads=2) == lerobot_policy.Config(tmp_path, threads=2)
    assert policy_config("hold", threads=1) == NamedPolicy("hold")
    wrong: list[tuple[Any, dict[str, Any]]] = [
        ("hold", {"embodiment": "arm"}),
        ("ws://there:1", {"ode_steps": 3}),
        ("ws://there:1", {"embodiment": "arm"}),
        (tmp_path, {"ode_steps": 3}),
        (checkpoint, {"features": tmp_path}),
        (checkpoint, {"certificate": tmp_path}),
    ]
    for where, options in wrong:
        with pytest.raises(ConfigError, match=r"option|certificate"):
            policy_config(where, **options)


def test_an_evaluation_takes_a_server_by_the_name_of_its_client():
    with served(KnownTogether()) as server:
        policy = NamedPolicy("remote", (("address", server.address),)).make()
        assert isinstance(policy, remote.RemotePolicy) and policy.spec == KnownTogether.spec
        policy.close()


def test_ways_to_execute_chunks_have_names(checkpoint):
    policy = vla_policy.Config(checkpoint).make()
    adapter = connect(policy.spec, policy.spec)
    made = [executor(name, 3)(policy, adapter) for name in ("synchronous", "asynchronous", "ensemble", "realtime")]
    assert isinstance(made[0], Synchronous) and made[0].execute == 3
    found = [(one.execute, one.continuing, type(one._plan)) for one in made if isinstance(one, Asynchronous)]
    assert found == [(3, False, Latest), (1, False, Ensemble), (3, True, Latest)]
    for one in made:
        one.close()
