"""Protocols against the simulator, the installed evaluator and the facts stated of the others."""

import ast
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from vla.errors import UnknownName
from vla.protocol_libero import PROTOCOLS, SUITES, find_protocol, split_suite
from vla.sim import libero, libero_suites, libero_world


def test_ours_is_what_the_simulator_does():
    ours = PROTOCOLS["ours"]
    usual = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
    varied = {"libero_spatial_swap": 220, "libero_10_task": 520, "libero_goal_with_mug": 300, "elsewhere": 400}
    for suite, limit in (usual | varied).items():
        assert ours.limit(suite) == libero_suites.max_steps(suite) == limit
    assert libero.Config().settle_steps == ours.settle_steps
    assert libero_world.SETTLE_ACTION.tolist() == [0] * 6 + [ours.settle_gripper]


def test_every_protocol_can_be_run_and_says_where_it_is_from():
    for name, protocol in PROTOCOLS.items():
        assert name == protocol.name and protocol.source
        assert protocol.settle_gripper == -1.0 and protocol.camera_turn == 180 and protocol.settle_steps == 10
        assert set(protocol.to_json()["max_steps"]) == set(SUITES) and "source" not in protocol.to_json()


def constants(path, *names, inside=None):
    """Values that a module's source gives to names, in it, its classes and its signatures; importing it takes long."""
    found = {}
    tree = ast.parse(path.read_text())
    if inside:
        tree = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == inside)
    for node in ast.walk(tree):
        pairs = []
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            pairs = [(node.target.id, node.value)]
        elif isinstance(node, ast.FunctionDef):
            arguments = node.args.args
            pairs = [(a.arg, v) for a, v in zip(arguments[::-1], node.args.defaults[::-1], strict=False)]
        found |= {name: ast.literal_eval(value) for name, value in pairs if name in names and value}
    return found


def test_lerobots_is_what_the_installed_one_does():
    spec = importlib.util.find_spec("lerobot")
    assert spec and spec.origin
    folder, ours = Path(spec.origin).parent, PROTOCOLS["lerobot"]
    env = constants(folder / "envs" / "libero.py", "TASK_SUITE_MAX_STEPS", "num_steps_wait")
    assert {suite: ours.limit(suite) for suite in SUITES} == env["TASK_SUITE_MAX_STEPS"]
    assert ours.limit("libero_spatial_swap") == 500
    assert env["num_steps_wait"] == ours.settle_steps
    sizes = constants(folder / "envs" / "configs.py", "observation_height", "observation_width", inside="LiberoEnv")
    assert sizes["observation_height"] == sizes["observation_width"] == ours.camera_size
    assert constants(folder / "configs" / "eval.py", "seed")["seed"] == ours.seed


def test_the_public_evaluators_differ_where_they_are_known_to():
    openpi, openvla, oft = (PROTOCOLS[name] for name in ("openpi", "openvla", "openvla-oft"))
    assert (openpi.execute, openpi.seed, openpi.seed_rule) == (5, 7, "fixed")
    assert (openvla.execute, oft.execute, openvla.seed) == (1, 8, 0)
    assert all(p.max_steps == (220, 280, 300, 520, 400) and p.camera_size == 256 for p in (openpi, openvla, oft))
    assert any("224" in line for line in openpi.apart)
    with pytest.raises(UnknownName, match="openpi"):
        find_protocol("openpy")


def test_suites_fall_apart_into_base_and_perturbation():
    assert split_suite("libero_goal") == ("libero_goal", "")
    assert split_suite("libero_object_object") == ("libero_object", "object")
    assert split_suite("libero_10_with_mug") == ("libero_10", "with_mug")
    assert split_suite("libero_100") == ("libero_100", "")
    assert split_suite("points") == ("points", "")


def test_limits_reach_the_episode():
    limits = tuple((suite, PROTOCOLS["lerobot"].limit(suite)) for suite in ("libero_spatial",))
    config = libero.Config(limits=limits)
    assert dict(config.limits) == {"libero_spatial": 280}
    with pytest.raises(Exception, match="at least one step"):
        replace(config, limits=(("libero_spatial", 0),))
