"""``vla rollout`` of a policy behind a server: an address as people type it, an arm that needs no simulator."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from served import SPEC as SLIDER
from served import KnownTogether, observation, served

from vla.commands import rollout
from vla.embodiments.libero_panda import libero_panda

SPEC = libero_panda(32)


class Steady:
    """An arm that stays where it is, and its task."""

    spec, instruction, max_steps = SPEC, "reach", 3

    def __init__(self):
        self.commands: list[np.ndarray] = []

    def observe(self, *, images: bool = True):
        return observation(spec=SPEC, instruction=self.instruction, time=len(self.commands) / SPEC.action.rate)

    def command(self, action):
        self.commands.append(action)
        return action

    def stop(self):
        """It stands still."""

    def close(self):
        """Nothing to give back."""

    def task(self, scene):
        return self

    def reset(self):
        """Its scene is always set."""

    def succeeded(self):
        return False

    def telemetry(self):
        return {}


@pytest.mark.parametrize("chunking", ["synchronous", "asynchronous"])
def test_a_server_s_policy_moves_the_arm(vla, tmp_path, monkeypatch, chunking):
    arm, scenes = Steady(), []

    @contextlib.contextmanager
    def connected(row: Any, config: Any, out: Any):
        out.mkdir()
        scenes.append(config.camera_size)
        yield arm, 0

    monkeypatch.setattr(rollout, "_arm", connected)
    options = ["--tasks", 0, "--inits", 1, "--execute", 2, "--recordings", 0, "--unsafe", "--chunking", chunking]
    with served(KnownTogether(spec=SPEC), max_clients=1) as server:
        for name in ("one", "two"):  # the server's only place is free again after the first
            code, out, err = vla("--json", "rollout", server.address, "--out", tmp_path / name, *options)
            assert code == 0, err
            total = json.loads(out.splitlines()[-1])["total"]
            assert (total["n"], total["errors"]) == (1, 0), err
    assert scenes == [32, 32] and len(arm.commands) == 6
    assert np.ptp(arm.commands, axis=0).max() > 0


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        (SLIDER, [], "SpecMismatch"),
        (SPEC, ["--chunking", "realtime"], "can continue a chunk"),
        (SPEC, ["--execute", 0], "at least one action"),
        (SPEC, ["--ode-steps", 3], "no option ode_steps"),
    ],
    ids=["another arm", "realtime", "execute", "an option of the model"],
)
def test_what_does_not_fit_leaves_nothing_behind(vla, tmp_path, spec, options, said):
    with served(KnownTogether(spec=spec)) as server:
        code, _, err = vla("rollout", server.address, "--out", tmp_path / "out", "--tasks", 0, *options)
    assert code == 2 and said in err
    assert not (tmp_path / "out").exists()
