import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vla.sim import libero_suites
from vla.sim.libero import Config
from vla.sim.libero_gym import LiberoEnv


@pytest.fixture(scope="module")
def env():
    task = libero_suites.tasks("libero_spatial")[0].name
    made = LiberoEnv("libero_spatial", task, Config(camera_size=32, max_steps=3), render_mode="rgb_array")
    yield made
    made.close()


def test_gymnasium_finds_no_fault(env):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises against unbounded state spaces
        check_env(env, skip_render_check=True)
    assert env.render().shape == (32, 32, 3)


def test_the_seed_decides_the_scene_and_the_limit_truncates(env):
    first, info = env.reset(seed=4, options={"widen": 2.0})
    assert info["row"]["seed"] == 4
    again, _ = env.reset(seed=4, options={"widen": 2.0})
    assert all(np.array_equal(first[name], again[name]) for name in first)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    other, info = env.reset(seed=4, options={"init": 3})
    assert info["row"]["init"] == 3
    assert not np.array_equal(first["state"], other["state"])
