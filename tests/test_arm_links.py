"""A drawn arm stands as the simulated one does."""

import numpy as np
import pytest

from vla.arm_links import CHAINS, PANDA, chain_points, skeleton
from vla.embodiment import Channel, EmbodimentSpec
from vla.embodiments.libero_panda import ACTION, libero_panda
from vla.sim.rendering.mujoco_binding import load


@pytest.mark.parametrize("seed", range(3))
def test_the_panda_s_joints_are_where_mujoco_has_them(seed):
    from robosuite.models.robots import Panda

    mujoco = load()
    model = mujoco.MjModel.from_xml_string(Panda().get_xml())
    data = mujoco.MjData(model)
    data.qpos[:7] = np.random.default_rng(seed).uniform(-1.5, 1.5, 7)
    mujoco.mj_kinematics(model, data)
    base = data.body("robot0_link0").xpos
    found = chain_points(PANDA, data.qpos[:7])
    for place in range(1, 8):
        np.testing.assert_allclose(found[place], data.body(f"robot0_link{place}").xpos - base, atol=1e-6)


def test_only_an_arm_whose_joints_are_measured_is_drawn():
    joints = tuple(Channel(f"q{place}", "rad", "joint", scale=0.5) for place in range(7))
    spec = EmbodimentSpec("panda_arm", (Channel("x", "m", "position"), *joints), None, ACTION, ())
    assert set(CHAINS) == {"panda_arm"}
    draw = skeleton(spec)
    assert draw is not None
    state = np.array([9.0, 0.2, 0.4, 0, -1, 0, 1, 0], np.float32)
    np.testing.assert_allclose(draw(state), chain_points(PANDA, state[1:].astype(np.float64) / 2), atol=1e-6)
    assert skeleton(libero_panda()) is None
