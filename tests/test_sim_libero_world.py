"""The scene against LIBERO's own environment, which is the oracle here."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from vla.errors import BodyFault, ConfigError, UnknownName
from vla.rotation import axis_angle_of_quaternion
from vla.sim import libero_placement, libero_suites
from vla.sim.libero_world import LiberoWorld

INIT, SEED = 7, 3


@pytest.fixture(scope="module")
def entry():
    return libero_suites.tasks("libero_spatial")[0]


@pytest.fixture(scope="module")
def world(entry):
    made = LiberoWorld(entry.bddl)
    yield made
    made.close()


@pytest.fixture(scope="module")
def stock(entry):
    """LIBERO's environment with pictures, after the protocol of its evaluations."""
    libero_suites.import_libero()
    from libero.libero.envs import OffScreenRenderEnv

    with libero_suites.quiet():
        env = OffScreenRenderEnv(bddl_file_name=str(entry.bddl), camera_heights=128, camera_widths=128)
    yield env, settled(env, entry)
    env.close()


def settled(env, entry):
    """As evaluation scripts begin an episode; the last observation."""
    with libero_suites.quiet():
        env.seed(SEED)
        env.reset()
        observation = env.set_init_state(entry.initial_states()[INIT])
        for _ in range(10):
            observation, *_ = env.step([0] * 6 + [-1])
    return observation


def flat(env) -> np.ndarray:
    return env.env.sim.get_state().flatten()


def test_scene_state_and_pictures_are_the_stock_ones_and_so_is_every_step(stock, world, entry):
    env, observation = stock
    world.reset(entry.initial_states()[INIT], seed=SEED)
    assert np.abs(flat(env)[1:] - world.get_state()[1:]).max() < 1e-9
    assert np.array_equal(env.env.sim.model.body_pos, world.model.body_pos)  # fixtures
    turn = axis_angle_of_quaternion(observation["robot0_eef_quat"])
    state = np.concatenate([observation["robot0_eef_pos"], turn, observation["robot0_gripper_qpos"]])
    assert np.abs(state - world.state()).max() < 1e-4
    for camera in ("agentview", "robot0_eye_in_hand"):
        policies = observation[f"{camera}_image"][::-1, ::-1].astype(int)
        ours = world.render(camera, 128)[:, ::-1]
        assert np.abs(policies - ours).mean() < 6  # decimated and not antialiased
    rng = np.random.default_rng(0)
    for _ in range(30):
        action = rng.uniform(-1, 1, 7)
        with libero_suites.quiet():
            env.env.step(action)
        world.step(action)
        assert np.abs(flat(env)[1:] - world.get_state()[1:]).max() < 1e-6


def test_same_arguments_give_the_same_scene_whatever_ran_before(world, entry):
    state = entry.initial_states()[INIT]
    global_before = global_generator()
    scenes = []
    for _ in range(2):
        world.reset(state, seed=SEED)
        scenes.append(snapshot(world))
        for _ in range(3):  # close the gripper, move, sample another scene
            world.step(np.array([1, -1, -1, 0, 0, 1, 1.0]))
        libero_placement.sample(world, seed=99, widen=2.0)
    assert same(*scenes)
    assert np.array_equal(global_generator(), global_before)
    world.reset(state, seed=SEED + 1)
    assert not same(scenes[0], snapshot(world))  # the seed places the fixtures
    first, second = [], []
    for record in (first, second):
        libero_placement.sample(world, seed=5, widen=2.0)
        record.append(snapshot(world))
        world.reset(state, seed=1)
    assert same(first[0], second[0])


def test_sampled_places_spread_with_the_factor_and_stay_in_reach(world):
    spread = {}
    base = np.asarray(world.env.robots[0].base_pos)[:2]
    for widen in (1.0, 3.0):
        places = []
        for seed in range(6):
            libero_placement.sample(world, seed=seed, widen=widen)
            places.append([world.position(name)[:2] for name in world.objects])
        places = np.array(places)
        spread[widen] = np.ptp(places, axis=0).max()
        assert (np.linalg.norm(places - base, axis=-1) < libero_placement.REACH[1]).all()
        gaps = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1) + 10 * np.eye(len(world.objects))
        assert gaps.min() > 0.06
    assert 0.015 < spread[1.0] < 0.04
    assert spread[3.0] > 2 * spread[1.0]


def test_factor_that_leaves_no_room_is_a_fault_of_this_scene(world, monkeypatch):
    """An evaluation counts it as the row's error and goes on."""
    monkeypatch.setattr(libero_placement, "ATTEMPTS", 4)
    with pytest.raises(BodyFault, match=r"widened by 40.*(reach|slides|topples|close|touches)"):
        libero_placement.sample(world, seed=0, widen=40.0)


def test_substeps_make_a_step_and_hold_keeps_the_pose(world, entry):
    state, action = entry.initial_states()[0], np.array([0.4, 0.1, -0.3, 0, 0, 0.2, -1.0])
    world.reset(state, seed=0)
    world.step(action)
    stepped = world.get_state()
    world.reset(state, seed=0)
    world.set_goal(action)
    for _ in range(round(0.05 / world.substep_seconds)):
        world.substep()
    assert np.array_equal(stepped, world.get_state())
    assert world.time == pytest.approx(0.05)
    world.hold()
    for _ in range(250):
        world.substep()
    held = world.state()
    for _ in range(250):
        world.substep()
    assert np.abs(world.state()[:3] - held[:3]).max() < 2e-3


def test_restored_state_repeats_bit_for_bit(world, entry):
    world.reset(entry.initial_states()[0], seed=0)
    start = world.get_state()
    ends = []
    for _ in range(2):
        world.restore(start)
        for _ in range(5):
            world.step(np.array([0.5, 0.2, -1, 0, 0, 0.3, 1.0]))
        ends.append(world.get_state())
    assert np.array_equal(*ends)


def test_wrong_names_and_states(world):
    with pytest.raises(UnknownName, match="akita_black_bowl_1"):
        world.position("akita_black_bowl")
    with pytest.raises(UnknownName, match="agentview"):
        world.render("agent_view", 16)
    with pytest.raises(ConfigError, match="this scene has 92"):
        world.reset(np.zeros(91), seed=0)


def test_import_is_quiet_and_leaves_nothing_behind(tmp_path):
    code = (
        "import sys\n"
        "from vla.sim.libero import Config\n"
        "assert 'torch' not in sys.modules and 'robosuite' not in sys.modules, 'imported too early'\n"
        "names = Config().make().tasks('libero_spatial')\n"
        "assert len(names) == 10 and 'torch' not in sys.modules\n"
        "import logging\n"
        "assert not [h for h in logging.getLogger('robosuite_logs').handlers if isinstance(h, logging.FileHandler)]\n"
    )
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    assert "robosuite" not in run.stderr
    assert not [path for path in tmp_path.rglob("*") if "libero" in path.name]


def global_generator() -> np.ndarray:
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return state["state"]["key"].copy()


def snapshot(world: LiberoWorld) -> list[np.ndarray]:
    picture = world.render("agentview", 32)
    return [world.get_state(), world.model.body_pos.copy(), world.model.body_quat.copy(), picture]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_is_observed_exactly_is_what_the_stock_environment_shows_bit_for_bit(stock, entry):
    # last of all: where robosuite's environment is reset, its renderer takes the graphics of all others along
    kept, env = LiberoWorld(entry.bddl, render="exact", fused=False), stock[0]
    observation = settled(env, entry)
    kept.reset(entry.initial_states()[INIT], seed=SEED)
    for action in [None, *np.random.default_rng(0).uniform(-1, 1, (4, 7))]:
        if action is not None:
            observation, *_ = env.step(action.tolist())
            kept.step(action)
        turn = axis_angle_of_quaternion(observation["robot0_eef_quat"])
        state = [*observation["robot0_eef_pos"], *turn, *observation["robot0_gripper_qpos"]]
        np.testing.assert_array_equal(np.array(state, np.float32), kept.state())
        for camera in ("agentview", "robot0_eye_in_hand"):
            assert np.array_equal(observation[f"{camera}_image"][::-1, ::-1], kept.render(camera, 128)[:, ::-1])
    kept.env.timestep, before = 1500, kept.time  # LIBERO itself stops at 1,000
    kept.step(np.zeros(7))
    kept.step(np.zeros(7))
    assert kept.time - before == pytest.approx(0.1)
    kept.close()
    kept.close()
