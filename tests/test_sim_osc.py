"""Our controller against robosuite's own, on the same states: torques, controls and whole episodes bit for bit."""

from typing import Any

import numpy as np
import pytest

from vla.errors import ConfigError
from vla.sim import libero_suites
from vla.sim.libero_world import LiberoWorld
from vla.sim.osc import OscPose

TASKS = [("libero_spatial", 0), ("libero_object", 0), ("libero_goal", 0)]


@pytest.fixture(scope="module", params=TASKS, ids=lambda task: f"{task[0]}-{task[1]}")
def world(request):
    suite, number = request.param
    entry = libero_suites.tasks(suite)[number]
    made = LiberoWorld(entry.bddl)
    made.reset(entry.initial_states()[0], seed=number)
    yield made
    made.close()


def robosuite_step(world: LiberoWorld, action: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """One control period under robosuite's own controller, between the halves of MuJoCo's step."""
    monkeypatch.setattr(world.env.sim, "forward", lambda: None, raising=False)  # mj_step1 has done it
    for substep in range(25):
        world._mujoco.mj_step1(world.model, world.data)
        world.env.robots[0].control(np.clip(action, -1, 1), policy_step=substep == 0)
        world._mujoco.mj_step2(world.model, world.data)
    monkeypatch.undo()


def episode(seed: int, steps: int) -> np.ndarray:
    """Down into the scene and along the table with changing grip; some actions out of range, some without rotation."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (steps, 7))
    actions[: steps // 2, 2] = -1.3  # press on what is there
    actions[::3, 3:6] = 0
    actions[:, 6] = np.repeat(rng.choice([-1.0, 0.0, 1.0], -(-steps // 5)), 5)[:steps]
    return actions


def test_an_episode_with_contacts_is_robosuites_bit_for_bit(world, monkeypatch):
    start = world.get_state()
    ends, touched = [], 0
    for ours in (True, False):
        world.restore(start)
        states = []
        for action in episode(1, 60):
            if ours:
                world.step(action)
            else:
                robosuite_step(world, action, monkeypatch)
            states.append([*world.get_state(), *world.data.ctrl])
            touched += int(touches_arm(world))
        ends.append(np.array(states))
    assert touched > 0
    assert np.array_equal(*ends)


def test_after_a_reset_too(world, monkeypatch):
    """There the first goal and the first joint positions are those of LIBERO's reset, not of the state that was set."""
    moved = world.get_state()
    moved[1:8] += 0.02
    ends = []
    for ours in (True, False):
        world.reset_fixtures(5)
        world.set_state(moved)
        for _ in range(3):
            world.step(np.zeros(7)) if ours else robosuite_step(world, np.zeros(7), monkeypatch)
        ends.append(world.get_state())
    assert np.array_equal(*ends)


def test_torques_satisfy_the_formula(world):
    """Written out in plain NumPy, in double precision throughout: an oracle without robosuite's kernels."""
    world.restore(world.get_state())
    control = world._control
    for action in episode(2, 10):
        world.step(action)
        world._mujoco.mj_step1(world.model, world.data)
        got, expected = control.torques(), formula(world, control)
        assert np.abs(got - expected).max() < 1e-8 * np.abs(expected).max()


def test_braking_stops_the_joints_and_a_goal_ends_it(world):
    world.restore(world.get_state())
    for _ in range(6):
        world.step(np.array([0, 0.8, 0.5, 0, 0, 0, -1.0]))
    arm = world._control._speeds
    assert np.abs(world.data.qvel[arm]).max() > 0.1
    world.brake()
    for _ in range(150):
        world.substep()
    assert np.abs(world.data.qvel[arm]).max() < 1e-2
    before = world.state()
    world.step(np.array([0, 0, 1.0, 0, 0, 0, -1.0]))
    assert world.state()[2] > before[2] + 2e-3


def test_what_the_controller_does_not_cover_is_refused(world):
    robot = world.env.robots[0]

    def made() -> OscPose:
        return OscPose(world._mujoco, world.model, world.data, robot)

    made()
    for name, value in (("position_limits", np.ones((2, 3))), ("impedance_mode", "variable"), ("use_delta", False)):
        kept = getattr(robot.controller, name)
        setattr(robot.controller, name, value)
        with pytest.raises(ConfigError, match=name):
            made()
        setattr(robot.controller, name, kept)
    kept, robot.gripper = robot.gripper, object()
    with pytest.raises(ConfigError, match="PandaGripper"):
        made()
    robot.gripper = kept


def touches_arm(world: LiberoWorld) -> bool:
    """Whether a finger touches anything but the other one."""
    geoms = [world.data.contact[number].geom for number in range(world.data.ncon)]
    names = [[world.model.body(world.model.geom_bodyid[geom]).name for geom in pair] for pair in geoms]
    return any(sum("gripper0" in name for name in pair) == 1 for pair in names)


def formula(world: LiberoWorld, control: Any) -> np.ndarray:
    data, arm = world.data, slice(0, 7)
    mass = np.zeros((world.model.nv, world.model.nv))
    world._mujoco.mj_fullM(world.model, mass, data.qM)
    mass = mass[arm, arm]
    jacobian = np.zeros((6, world.model.nv))
    world._mujoco.mj_jacSite(world.model, data, jacobian[:3], jacobian[3:], world._grip_site)
    rotation = data.site_xmat[world._grip_site].reshape(3, 3)
    turn = 0.5 * np.cross(rotation, control._goal_rotation, axis=0).sum(axis=1)
    error = np.concatenate([control._goal_position - data.site_xpos[world._grip_site], turn])
    wanted = 150 * error - 2 * np.sqrt(150) * jacobian @ data.qvel
    jacobian = jacobian[:, arm]
    mobility = jacobian @ np.linalg.solve(mass, jacobian.T)
    wrench = np.concatenate([np.linalg.solve(mobility[s, s], wanted[s]) for s in (slice(0, 3), slice(3, 6))])
    pose = mass @ (10 * (control._first - data.qpos[arm]) - 2 * np.sqrt(10) * data.qvel[arm])
    null = pose - jacobian.T @ np.linalg.solve(mobility, jacobian @ np.linalg.solve(mass, pose))
    return jacobian.T @ wrench + data.qfrc_bias[arm] + null
