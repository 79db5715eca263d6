"""The server as its clients meet it: answers, errors that name fields, and how it ends."""

import concurrent.futures
import socket
import threading
import time

import numpy as np
import pytest
from served import NATIVE, RESET, SPEC, Client, Known, KnownTogether, get, observation, served
from websockets.exceptions import ConnectionClosed

from vla.embodiment import EmbodimentSpec
from vla.embodiments.libero_panda import libero_panda
from vla.serving import MAX_FRAGMENTS
from vla.wire_openpi import pack


def test_a_client_that_knows_the_format_only():
    with served(KnownTogether(takes=0.02)) as server, Client(server) as client:
        assert client.metadata["fingerprint"] == SPEC.fingerprint and client.metadata["checkpoint"] == "c0ffee"
        assert EmbodimentSpec.from_json(client.metadata["embodiment"]) == SPEC
        local = Known()
        local.reset("", seed=0)
        first, second = (client.ask(NATIVE.message(observation())) for _ in range(2))
        for answer in (first, second):
            assert np.array_equal(answer["actions"], local.act(observation()).actions)
            assert (answer["time"], answer["dt"]) == (1.25, 0.05)
            assert answer["server_timing"]["infer_ms"] >= 20 and answer["server_timing"]["batch"] == 1
        assert "prev_total_ms" not in first["server_timing"]
        assert second["server_timing"]["prev_total_ms"] >= first["server_timing"]["infer_ms"]


def test_openpi_s_libero_client_gets_actions_of_the_environment():
    policy = KnownTogether(spec=libero_panda(32))
    with served(policy) as server, Client(server) as client:
        side = 224
        seen = {"observation/image": np.zeros((side, side, 3), np.uint8), "observation/state": np.zeros(8)}
        assert client.ask(seen) == "FieldError: observation/wrist_image is missing"
        seen |= {"observation/wrist_image": np.zeros((side, side, 3), np.uint8), "prompt": "pick up the bowl"}
        got = client.ask(seen)["actions"]
        local = Known(spec=libero_panda(32))
        local.reset("", seed=0)
        dark = observation(x=0.0, instruction="pick up the bowl", spec=local.spec)
        for image in dark.images.values():
            image[:] = 0
        expected = local.act(dark).actions
        assert np.allclose(got[:, 6], 1 - 2 * expected[:, 6], atol=1e-6)
        assert np.allclose(got[:, 0], expected[:, 0] / 0.05, rtol=1e-6)


def test_errors_of_a_request_leave_the_connection_open():
    with served(KnownTogether()) as server, Client(server) as client:
        good = NATIVE.message(observation())
        wrong = good | {"observation/state": np.zeros(3, np.float32)}
        assert client.ask(wrong) == "FieldError: observation/state: expected float [2], found float32 [3]"
        assert client.ask(NATIVE.message(observation(x=13))).startswith("PolicyFault: the policy returned nan")
        assert client.ask({"reset": 1}).startswith("FieldError: reset")
        assert client.ask({"reset": {"instruction": "go", "seed": -1}}).startswith("FieldError: reset")
        assert client.ask({"reset": {"what": 1}}).startswith("FieldError: reset: unknown field 'what'")
        assert client.ask(RESET) == {"reset": True} and "actions" in client.ask(good)
        assert 'vla_errors_total{kind="FieldError"} 4.0' in get(server, "/metrics")[1]


@pytest.mark.parametrize(
    ("message", "said", "code"),
    [
        (b"\xc1", "WireError: not a message", 1007),
        ("text", "WireError: requests are binary", 1007),
        ({"reset": RESET["reset"] | {"fingerprint": "0" * 16}}, "SpecMismatch: the served policy does not fit", 1008),
        (NATIVE.message(observation(x=14)), "InternalError: ZeroDivisionError", 1011),
    ],
    ids=["malformed", "text", "another embodiment", "a bug"],
)
def test_errors_that_end_the_connection_are_said_first(message, said, code):
    with served(KnownTogether()) as server:
        with Client(server) as client:
            assert client.ask(message).startswith(said)
            assert client.closed() == code
        with Client(server) as client:  # others are served as before
            assert client.ask(RESET) == {"reset": True}


def test_what_is_too_large_is_not_read():
    with served(KnownTogether()) as server, Client(server) as client:
        client.socket.send(bytes(NATIVE.max_bytes + 1))
        assert client.closed() == 1009


def test_a_message_has_an_end():
    def endless(count):
        for _ in range(count):
            yield b""
        time.sleep(0.6)
        yield b"\x80"

    with served(KnownTogether()) as server, Client(server) as client:
        with pytest.raises(ConnectionClosed, match=f"at most {MAX_FRAGMENTS} fragments"):
            client.socket.send(endless(2 * MAX_FRAGMENTS))
            client.socket.recv(timeout=5)
    with served(KnownTogether(), message_s=0.3, idle_s=0.5) as server:
        with Client(server) as client:
            with pytest.raises(ConnectionClosed, match="too slow"):
                client.socket.send(endless(1))
                client.socket.recv(timeout=5)
        with Client(server) as client:
            assert client.closed() == 1008  # asked nothing for too long


def test_a_trickled_frame_is_ended_by_pings():
    with served(KnownTogether(), ping_s=0.2) as server, Client(server) as client:
        client.socket.socket.sendall(b"\x82\xff" + (1000).to_bytes(8) + b"mask")  # announces 1,000 bytes, sends none
        assert client.closed() in (None, 1011)  # with a closing frame, if it comes through


def test_clients_at_once_share_batches_and_none_starves():
    clients, each = 12, 5
    policy = KnownTogether(takes=0.005)
    meet = threading.Barrier(clients)

    def one(number, server):
        with Client(server) as client:
            client.ask({"reset": RESET["reset"] | {"seed": number}})
            meet.wait(20)
            return [client.ask(NATIVE.message(observation()))["actions"] for _ in range(each)]

    with served(policy, max_batch=4) as server, concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(one, range(clients), [server] * clients))
        assert f"vla_answers_total {clients * each}.0" in get(server, "/metrics")[1]
    assert max(policy.batches) == 4 and sum(policy.batches) == clients * each
    for number, given in enumerate(answers):  # each its own noise, whoever else asked
        local = Known()
        local.reset("go", seed=number)
        assert all(np.array_equal(actions, local.act(observation()).actions) for actions in given)


@pytest.mark.parametrize(("wrong", "said"), [(13.0, "PolicyFault"), (14.0, "InternalError")])
def test_one_wrong_question_fails_alone(wrong, said):
    policy = KnownTogether(takes=0.05)
    with served(policy) as server, Client(server) as first, Client(server) as second, Client(server) as third:
        for client, x in ((first, 0.1), (second, wrong), (third, 0.2)):  # the last two wait and are asked together
            client.socket.send(pack(NATIVE.message(observation(x=x))))
        assert "actions" in first.read() and "actions" in third.read()
        assert second.read().startswith(said)


def test_a_client_that_leaves_with_a_question_open_harms_nobody():
    policy = KnownTogether(takes=0.2)
    with served(policy) as server, Client(server) as stays:
        with Client(server) as leaves:
            stays.socket.send(pack(NATIVE.message(observation())))
            leaves.socket.send(pack(NATIVE.message(observation())))
            leaves.socket.socket.shutdown(socket.SHUT_RDWR)
        assert "actions" in stays.read() and "actions" in stays.ask(NATIVE.message(observation()))
        while "vla_clients 1.0" not in get(server, "/metrics")[1]:
            time.sleep(0.01)
        assert "vla_errors_total{" not in get(server, "/metrics")[1]


def test_stopping_answers_what_runs():
    with served(KnownTogether(takes=0.3)) as server, Client(server) as client:
        client.socket.send(pack(NATIVE.message(observation())))
        time.sleep(0.1)
        server.stop()
        assert "actions" in client.read()
        assert client.closed() == 1001


def test_a_policy_that_hangs_does_not_keep_the_server():
    free = threading.Event()

    class Stuck(KnownTogether):
        def act_many(self, queries, size):
            free.wait(60)
            return super().act_many(queries, size)

    with served(Stuck(), message_s=0.3) as server, Client(server) as client:
        client.socket.send(pack(NATIVE.message(observation())))
        time.sleep(0.1)
        server.stop()
        server.thread.join(10)
        assert not server.thread.is_alive() and not free.is_set()
        free.set()
