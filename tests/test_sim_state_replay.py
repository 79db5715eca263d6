"""Recorded states against what was seen live: the expert's own episodes, and the real files."""

import re
from typing import Any

import h5py
import numpy as np
import pytest

from vla.errors import DataError
from vla.rows import Row
from vla.sim import libero_suites
from vla.sim.expert.record import NONE, record
from vla.sim.libero import Config
from vla.sim.model_assets import installed, missing_assets, with_installed_assets
from vla.sim.state_replay import CAMERAS, StateReplay

SIZE = 64


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-9)))


@pytest.fixture(scope="module")
def live():
    """An episode of the expert, the simulator's state at each of its observations, and the model."""
    benchmark = Config(camera_size=SIZE).make()
    body, task = benchmark.open(Row("libero_spatial", libero_suites.tasks("libero_spatial")[0].name, 0, seed=2))
    states, observe = [], body.observe

    def observed(*, images: bool = True) -> Any:
        states.append(body.world.get_state())
        return observe(images=images)

    body.observe = observed  # type: ignore[method-assign]
    episode = record(body, task, NONE)
    xml = body.world.env.sim.model.get_xml()
    benchmark.close()
    assert episode is not None
    return episode, np.array(states), xml


def test_replayed_states_are_what_was_seen_live(live):
    """Not bit for bit: the model's XML has six digits, and a rounded edge pixel takes another colour."""
    episode, states, xml = live
    replay = StateReplay(xml, "test")
    replay.check(states)
    ratios: dict[str, list[float]] = {name: [] for name in CAMERAS}
    for step in range(0, len(states), 4):
        replay.set_state(states[step], lag=step > 0)
        np.testing.assert_allclose(replay.state(), episode.state[step], atol=2e-6)
        for name, found in ratios.items():
            found.append(psnr(replay.picture(name, SIZE), episode.images[name][step]))
    replay.close()
    for name, found in ratios.items():
        assert min(found) > 40 and np.median(found) > 60, f"{name}: {min(found):.1f} {np.median(found):.1f} dB"


def test_states_that_do_not_fit_the_model_are_refused(live):
    _, states, xml = live
    replay = StateReplay(xml, "a.hdf5[demo_0]")
    with pytest.raises(DataError, match=r"a\.hdf5\[demo_0\]: states: expected"):
        replay.check(states[:, :-1])
    replay.close()


def stove(joint: float) -> np.ndarray:
    xml = """<mujoco><worldbody><light pos="0 0 3"/>
    <camera name="agentview" pos="0 0 1"/><camera name="robot0_eye_in_hand" pos="0 0 1"/>
    <body name="robot0_right_hand"><geom size="0.01" group="1" pos="1 1 0"/><site name="gripper0_grip_site" size="1"/>
      <body><joint name="gripper0_finger_joint1" type="slide"/><geom size="0.01" pos="1 1 0"/></body>
      <body><joint name="gripper0_finger_joint2" type="slide"/><geom size="0.01" pos="1 1 0"/></body></body>
    <body name="stove_1_main"><geom size="0.01" pos="1 1 0"/>
      <site name="stove_1_burner" type="cylinder" size="0.2 0.001" rgba="1 0 0 1"/>
      <body><joint name="stove_1_button" type="hinge"/><geom size="0.01" pos="1 1 0"/></body></body>
    </worldbody></mujoco>"""
    replay = StateReplay(xml, "test")
    replay.set_state(np.array([0, 0, 0, joint, 0, 0, 0], dtype=float), lag=False)
    picture = replay.picture("agentview", 32)
    replay.close()
    return picture


def test_a_burner_is_lit_when_its_button_is_turned_and_no_other_mark_is_drawn():
    assert stove(0.4).max() == 0  # the grip site is a ball of 1 m about the camera's target
    lit = stove(0.6)
    assert (lit[..., 0].astype(int) - lit[..., 2] > 50).sum() > 10


def test_only_the_installed_packages_assets_are_opened():
    found = installed("/home/somebody/robosuite-dev/robosuite/models/assets/arenas/../textures/wood-tiles.png")
    assert found is not None and found.is_file() and "somebody" not in str(found)
    assert installed("/any/LIBERO/libero/libero/assets/textures/ceramic.png") is not None
    for elsewhere in ("/etc/passwd", "/x/assets/textures/ceramic.png", "/x/robosuite/models/assets/../../../macros.py"):
        assert installed(elsewhere) is None
    mesh = '<mujoco><asset><mesh name="a" file="/x/libero/assets/gone.obj"/></asset></mujoco>'
    assert missing_assets(mesh, "x") == ("/x/libero/assets/gone.obj",)
    with pytest.raises(DataError, match=r"found others: /x/libero/assets/gone\.obj"):
        with_installed_assets(mesh, "x")


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE a [<!ENTITY b "c">]><mujoco>&b;</mujoco>',
        '<mujoco><include file="/etc/passwd"/></mujoco>',
        "<mujoco>",
        "<mujoco><worldbody><body><joint/></body></worldbody></mujoco>",
        "<mujoco/>",
    ],
)
def test_a_model_that_is_none_is_refused(xml):
    with pytest.raises(DataError, match="model_file"):
        StateReplay(xml, "x")


def test_of_the_real_files_one_lacks_a_mesh_and_nothing_else(shared_data):
    missing = {}
    for path in sorted((shared_data / "libero_teleop_hdf5").glob("*.hdf5")):
        with h5py.File(path) as file:
            model: Any = file["data/demo_1"].attrs["model_file"]
        missing[path.stem] = [re.sub(r".*/assets/", "", name) for name in missing_assets(model, path.stem)]
    assert missing.pop("kitchen_bowl_and_knife_demo_0") == ["custom_objects/task2/spoon_bowl_concave.obj"]
    assert len(missing) == 6 and not any(missing.values())


def test_the_real_robosuite_file_shows_its_cube_grasped_and_lifted(shared_data):
    """At the file's last state the hand holds the cube, 4 cm wide, higher than the table."""
    with h5py.File(shared_data / "robosuite_lift_hdf5" / "demo.hdf5") as file:
        demo: Any = file["data/demo_1"]
        model, states, actions = demo.attrs["model_file"], demo["states"][()], demo["actions"][()]
    replay = StateReplay(model, "lift")
    replay.check(states)
    heights, openings = [], []
    for state in states[[0, len(states) // 2, -1]]:
        replay.set_state(state)
        heights.append(float(replay.data.body("cube_main").xpos[2]))
        openings.append(float(np.ptp(replay.state()[6:])))
    assert actions[-1, 6] == 1 and openings[1] > 0.07 and openings[2] == pytest.approx(0.042, abs=0.003)
    assert heights[2] > heights[0] + 0.01
    picture = replay.picture("agentview", SIZE)
    reds = (picture[..., 0].astype(int) - picture[..., 1] > 60).sum()
    greens = (picture[..., 1].astype(int) - picture[..., 0] > 60).sum()
    assert reds > 3 and greens == 0  # the ray that the person steering saw is not in the picture
    replay.close()
