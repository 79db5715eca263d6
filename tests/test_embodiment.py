import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.embodiment import ActionSpec, CameraSpec, Channel, EmbodimentSpec, Gripper
from vla.embodiments.bridge_widowx import bridge_widowx
from vla.embodiments.libero_panda import ACTION, RAW_ACTION, libero_panda
from vla.errors import ConfigError, UnknownName

SPECS = [libero_panda(), libero_panda(128), bridge_widowx(("image_0", "image_3"), 64, 64)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_json_brings_back_an_equal_spec(spec):
    assert EmbodimentSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_fingerprint_follows_every_field():
    spec = libero_panda()
    changed = [
        replace(spec, name="other"),
        replace(spec, action=replace(spec.action, rotation="euler_xyz")),
        replace(spec, action=replace(spec.action, gripper=Gripper(1.0, 0.0))),
        replace(spec, action=replace(spec.action, rate=10.0)),
        replace(spec, cameras=spec.cameras[::-1]),
        replace(spec, state=(replace(spec.state[0], unit="1"), *spec.state[1:])),
        libero_panda(128),
    ]
    prints = {spec.fingerprint, *(other.fingerprint for other in changed)}
    assert len(prints) == len(changed) + 1
    assert libero_panda().fingerprint == spec.fingerprint


@given(st.permutations(["drx", "dry", "drz", "gripper"]))
def test_a_rotation_torn_apart_is_refused(order):
    kinds = {"gripper": "gripper"}
    channels = tuple(Channel(name, "1", kinds.get(name, "rotation")) for name in order)  # pyright: ignore
    make = lambda: ActionSpec(channels, "delta", "base", "axis_angle", Gripper(), 10.0)  # noqa: E731
    if order[0] == "gripper" or order[-1] == "gripper":
        assert make().size == 4
    else:
        with pytest.raises(ConfigError, match="side by side"):
            make()


def test_rotation_numbers_need_their_form():
    with pytest.raises(ConfigError, match="rotation form"):
        replace(ACTION, rotation=None)
    with pytest.raises(ConfigError, match="takes 6 channels"):
        replace(ACTION, rotation="rot6d")


def test_a_gripper_says_what_its_numbers_mean():
    with pytest.raises(ConfigError, match="gripper"):
        replace(ACTION, gripper=None)
    with pytest.raises(ConfigError, match="cannot move"):
        Gripper(1.0, 1.0)


def test_names_are_unique_and_limits_ordered():
    spec = libero_panda()
    with pytest.raises(ConfigError, match="agentview"):
        replace(spec, cameras=(CameraSpec("agentview", 8, 8), CameraSpec("agentview", 9, 9)))
    with pytest.raises(ConfigError, match="more than once: x"):
        replace(spec, state=(*spec.state, Channel("x")))
    with pytest.raises(ConfigError, match="not below"):
        Channel("x", low=1.0, high=0.0)


def test_an_unknown_camera_is_answered_with_the_closest():
    with pytest.raises(UnknownName, match="closest: agentview"):
        libero_panda().camera("agent_view")


def test_from_json_names_what_does_not_fit():
    value = libero_panda().to_json()
    del value["action"]
    with pytest.raises(ConfigError, match="action"):
        EmbodimentSpec.from_json(value)


def test_raw_and_canonical_libero_actions_mean_the_same_limits():
    for raw, canonical in zip(RAW_ACTION.channels, ACTION.channels, strict=True):
        assert (raw.name, raw.unit, raw.kind) == (canonical.name, canonical.unit, canonical.kind)
        if raw.kind != "gripper":
            assert raw.scale == canonical.high == raw.high
