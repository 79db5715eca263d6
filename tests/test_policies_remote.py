"""A served policy gives what the local one gives; whatever breaks in between is one clear error."""

import os
import signal
import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from served import SPEC, Known, KnownTogether, observation, served
from websockets.sync.server import serve

from vla.errors import ConfigError, PolicyFault
from vla.experience import ActionChunk
from vla.policies.remote import TOKEN_VARIABLE, Config, RemotePolicy, ServerLost
from vla.protocols import Policy, Query
from vla.wire_openpi import pack


def quick(address: str, **options) -> RemotePolicy:
    return Config(address, **{"timeout": 5.0, "connect_timeout": 0.5, **options}).make()


def test_it_is_the_policy_behind_the_server():
    with served(KnownTogether()) as server:
        policy, local = quick(server.address), Known()
        assert isinstance(policy, Policy) and policy.spec == SPEC and policy.fingerprint == "c0ffee"
        for seed in (7, 8):
            for one in (policy, local):
                one.reset("go left", seed=seed)
            for x in (0.1, 0.2):
                seen = observation(x=x, instruction="")
                got, expected = policy.act(seen), local.act(seen)
                assert np.array_equal(got.actions, expected.actions)
                assert (got.time, got.dt) == (expected.time, expected.dt)
        assert {"infer_ms", "queue_ms", "batch"} <= set(policy.timing)
        policy.close()


def test_a_checkpoint_served_and_local_agree_bit_for_bit(tmp_path):
    from test_policies_vla_policy import ARM, OBSERVATION, write

    from vla.policies import vla_policy

    config = vla_policy.Config(write(tmp_path / "one", ARM), ode_steps=2)
    local = config.make()
    with served(config.make(), max_batch=1) as server:
        remote = quick(server.address)
        for policy in (local, remote):
            policy.reset(OBSERVATION.instruction, seed=11)
            assert policy.continues
        for _ in range(3):
            first = local.act(OBSERVATION).actions
            assert np.array_equal(remote.act(OBSERVATION).actions, first)
        there, here = (policy.act_continuing(OBSERVATION, first[2:], 3).actions for policy in (remote, local))
        assert np.array_equal(there, here)
        remote.close()
    with served(config.make()) as server:  # shared: as an evaluation would ask it, a query at a time here
        remote = quick(server.address)
        remote.reset(OBSERVATION.instruction, seed=11)
        for number in range(2):
            (expected,) = local.act_many([Query(OBSERVATION, 11, number)], 1)
            assert isinstance(expected, ActionChunk)
            assert np.array_equal(remote.act(OBSERVATION).actions, expected.actions)
        assert not remote.continues
        with pytest.raises(PolicyFault, match="served with a batch of 1"):
            remote.act_continuing(OBSERVATION, first[2:], 3)
        remote.close()


def test_a_policy_that_continues_and_is_never_shared_can_do_so_behind_any_server():
    class Continuing(Known):
        continues = True

        def act_continuing(self, observation, left, delay):
            return replace(self.act(observation), actions=left[:delay])

    with served(Continuing()) as server:
        policy = quick(server.address)
        policy.reset("go", seed=0)
        left = np.ones((3, 2), np.float32)
        assert policy.continues and np.array_equal(policy.act_continuing(observation(), left, 2).actions, left[:2])
        policy.close()


def test_faults_of_the_policy_come_through_and_the_episode_goes_on():
    with served(KnownTogether()) as server:
        policy = quick(server.address)
        policy.reset("go", seed=0)
        with pytest.raises(PolicyFault, match="returned nan"):
            policy.act(observation(x=13))
        assert len(policy.act(observation()).actions) == 3
        policy.close()


def test_nobody_there_is_said_in_time():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    begin = time.monotonic()
    with pytest.raises(ServerLost, match=f"127.0.0.1:{port}"):
        quick(f"ws://127.0.0.1:{port}")
    assert time.monotonic() - begin >= 0.5  # it was tried again meanwhile


def test_a_server_that_hangs_ends_the_episode_not_the_policy():
    slow = KnownTogether(takes=0.0)
    with served(slow) as server:
        policy = quick(server.address, timeout=0.2)
        policy.reset("go", seed=0)
        slow.takes = 0.6
        with pytest.raises(ServerLost, match=r"no answer within 0\.2 s"):
            policy.act(observation())
        with pytest.raises(ServerLost, match="opened again when an episode begins"):
            policy.act(observation())
        slow.takes = 0.0
        time.sleep(0.6)
        policy.reset("go", seed=0)  # the late answer is not taken for this one's
        local = Known()
        local.reset("go", seed=0)
        assert np.array_equal(policy.act(observation()).actions, local.act(observation()).actions)
        policy.close()


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one():
    policy, local = KnownTogether(), Known()
    with served(policy) as server:
        remote = quick(server.address)
        remote.reset("go", seed=0)
        policy.takes = 0.6
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            remote.act(observation())
        policy.takes = 0.0
        for one in (remote, local):
            one.reset("go", seed=0)
        assert np.array_equal(remote.act(observation()).actions, local.act(observation()).actions)
        remote.close()


def test_a_server_that_dies_and_one_that_comes_back():
    with served(KnownTogether()) as server:
        address = server.address
        policy = quick(address)
        policy.reset("go", seed=0)
        server.stop()
        time.sleep(0.2)
        with pytest.raises(ServerLost, match="lost"):
            policy.act(observation())
        with pytest.raises(ServerLost, match="cannot connect"):
            policy.reset("go", seed=0)
    with served(KnownTogether(), port=int(address.rsplit(":", 1)[1])):
        policy.reset("go", seed=0)
        policy.act(observation())
        policy.close()


def test_tokens(monkeypatch):
    with served(KnownTogether(), token="open sesame") as server:
        with pytest.raises(ConfigError, match="a token is needed"):
            quick(server.address, token="open the door")
        assert "sesame" not in repr(Config(server.address, token="open sesame"))
        quick(server.address, token="open sesame").close()
        monkeypatch.setenv(TOKEN_VARIABLE, "open sesame")
        quick(server.address).close()


def test_a_place_that_becomes_free_is_waited_for():
    with served(Known()) as server:
        first = quick(server.address)
        with pytest.raises(ServerLost, match="one client at a time"):
            quick(server.address)
        threading.Timer(0.4, first.close).start()
        quick(server.address, connect_timeout=10.0).close()


@pytest.mark.parametrize(
    ("first", "then", "error", "what"),
    [
        (pack({"protocol": 99}), None, ConfigError, "expected a server of vla serve, protocol 1, found 99"),
        (b"\xc1", None, PolicyFault, "malformed"),
        ("hello", None, ConfigError, "found none"),
        (None, pack({"actions": [1]}), PolicyFault, "no chunk"),
        (None, pack({"actions": np.zeros((2, 5), np.float32), "time": 0.0, "dt": 0.1}), PolicyFault, r"\[2, 5\]"),
        (None, pack({"actions": np.full((2, 2), np.nan, np.float32), "time": 0.0, "dt": 0.1}), PolicyFault, "nan"),
        (None, pack({"actions": np.zeros((2, 2), np.float32), "time": "now", "dt": 0.1}), PolicyFault, "no chunk"),
        (None, b"\xc1", PolicyFault, "malformed"),
        (pack({"protocol": 1, "embodiment": SPEC.to_json()}), None, ConfigError, "does not say its checkpoint"),
        (pack({"protocol": 1, "embodiment": {}, "checkpoint": ""}), None, ConfigError, "embodiment"),
    ],
    ids=["protocol", "noise", "text", "no array", "width", "nan", "time", "noise later", "no checkpoint", "no spec"],
)
def test_servers_that_are_none_of_ours(first, then, error, what):
    ours = {"protocol": 1, "embodiment": SPEC.to_json(), "fingerprint": SPEC.fingerprint, "checkpoint": ""}

    def handle(connection):
        connection.send(first if first is not None else pack(ours))
        for _ in connection:
            connection.send(then)

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(error, match=what):
            policy = quick(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
            policy.act(observation())
        server.shutdown()


@pytest.mark.parametrize(
    ("left", "delay", "what"),
    [
        (np.zeros((2, 5), np.float32), 1, "left: expected finite"),
        (np.zeros((2, 2), np.float64), 1, "left: expected finite"),
        (np.zeros((0, 2), np.float32), 0, "left: expected finite"),
        (np.full((2, 2), np.nan, np.float32), 1, "left: expected finite"),
        (np.zeros((2, 2), np.float32), 3, "delay: expected an integer from 0 to 2"),
        (np.zeros((2, 2), np.float32), 1.0, "delay: expected"),
        (None, 1, "left: expected finite"),
    ],
)
def test_plans_that_do_not_fit(left, delay, what):
    with served(KnownTogether()) as server:
        policy = quick(server.address)
        policy.reset("go", seed=0)
        with pytest.raises(PolicyFault, match=what):
            policy.act_continuing(observation(), left, delay)
        policy.close()


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1"])
def test_what_is_no_address(address):
    with pytest.raises(ConfigError, match="expected ws://"):
        quick(address)
